//! What must hold between settings, beyond each one's own type.

mod upstreams;

use http::Uri;

use crate::{cache::guards::Guard, store::Quantization};

use self::upstreams::{base_url, dialects, upstreams};
use super::{Config, Judge, Span, Store, StoreKind, Trusted};

/// Every violated rule, as (key, message). Also settles what one setting implies for another.
pub(super) fn all(config: &mut Config) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    listen(config, &mut wrong);
    dialects(config, &mut wrong);
    upstreams(&config.upstream, &mut wrong);
    semantic(config, &mut wrong);
    telemetry(config, &mut wrong);
    limits(config, &mut wrong);
    store(&config.store, &mut wrong);
    embed(&config.embed, &mut wrong);
    wrong
}

type Wrong = Vec<(String, String)>;

fn say(wrong: &mut Wrong, key: &str, message: impl Into<String>) {
    wrong.push((key.into(), message.into()));
}

fn listen(config: &mut Config, wrong: &mut Wrong) {
    let tls = &config.tls;
    if tls.self_signed && config.listen.https.is_none() {
        // `--tls-self-signed` alone should do what it says.
        config.listen.https = Some(([127, 0, 0, 1], 8443).into());
    }
    let listen = &config.listen;
    if listen.http.is_none() && listen.https.is_none() && listen.unix.is_none() {
        say(wrong, "listen", "nothing to listen on: set listen.http, listen.https or listen.unix");
    }
    if listen.proxy_protocol && listen.trusted == Trusted::default() {
        say(wrong, "listen.proxy_protocol", "needs listen.trusted: from whom it is believed");
    }
    if listen.https.is_some() && !tls.self_signed && (tls.cert.is_none() || tls.key.is_none()) {
        say(
            wrong,
            "listen.https",
            "needs tls.cert and tls.key (PEM files), or tls.self_signed = true for a first try",
        );
    }
    if tls.self_signed && tls.cert.is_some() {
        say(wrong, "tls.self_signed", "is set beside tls.cert: keep one of them");
    }
    if tls.cert.is_some() != tls.key.is_some() {
        say(wrong, "tls", "tls.cert and tls.key belong together: one of them is not set");
    }
    if tls.client_crl.is_some() && tls.client_ca.is_none() {
        say(wrong, "tls.client_crl", "needs tls.client_ca, whose certificates it revokes");
    }
    if tls.alpn.is_empty() {
        say(wrong, "tls.alpn", "is empty: name \"h2\", \"http/1.1\" or both, best first");
    }
}

fn semantic(config: &Config, wrong: &mut Wrong) {
    let semantic = &config.cache.semantic;
    if !(semantic.min_similarity > 0.0 && semantic.min_similarity <= 1.0) {
        say(
            wrong,
            "cache.semantic.min_similarity",
            "expected a cosine similarity in (0, 1]: higher is stricter, 0.95 is usual",
        );
    }
    if !(semantic.max_wrong_hits > 0.0 && semantic.max_wrong_hits < 1.0) {
        say(wrong, "cache.semantic.max_wrong_hits", "expected a share in (0, 1): 0.01 is 1 %");
    }
    if !(0.0..=1.0).contains(&semantic.audit) {
        say(wrong, "cache.semantic.audit", "expected a share in [0, 1]: 0.02 is 2 %");
    }
    if semantic.neighbours == 0 || semantic.neighbours > 64 {
        say(wrong, "cache.semantic.neighbours", "expected 1 to 64");
    }
    for guard in &semantic.guards {
        if Guard::from_name(guard).is_none() {
            let known = Guard::ALL.map(Guard::name).join("`, `");
            say(wrong, "cache.semantic.guards", format!("unknown guard `{guard}`: `{known}`"));
        }
    }
    judge(&semantic.judge, wrong);
    for (index, template) in config.cache.template.iter().enumerate() {
        if template.after.is_empty() {
            let key = format!("cache.template[{index}].after");
            say(wrong, &key, "is missing: the text before the question, such as \"Question:\"");
        }
    }
    if config.cache.max_temperature.is_nan() || config.cache.max_temperature < 0.0 {
        say(wrong, "cache.max_temperature", "expected a number from 0");
    }
}

fn embed(embed: &super::Embed, wrong: &mut Wrong) {
    if embed.kind == super::EmbedKind::Local {
        return;
    }
    if embed.url.is_empty() {
        say(wrong, "embed.url", "is missing: where the server is, \"http://HOST:PORT\"");
    } else if let Err(message) = base_url(&embed.url) {
        say(wrong, "embed.url", message);
    }
    if embed.timeout.get().is_zero() {
        say(wrong, "embed.timeout", "must be longer than zero");
    }
}

fn judge(judge: &Judge, wrong: &mut Wrong) {
    let key = |field: &str| format!("cache.semantic.judge.{field}");
    let Some(url) = &judge.url else { return };
    if let Err(message) = base_url(url) {
        say(wrong, &key("url"), message);
    }
    if judge.model.is_empty() {
        say(wrong, &key("model"), "is missing: the judge's name at that endpoint");
    }
    // A semaphore has a ceiling of its own.
    if judge.concurrency == 0 || judge.concurrency.max(judge.queue) > 10_000 {
        say(wrong, &key("concurrency"), "expected 1 to 10000, and a queue of at most 10000");
    }
}

fn store(store: &Store, wrong: &mut Wrong) {
    if !store.kind.is_remote() {
        return;
    }
    if store.tenant_bytes.0 > 0 {
        let message = "servers do not list how large answers are: use store.tenant_entries";
        say(wrong, "store.tenant_bytes", message);
    }
    if store.url.is_empty() {
        say(wrong, "store.url", "is missing: where the server is, \"http://HOST:PORT\"");
    } else if let Err(message) = base_url(&store.url) {
        say(wrong, "store.url", message);
    }
    let counts = [
        ("store.in_flight", store.in_flight as u64),
        ("store.replicas", store.replicas.into()),
        ("store.shards", store.shards.into()),
        ("store.write_consistency", store.write_consistency.into()),
    ];
    for (key, value) in counts {
        if value == 0 || value > 4096 {
            say(wrong, key, "expected 1 to 4096");
        }
    }
    if store.quantization == Quantization::Binary && store.kind == StoreKind::Milvus {
        say(
            wrong,
            "store.quantization",
            "Milvus keeps no bits to find candidates by: use \"int8\"",
        );
    }
    if store.timeout.get().is_zero() {
        say(wrong, "store.timeout", "must be longer than zero");
    }
}

fn telemetry(config: &Config, wrong: &mut Wrong) {
    let telemetry = &config.telemetry;
    if let Some(endpoint) = &telemetry.otlp_endpoint {
        let uri: Option<Uri> = endpoint.parse().ok();
        let known = uri.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
        });
        if !known {
            let message = "expected a URL such as \"http://127.0.0.1:4317\"";
            say(wrong, "telemetry.otlp_endpoint", message);
        } else if endpoint.contains(['@', '?']) {
            // It is logged.
            let message = "holds a credential: those belong into telemetry.headers";
            say(wrong, "telemetry.otlp_endpoint", message);
        }
    }
    if !(0.0..=1.0).contains(&telemetry.sample) {
        say(wrong, "telemetry.sample", "expected a share in [0, 1]: 0.05 is 5 %");
    }
    for (model, price) in &config.prices.models {
        if !(price.input >= 0.0 && price.output >= 0.0) {
            let key = format!("prices.models.{model}");
            say(wrong, &key, "expected US dollars per million tokens, from 0");
        }
    }
    for (name, value) in &telemetry.headers {
        let good = http::HeaderName::try_from(name).is_ok()
            && http::HeaderValue::try_from(value.as_str()).is_ok();
        if !good {
            say(wrong, "telemetry.headers", format!("`{name}` or its value cannot be a header"));
        }
    }
}

fn limits(config: &Config, wrong: &mut Wrong) {
    let counts = [
        ("limits.connections", config.limits.connections),
        ("limits.requests", config.limits.requests),
        ("limits.header_count", config.limits.header_count),
        ("embed.queue", config.embed.queue),
        ("embed.max_batch", config.embed.max_batch),
        ("store.queue", config.store.queue),
        ("store.compact_after", config.store.compact_after),
        ("telemetry.queue", config.telemetry.queue),
    ];
    for (key, value) in counts {
        if value == 0 {
            say(wrong, key, "must be at least 1");
        }
    }
    // Semaphores and header maps have ceilings of their own.
    if config.limits.connections > 1_000_000 || config.limits.requests > 1_000_000 {
        say(wrong, "limits", "connections and requests are at most 1000000");
    }
    if config.limits.header_count > 1000 {
        say(wrong, "limits.header_count", "is at most 1000");
    }
    if config.limits.bodies_bytes < config.limits.body_bytes {
        say(wrong, "limits.bodies_bytes", "must not be smaller than limits.body_bytes");
    }
    if config.limits.header_bytes.0 < 8192 {
        say(wrong, "limits.header_bytes", "must be at least 8KiB: real clients need as much");
    }
    if config.cache.max_entry.0 > config.cache.flight_bytes.0 {
        say(wrong, "cache.max_entry", "must not exceed cache.flight_bytes, where it is collected");
    }
    durations(config, wrong);
}

/// Durations that stop the service when they are zero.
fn durations(config: &Config, wrong: &mut Wrong) {
    let never_zero: [(&str, Span); 17] = [
        ("limits.header_time", config.limits.header_time),
        ("limits.handshake_time", config.limits.handshake_time),
        ("limits.body_idle", config.limits.body_idle),
        ("limits.body_time", config.limits.body_time),
        ("limits.write_stall", config.limits.write_stall),
        ("timeouts.connect", config.timeouts.connect),
        ("timeouts.handshake", config.timeouts.handshake),
        ("timeouts.first_byte", config.timeouts.first_byte),
        ("timeouts.first_token", config.timeouts.first_token),
        ("timeouts.idle", config.timeouts.idle),
        ("timeouts.lifetime", config.timeouts.lifetime),
        ("timeouts.tunnel_idle", config.timeouts.tunnel_idle),
        ("timeouts.pool_idle", config.timeouts.pool_idle),
        ("cache.ttl", config.cache.ttl),
        ("cache.semantic.lookup_deadline", config.cache.semantic.lookup_deadline),
        ("cache.semantic.judge.deadline", config.cache.semantic.judge.deadline),
        ("drain.deadline", config.drain.deadline),
    ];
    for (key, value) in never_zero {
        if value.get().is_zero() {
            say(wrong, key, "must be longer than zero");
        }
    }
}
