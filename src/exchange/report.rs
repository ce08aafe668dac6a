//! What the response headers tell: the contract with clients and with who greps.
//!
//! `Cache-Status` is RFC 9211, `Age` RFC 9111 section 5.1, `Server-Timing` W3C Server Timing.

use std::fmt::{self, Write as _};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header, response::Parts};
use sfv::{Integer, ListSerializer, TokenRef, key_ref, token_ref};

use super::{AnswerHead, Body};
use crate::{
    cache::{
        Hit, HitKind,
        entry::{Entry, now_ms},
        reason::Reason,
    },
    fault::{Fault, Kind, Whose},
    front::hygiene,
    line::Line,
    observe::{Outcome, Record},
    wire::{Dialect, grpc},
};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
const X_ENTRY: HeaderName = HeaderName::from_static("x-reprise-entry");
const X_SIMILARITY: HeaderName = HeaderName::from_static("x-reprise-similarity");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A kept answer, replayed.
pub(super) fn hit(
    hit: &Hit,
    content_type: &str,
    more: Option<(HeaderName, HeaderValue)>,
    body: Body,
) -> Response<Body> {
    let now = now_ms();
    let mut headers = HeaderMap::with_capacity(10);
    headers.insert(header::CONTENT_TYPE, kind(content_type));
    // hyper writes the length, which the body knows.
    headers.extend(more);
    streaming(&mut headers);
    headers.insert(header::AGE, number(hit.entry.age(now).as_secs()));
    headers.insert(X_CACHE, HeaderValue::from_static("HIT"));
    headers.insert(X_ENTRY, hit.entry.id.hex().header());
    let detail = match hit.kind {
        HitKind::Exact => "exact",
        HitKind::Stale => "stale",
        HitKind::StaleOnError => "stale_on_error",
        HitKind::Semantic { similarity } => {
            headers.insert(X_SIMILARITY, text(format_args!("{similarity:.4}")));
            "semantic"
        }
    };
    let ttl = hit.entry.ttl_seconds(now);
    let ttl = Integer::try_from(ttl).unwrap_or(Integer::MAX);
    // Written out, as the serializer would: it allocates for every part, on the hottest of all paths.
    let status = text(format_args!("reprise;hit;ttl={ttl};detail={detail}"));
    headers.append(CACHE_STATUS, status);
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response
}

/// A batch whose inputs were all known; `soonest` is the first of their answers to expire.
pub(super) fn batch_hit(soonest: &Entry, body: Bytes) -> Response<Body> {
    let now = now_ms();
    let ttl = Integer::try_from(soonest.ttl_seconds(now)).unwrap_or(Integer::MAX);
    let mut list = ListSerializer::new();
    list.bare_item(token_ref("reprise"))
        .parameter(key_ref("hit"), true)
        .parameter(key_ref("ttl"), ttl)
        .parameter(key_ref("detail"), token_ref("exact"));
    let mut response = composed(body, "HIT", list);
    response.headers_mut().insert(header::AGE, soonest.age(now).as_secs().into());
    response
}

/// A batch of which the upstream was asked for a part.
pub(super) fn partial_batch(body: Bytes) -> Response<Body> {
    let mut list = ListSerializer::new();
    list.bare_item(token_ref("reprise"))
        .parameter(key_ref("fwd"), token_ref("miss"))
        .parameter(key_ref("fwd-status"), Integer::from(200))
        .parameter(key_ref("stored"), true)
        .parameter(key_ref("detail"), detail(Reason::PartialBatch.name()));
    composed(body, "MISS", list)
}

/// An answer that we put together: none of its headers are an upstream's.
fn composed(body: Bytes, x_cache: &'static str, list: ListSerializer<String>) -> Response<Body> {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    headers.insert(X_CACHE, HeaderValue::from_static(x_cache));
    append(&mut headers, list);
    let mut response = Response::new(Body::whole(body));
    *response.headers_mut() = headers;
    response
}

/// A running answer.
pub(super) fn flight(head: &AnswerHead, record: &Record, body: Body) -> Response<Body> {
    let mut headers = head.headers.clone();
    hygiene::response(&mut headers);
    streaming(&mut headers);
    headers.insert(X_CACHE, HeaderValue::from_static("MISS"));
    if let Some(id) = record.entry {
        headers.insert(X_ENTRY, text(format_args!("{id}")));
    }
    if let Some(similarity) = head.nearest {
        headers.insert(X_SIMILARITY, text(format_args!("{similarity:.4}")));
    }
    let mut list = ListSerializer::new();
    let mut item = list
        .bare_item(token_ref("reprise"))
        .parameter(key_ref("fwd"), forwarded(head.reason))
        .parameter(key_ref("fwd-status"), Integer::from(head.status.as_u16()));
    if head.not_kept.is_none() {
        item = item.parameter(key_ref("stored"), true);
    }
    if record.outcome == Outcome::Collapsed {
        // Cookies were set for the one client whose request the upstream saw.
        headers.remove(header::SET_COOKIE);
        item = item.parameter(key_ref("collapsed"), true);
    }
    let _ = item.parameter(key_ref("detail"), detail(head.reason.name()));
    append(&mut headers, list);
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = headers;
    response
}

/// Turns the report of a replay into that of a collapsed request: it waited for another's answer.
pub(super) fn collapsed(headers: &mut HeaderMap) {
    headers.insert(X_CACHE, HeaderValue::from_static("MISS"));
    headers.remove(header::AGE);
    headers.remove(CACHE_STATUS);
    let mut list = ListSerializer::new();
    list.bare_item(token_ref("reprise"))
        .parameter(key_ref("fwd"), token_ref("miss"))
        .parameter(key_ref("stored"), true)
        .parameter(key_ref("collapsed"), true);
    append(headers, list);
}

/// An answer that the cache has no part in.
pub(super) fn bypass(mut head: Parts, reason: Reason, body: Body) -> Response<Body> {
    hygiene::response(&mut head.headers);
    head.headers.insert(X_CACHE, HeaderValue::from_static("BYPASS"));
    let mut list = ListSerializer::new();
    list.bare_item(token_ref("reprise"))
        .parameter(key_ref("fwd"), token_ref("bypass"))
        .parameter(key_ref("fwd-status"), Integer::from(head.status.as_u16()))
        .parameter(key_ref("detail"), detail(reason.name()));
    append(&mut head.headers, list);
    head.extensions.clear();
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

/// An error of ours, in the shape that the client's library reads.
pub(super) fn refusal(
    fault: &Fault,
    dialect: Option<&dyn Dialect>,
    record: &Record,
) -> Response<Body> {
    let body = dialect.map_or_else(|| fault.plain_json(), |dialect| dialect.error(fault));
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    if let Some(wait) = fault.retry_after {
        headers.insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
    }
    if fault.kind == Kind::MethodNotAllowed {
        let allowed = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
        headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    let mut list = ListSerializer::new();
    let item = list.bare_item(token_ref("reprise"));
    let item = match (fault.kind, fault.kind.whose()) {
        (Kind::OnlyIfCached, _) => {
            headers.insert(X_CACHE, HeaderValue::from_static("MISS"));
            item // it was not forwarded
        }
        (_, Whose::Upstream) => item.parameter(key_ref("fwd"), token_ref("miss")),
        _ => item,
    };
    let _ = item.parameter(key_ref("detail"), detail(record.reason.unwrap_or(fault.kind.name())));
    append(&mut headers, list);
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = fault.kind.status();
    *response.headers_mut() = headers;
    response
}

/// An error of ours as a client of gRPC reads it: in the head of an answer that is always a 200.
pub(super) fn grpc_refusal(fault: &Fault) -> Response<Body> {
    let mut response = Response::new(Body::whole(Bytes::new()));
    let headers = response.headers_mut();
    headers.extend(grpc::trailers(Err(fault)));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// What every response carries.
pub(super) fn sign(headers: &mut HeaderMap, record: &Record) {
    headers.append(SERVER_TIMING, record.stages.server_timing());
    if !headers.contains_key(X_REQUEST_ID) {
        headers.insert(X_REQUEST_ID, record.request_id.to_header());
    }
}

/// A stream must not be held up by whoever stands between us and the client: nginx reads the one
/// header, other caches the other.
fn streaming(headers: &mut HeaderMap) {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
        headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    }
}

/// RFC 9211's own word for why a request went forward.
fn forwarded(reason: Reason) -> &'static TokenRef {
    match reason {
        Reason::NoCache | Reason::TooOld => token_ref("request"),
        Reason::Stale => token_ref("stale"),
        _ => token_ref("miss"),
    }
}

/// Our own reason; all names are tokens, a later one that is not would be left out rather than
/// break the field.
fn detail(name: &'static str) -> &'static TokenRef {
    TokenRef::from_str(name).unwrap_or(const { token_ref("other") })
}

/// Appends to the caches before us (RFC 9211 section 2: nearest the client comes last).
fn append(headers: &mut HeaderMap, list: ListSerializer<String>) {
    if let Some(value) = list.finish().and_then(|value| HeaderValue::from_str(&value).ok()) {
        headers.append(CACHE_STATUS, value);
    }
}

fn text(value: fmt::Arguments<'_>) -> HeaderValue {
    let mut line = Line::default();
    // It cannot fail: a line is a piece of the stack.
    let _ = line.write_fmt(value);
    line.header()
}

fn number(value: u64) -> HeaderValue {
    let mut line = Line::default();
    line.number(value, 1);
    line.header()
}

/// A content type; nearly all are one of two.
fn kind(value: &str) -> HeaderValue {
    const KNOWN: [&str; 2] = ["application/json", "text/event-stream"];
    match KNOWN.into_iter().find(|known| *known == value) {
        Some(known) => HeaderValue::from_static(known),
        None => HeaderValue::from_str(value)
            .unwrap_or(HeaderValue::from_static("application/octet-stream")),
    }
}
