//! The hot path in instructions, one case a run: `counts CASE ITERATIONS`.
//!
//! `scripts/counts` runs each case under callgrind with two iteration counts; the difference divided
//! by their distance is the cost of one iteration, start-up excluded. Instructions are repeatable on
//! a noisy machine where times are not; `benches/counts.txt` holds the accepted figures.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a program for developers")]

use std::{hint::black_box, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::Body as _;
use reprise::{
    cache::{
        entry::{Entry, now_ms},
        exact::ExactTier,
        flight::log::{Budget, Log},
        guards::{Reading, alone},
        key::{Key, Route},
        pace::Pace,
        readings::Readings,
        verdict::{
            Agreement, AnswerId, Namespace, Neighbour, Settings, Wording,
            first_prior::{DEFAULT_MODEL, first_prior},
        },
    },
    config::{self, Overrides, ScopeRule},
    exchange::Body,
    front::tenant::Tenants,
    observe::{AccessLog, BodyEnd, Observer, Outcome, PriceTable, Promise, Prompts, Stage},
    wire::{Call, Dialect as _, Prompt, Rules, Shape, openai::Chat},
};

const PATH: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"llama-3.1-8b-instruct","messages":[{"role":"system","content":"You are a helpful assistant that answers briefly and politely, in the language of the question."},{"role":"user","content":"What is the capital of France?"},{"role":"assistant","content":"Paris."},{"role":"user","content":"And which river flows through it?"}],"temperature":0.2,"max_tokens":256,"stream":true,"stream_options":{"include_usage":true},"user":"u-17"}"#;
const CHUNK: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"finish_reason\":null}]}\n\n";

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let case = arguments.next().unwrap_or_default();
    let iterations = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1_u32);
    let run: fn(u32) = match case.as_str() {
        "key" => key,
        "exact" => exact,
        "relay" => relay,
        "log" => log,
        "listen" => listen,
        "verdict" => verdict,
        "observe" => observe,
        _ => {
            eprintln!(
                "usage: counts key|exact|relay|log|listen|verdict|observe ITERATIONS (see scripts/counts)"
            );
            return;
        }
    };
    run(iterations);
}

/// Everything that observing costs a streamed miss of 20 pieces whose trace is not kept: id and trace
/// context, twelve stages, five parts, counters, promise, latest requests. Without the access log's
/// line, which `log.access = false` turns off.
fn observe(iterations: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let observer = Observer::new(reprise::observe::Settings {
        prompts: Prompts::Withheld,
        access: AccessLog::Silent,
        reasons: &["no_neighbour"],
        verdicts: &["doubtful"],
        prices: PriceTable::default(),
    })
    .unwrap();
    let set =
        [("REPRISE__TELEMETRY__SAMPLE", "0"), ("REPRISE__TELEMETRY__OTLP_ENDPOINT", "http://h:1")];
    let set = set.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let overrides = Overrides { upstream: Some("http://h:1".into()), ..Overrides::default() };
    let config = config::load(None, &set, &overrides).unwrap();
    let _exporter = observer.start_traces(&config.telemetry).unwrap();
    let route = observer.route("vllm", "openai");
    observer.promise(&route, Promise { budget: Duration::from_secs(1), share: 0.99 });
    let model: Arc<str> = "llama".into();
    for _ in 0..iterations {
        let mut headers = headers();
        let mut record = observer.begin(observer.request_id(&headers));
        record.trace(black_box(&mut headers));
        record.path = PATH.to_owned();
        record.route = Arc::clone(&route);
        record.model = Some(Arc::clone(&model));
        record.shape = Some("stream");
        record.outcome = Outcome::Miss;
        record.reason = Some("no_neighbour");
        record.verdict = Some("doubtful");
        record.similarity = Some(0.8);
        for stage in [Stage::Read, Stage::Key, Stage::Exact, Stage::Embed, Stage::Search] {
            record.stages.lap(stage);
        }
        for stage in [Stage::Verdict, Stage::Queue, Stage::First] {
            record.stages.record(stage, Duration::from_micros(50));
        }
        black_box(record.stages.server_timing());
        record.head(http::StatusCode::OK);
        for _ in 0..20 {
            record.sent(CHUNK.len());
        }
        record.finish(BodyEnd::Complete);
    }
}

fn tenants() -> Tenants {
    Tenants::new(ScopeRule::Credential, [7; 32])
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("Bearer sk-0123456789abcdef"));
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("user-agent", HeaderValue::from_static("OpenAI/Python 3.54.0"));
    headers
}

fn ignored() -> Vec<String> {
    ["stream", "stream_options", "user", "metadata"].map(str::to_owned).into()
}

fn prompt() -> Prompt {
    read(BODY.as_bytes(), &headers(), &ignored())
}

fn read(body: &[u8], headers: &HeaderMap, ignored: &[String]) -> Prompt {
    let rules = Rules { ignored, ..Rules::default() };
    Chat.read(Call { path: PATH, query: "", headers, body, rules }).unwrap()
}

fn key_of(tenants: &Tenants, headers: &HeaderMap, prompt: &Prompt) -> Key {
    let scope = tenants.scope(headers).unwrap();
    let route = Route { upstream: "vllm", dialect: "openai", query: "", vary: &[b"", b"", b""] };
    Key::new(&scope, route, prompt)
}

/// Body bytes to cache key: scope, parse, canonical hash.
fn key(iterations: u32) {
    let (tenants, headers, ignored) = (tenants(), headers(), ignored());
    for _ in 0..iterations {
        let prompt = read(black_box(BODY.as_bytes()), &headers, &ignored);
        black_box(key_of(&tenants, &headers, &prompt));
    }
}

fn entry(key: &Key) -> Arc<Entry> {
    Arc::new(Entry {
        id: key.id,
        fingerprint: key.fingerprint,
        partition: key.partition.clone(),
        tenant: key.tenant.clone(),
        model: "m".into(),
        route: "vllm".into(),
        tags: Vec::new(),
        question: Some("And which river flows through it?".into()),
        shape: Shape::Stream { usage: true },
        content_type: "text/event-stream".into(),
        body: Bytes::from(CHUNK.repeat(20)),
        usage: None,
        upstream_ms: 900,
        pace: Pace::default(),
        generated_ms: now_ms(),
        expires_ms: now_ms() + 3_600_000,
    })
}

/// A hit in the memory tier.
fn exact(iterations: u32) {
    let tier = ExactTier::new(64 << 20, Duration::ZERO);
    let key = key_of(&tenants(), &headers(), &prompt());
    tier.put(entry(&key));
    for _ in 0..iterations {
        black_box(tier.get(black_box(&key)).unwrap());
    }
}

fn frames(mut body: Body) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while let std::task::Poll::Ready(Some(frame)) =
        std::pin::Pin::new(&mut body).poll_frame(&mut context)
    {
        black_box(frame).unwrap();
    }
}

/// Replaying an entry.
fn relay(iterations: u32) {
    let bytes = Bytes::from(CHUNK.repeat(20));
    for _ in 0..iterations {
        frames(Body::whole(black_box(bytes.clone())));
    }
}

/// A 20-chunk answer through a log with one reader.
fn log(iterations: u32) {
    let budget = Budget::new(1 << 30);
    let chunk = Bytes::from_static(CHUNK.as_bytes());
    let context = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..iterations {
        let writer = Log::new(1 << 20, &budget);
        let mut reader = writer.log().reader().unwrap();
        for _ in 0..20 {
            writer.push(chunk.clone());
            black_box(reader.poll_next(&context)).is_ready();
        }
        writer.finish(Ok(None));
    }
}

/// Hearing a 20-chunk stream: framing, JSON, admission.
fn listen(iterations: u32) {
    let chunk = Bytes::from_static(CHUNK.as_bytes());
    for _ in 0..iterations {
        let mut ears = Chat.listener(Shape::Stream { usage: false });
        for _ in 0..20 {
            ears.hear(black_box(&chunk));
        }
        black_box(ears.finish(b"").is_err());
    }
}

/// Reading a question, and the verdict with guards on it beside eight stored ones of four answers,
/// two of which have outcomes of their own.
fn verdict(iterations: u32) {
    const STORED: [&str; 8] = [
        "How do I reset my online banking password?",
        "What is the way to reset my online banking password?",
        "How do I change my online banking password?",
        "How do I reset my card's PIN?",
        "Where can I reset the password of my online banking?",
        "How can I unlock my online banking account?",
        "How do I reset my online banking user name?",
        "My online banking password does not work, how do I reset it?",
    ];
    let readings = Readings::default();
    let near: Vec<Neighbour<'_>> = STORED
        .iter()
        .enumerate()
        .map(|(at, text)| Neighbour {
            answer: AnswerId([0, 0, 1, 2, 0, 3, 1, 0][at]),
            similarity: 0.97 - 0.02 * at as f32,
            text: Wording::Text(text, &readings),
        })
        .collect();
    let mut space = Namespace::new(Settings::default(), first_prior(DEFAULT_MODEL));
    let question = "How can I reset my online banking password?";
    for outcome in 0..32 {
        let decision = space.decide(&Reading::of(question), &near, 0.5);
        let said = if outcome % 9 == 0 { Agreement::Different } else { Agreement::Same };
        space.learn(&decision, &[(AnswerId(0), said), (AnswerId(1), Agreement::Different)]);
    }
    for _ in 0..iterations {
        let reading = Reading::of(black_box(question));
        black_box(alone(&reading));
        black_box(space.decide(&reading, black_box(&near), 0.5));
    }
}
