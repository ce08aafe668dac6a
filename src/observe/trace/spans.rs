//! A finished request as spans.
//!
//! Names and attributes follow OpenTelemetry's semantic conventions for HTTP servers and for
//! generative AI (`gen_ai.*`); what they have no word for is ours (`reprise.*`). The times of the
//! stages were measured; where they lie was not, so they are laid out in the order in which they
//! happen: up to the verdict from the request's beginning on, towards the upstream backwards from
//! the response head. What lies between them no stage claims.

use std::time::{Duration, SystemTime};

use http::Uri;
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::{Finished, context::TraceContext};
use crate::observe::{BodyEnd, Record, Stage, request_id::mix};

/// Before the upstream, in order.
const LOOKUP: [Stage; 6] =
    [Stage::Read, Stage::Key, Stage::Exact, Stage::Embed, Stage::Search, Stage::Verdict];

/// The way to the first byte, in order.
const UPSTREAM: [Stage; 3] = [Stage::Queue, Stage::Connect, Stage::First];

/// The spans of one request, its own first; none where it has no trace.
pub(super) fn of(finished: &Finished, scope: &InstrumentationScope) -> Vec<SpanData> {
    let Finished { record, ended, wrong } = finished;
    let Some(context) = record.trace else { return Vec::new() };
    let total = record.stages.get(Stage::Total).unwrap_or_default();
    let began = ended.checked_sub(total).unwrap_or(*ended);
    let mut tree = Tree { record, context, began, ended: *ended, scope, spans: Vec::new() };
    tree.request(*wrong);
    let mut at = began;
    for stage in LOOKUP {
        if let Some(span) = record.stages.get(stage) {
            tree.stage(stage, at, span, context.request);
            at += span;
        }
    }
    let body = record.stages.get(Stage::Body).unwrap_or_default();
    let head_at = ended.checked_sub(body).unwrap_or(*ended);
    let parent = match tree.upstream(head_at) {
        true => context.upstream,
        false => context.request,
    };
    if !body.is_zero() {
        tree.stage(Stage::Body, head_at, body, parent);
    }
    tree.spans
}

struct Tree<'a> {
    record: &'a Record,
    context: TraceContext,
    began: SystemTime,
    ended: SystemTime,
    scope: &'a InstrumentationScope,
    spans: Vec<SpanData>,
}

impl Tree<'_> {
    /// The request as its client saw it.
    fn request(&mut self, wrong: bool) {
        let record = self.record;
        let mut attributes = http(record);
        attributes.extend(gen_ai(record));
        attributes.extend(ours(record));
        if wrong {
            attributes.push(KeyValue::new("reprise.wrong", true));
        }
        // The path of a call that was read is one of a dialect's few; any other is the client's.
        let name = match record.shape {
            Some(_) => format!("{} {}", record.method, record.clipped_path()),
            None => record.method.to_string(),
        };
        let parent = self.context.parent;
        let mut span = self.span(self.context.request, parent.unwrap_or(0), self.began, self.ended);
        span.parent_span_is_remote = parent.is_some();
        span.span_kind = SpanKind::Server;
        span.name = name.into();
        span.attributes = attributes;
        span.status = status(record);
        if let Some(first) = record.first_token {
            let mut events = SpanEvents::default();
            events.events.push(Event::new("first token", self.began + first, Vec::new(), 0));
            span.events = events;
        }
        if let Some(leader) = record.joined {
            let mut links = SpanLinks::default();
            links.links.push(Link::with_context(span_context(leader.trace, leader.upstream, true)));
            span.links = links;
        }
        self.spans.push(span);
    }

    /// The call to the upstream with its parts; whether there was one.
    fn upstream(&mut self, head_at: SystemTime) -> bool {
        let record = self.record;
        let parts = UPSTREAM.map(|stage| record.stages.get(stage));
        if record.replica.is_none() || parts[2].is_none() || record.joined.is_some() {
            return false;
        }
        let whole: Duration = parts.iter().flatten().sum();
        let from = head_at.checked_sub(whole).unwrap_or(self.began).max(self.began);
        let mut attributes = gen_ai(record);
        attributes.extend(server(record));
        let mut span = self.span(self.context.upstream, self.context.request, from, self.ended);
        span.span_kind = SpanKind::Client;
        span.name = match &record.model {
            Some(_) => format!("{} {}", operation(record), record.clipped_model().unwrap_or("")),
            None => record.method.to_string(),
        }
        .into();
        span.attributes = attributes;
        if matches!(record.end, Some(BodyEnd::UpstreamFailed)) {
            span.status = status(record);
        }
        self.spans.push(span);
        let mut at = from;
        for (stage, part) in UPSTREAM.into_iter().zip(parts) {
            if let Some(part) = part {
                self.stage(stage, at, part, self.context.upstream);
                at += part;
            }
        }
        true
    }

    fn stage(&mut self, stage: Stage, at: SystemTime, span: Duration, parent: u64) {
        let id = mix(self.context.request.wrapping_add(stage as u64 + 1)).max(1);
        let mut span = self.span(id, parent, at, (at + span).min(self.ended.max(at)));
        span.name = stage.name().into();
        self.spans.push(span);
    }

    fn span(&self, id: u64, parent: u64, start: SystemTime, end: SystemTime) -> SpanData {
        SpanData {
            span_context: span_context(self.context.trace, id, false),
            parent_span_id: SpanId::from(parent),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "".into(),
            start_time: start,
            end_time: end,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// Whatever is sent was kept, so all of it is marked as sampled.
fn span_context(trace: u128, span: u64, remote: bool) -> SpanContext {
    let (trace, span) = (TraceId::from(trace), SpanId::from(span));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, remote, TraceState::default())
}

fn status(record: &Record) -> Status {
    match (record.fault, record.end) {
        (Some(fault), _) => Status::error(fault.name()),
        (None, Some(end @ (BodyEnd::UpstreamFailed | BodyEnd::TimedOut))) => {
            Status::error(end.name())
        }
        _ => Status::Unset,
    }
}

/// HTTP server spans. The query is never known here.
fn http(record: &Record) -> Vec<KeyValue> {
    let mut found = vec![
        KeyValue::new("http.request.method", record.method.to_string()),
        KeyValue::new("url.path", record.clipped_path().to_owned()),
        KeyValue::new("http.request.body.size", number(record.bytes_in)),
        KeyValue::new("http.response.body.size", number(record.bytes_out)),
    ];
    if let Some(status) = record.status {
        found.push(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
    }
    if let Some(fault) = record.fault {
        found.push(KeyValue::new("error.type", fault.name()));
    }
    found
}

/// Generative AI spans; nothing where the request is no call to a model that we read.
fn gen_ai(record: &Record) -> Vec<KeyValue> {
    let Some(model) = record.clipped_model() else { return Vec::new() };
    let mut found = vec![
        KeyValue::new("gen_ai.operation.name", operation(record)),
        KeyValue::new("gen_ai.provider.name", record.route.dialect.to_string()),
        KeyValue::new("gen_ai.request.model", model.to_owned()),
    ];
    if let Some(tokens) = record.tokens_prompt {
        found.push(KeyValue::new("gen_ai.usage.input_tokens", number(tokens)));
    }
    if let Some(tokens) = record.tokens_completion {
        found.push(KeyValue::new("gen_ai.usage.output_tokens", number(tokens)));
    }
    if let Some(prompt) = record.prompt() {
        let parts = serde_json::json!([{"type": "text", "content": prompt}]);
        let messages = serde_json::json!([{"role": "user", "parts": parts}]);
        found.push(KeyValue::new("gen_ai.input.messages", messages.to_string()));
    }
    found
}

/// The conventions' own word for what was asked.
fn operation(record: &Record) -> &'static str {
    let path = record.path.trim_end_matches('/');
    if path.ends_with("/embeddings") {
        "embeddings"
    } else if path.ends_with("/completions") && !path.ends_with("/chat/completions") {
        "text_completion"
    } else if path.contains("enerateContent") {
        "generate_content"
    } else {
        "chat"
    }
}

/// Which replica answered.
fn server(record: &Record) -> Vec<KeyValue> {
    let uri: Option<Uri> = record.replica.as_deref().and_then(|url| url.parse().ok());
    let Some(host) = uri.as_ref().and_then(Uri::host) else { return Vec::new() };
    let port = uri.as_ref().and_then(Uri::port_u16);
    let mut found = vec![KeyValue::new("server.address", host.to_owned())];
    found.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
    found
}

fn ours(record: &Record) -> Vec<KeyValue> {
    let mut found = vec![
        KeyValue::new("reprise.outcome", record.outcome.name()),
        KeyValue::new("reprise.route", record.route.name.to_string()),
        KeyValue::new("reprise.request_id", record.request_id.to_string()),
    ];
    let words = [
        ("reprise.reason", record.reason),
        ("reprise.verdict", record.verdict),
        ("reprise.shape", record.shape),
        ("reprise.end", record.end.map(BodyEnd::name)),
    ];
    for (key, word) in words {
        found.extend(word.map(|word| KeyValue::new(key, word)));
    }
    found.extend(record.similarity.map(|it| KeyValue::new("reprise.similarity", f64::from(it))));
    found.extend(record.entry.map(|it| KeyValue::new("reprise.entry", it.to_string())));
    found.extend(record.tenant.as_ref().map(|it| KeyValue::new("reprise.tenant", it.to_string())));
    if record.outcome.spared_upstream() {
        found.push(KeyValue::new("reprise.saved_tokens", number(record.tokens_saved)));
        found.push(KeyValue::new("reprise.saved_seconds", record.upstream_saved.as_secs_f64()));
    }
    found
}

/// OpenTelemetry has signed numbers only.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method, StatusCode};

    use super::*;
    use crate::observe::{Outcome, tests::observer};

    fn finished(change: impl FnOnce(&mut Record)) -> Vec<SpanData> {
        let observer = observer();
        let id = observer.request_id(&HeaderMap::new());
        let mut record = Record::new(id, observer.route("vllm", "openai"));
        record.method = Method::POST;
        record.path = "/v1/chat/completions".into();
        record.model = Some("llama".into());
        record.shape = Some("stream");
        record.head(StatusCode::OK);
        record.trace = Some(TraceContext {
            trace: 7,
            request: 1,
            upstream: 2,
            parent: Some(3),
            sampled: true,
        });
        change(&mut record);
        let finished = Finished { record, ended: SystemTime::now(), wrong: false };
        of(&finished, &InstrumentationScope::builder("test").build())
    }

    fn miss(record: &mut Record) {
        record.outcome = Outcome::Miss;
        record.replica = Some("http://gpu-1:8000".into());
        for (stage, ms) in [
            (Stage::Read, 1),
            (Stage::Embed, 2),
            (Stage::Queue, 3),
            (Stage::First, 100),
            (Stage::Body, 50),
            (Stage::Total, 200),
        ] {
            record.stages.record(stage, Duration::from_millis(ms));
        }
    }

    fn named<'s>(spans: &'s [SpanData], name: &str) -> &'s SpanData {
        spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}"))
    }

    fn length(span: &SpanData) -> u128 {
        span.end_time.duration_since(span.start_time).unwrap().as_millis()
    }

    #[test]
    fn a_miss_is_a_tree_of_its_stages() {
        let spans = finished(miss);
        let (request, upstream) =
            (named(&spans, "POST /v1/chat/completions"), named(&spans, "chat llama"));
        assert_eq!(request.parent_span_id, SpanId::from(3));
        assert!(request.parent_span_is_remote);
        assert_eq!(length(request), 200);
        assert_eq!(upstream.parent_span_id, request.span_context.span_id());
        assert_eq!(upstream.span_context.span_id(), SpanId::from(2), "as the upstream was told");
        assert_eq!(length(upstream), 153);
        for (stage, parent, ms) in
            [("read", request, 1), ("embed", request, 2), ("first", upstream, 100)]
        {
            let span = named(&spans, stage);
            assert_eq!(span.parent_span_id, parent.span_context.span_id(), "{stage}");
            assert_eq!(length(span), ms, "{stage}");
        }
        let body = named(&spans, "body");
        assert_eq!(body.start_time, named(&spans, "first").end_time);
        assert_eq!(body.end_time, request.end_time);
        let ids: std::collections::HashSet<_> =
            spans.iter().map(|span| span.span_context.span_id()).collect();
        assert_eq!(ids.len(), spans.len());
        assert!(spans.iter().all(|span| span.span_context.trace_id() == TraceId::from(7)));
        let inside = |span: &SpanData| {
            span.start_time >= request.start_time && span.end_time <= request.end_time
        };
        assert!(spans.iter().all(inside));
    }

    #[test]
    fn a_hit_has_no_upstream() {
        let spans = finished(|record| {
            record.outcome = Outcome::HitExact;
            record.tokens_saved = 12;
            record.stages.record(Stage::Exact, Duration::from_micros(9));
            record.stages.record(Stage::Total, Duration::from_micros(90));
        });
        assert_eq!(spans.len(), 2);
        let saved = KeyValue::new("reprise.saved_tokens", 12_i64);
        assert!(spans[0].attributes.contains(&saved));
        assert_eq!(spans[0].status, Status::Unset);
    }

    #[test]
    fn who_joined_is_linked_to_the_one_that_asked() {
        let spans = finished(|record| {
            miss(record);
            record.outcome = Outcome::Collapsed;
            record.joined = Some(TraceContext {
                trace: 99,
                request: 5,
                upstream: 6,
                parent: None,
                sampled: false,
            });
        });
        assert_eq!(spans[0].links.links[0].span_context.span_id(), SpanId::from(6));
        assert!(spans.iter().all(|span| span.span_kind != SpanKind::Client));
    }

    #[test]
    fn a_failure_is_one() {
        let spans = finished(|record| {
            miss(record);
            record.fault = Some(crate::fault::Kind::Cut);
            record.end = Some(BodyEnd::UpstreamFailed);
        });
        assert_eq!(spans[0].status, Status::error("upstream_cut"));
        let asked = named(&spans, "chat llama");
        assert_eq!(asked.status, Status::error("upstream_cut"));
    }

    #[test]
    fn no_prompt_unless_it_was_kept() {
        let text = |spans: &[SpanData]| format!("{spans:?}");
        assert!(!text(&finished(miss)).contains("gen_ai.input.messages"));
    }
}
