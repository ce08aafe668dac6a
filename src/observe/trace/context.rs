//! Where a request stands in a trace: W3C Trace Context (`traceparent`, `tracestate`), both ways.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::observe::request_id::{mix, random};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The one flag that everybody knows.
const SAMPLED: u8 = 1;

/// One request's place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace, never 0.
    pub trace: u128,
    /// Our span for the request, never 0.
    pub request: u64,
    /// Our span for the call to the upstream: what the upstream sees as its parent. Never 0.
    pub upstream: u64,
    /// The client's span, where it sent one.
    pub parent: Option<u64>,
    /// The client wants this trace kept; without a client's word, chance does.
    pub sampled: bool,
}

impl TraceContext {
    /// The trace's id as 32 lower-case hex digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }
}

/// What a client said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    trace: u128,
    span: u64,
    sampled: bool,
}

/// The client's context; `None` where there is none or one that cannot be read. Then its state is
/// forgotten too: it belongs to a trace that we do not continue (Trace Context, 3.3).
pub(super) fn read(headers: &mut HeaderMap) -> Option<Client> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let client = match (given.next(), given.next()) {
        (Some(only), None) => only.to_str().ok().and_then(parse),
        _ => None,
    };
    if client.is_none() {
        headers.remove(TRACESTATE);
    }
    client
}

/// Names our span as the parent of what the upstream does.
pub(super) fn write(headers: &mut HeaderMap, context: &TraceContext) {
    let flags = if context.sampled { SAMPLED } else { 0 };
    let text = format!("00-{:032x}-{:016x}-{flags:02x}", context.trace, context.upstream);
    // Hex digits and hyphens: always a header value.
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(TRACEPARENT, value);
    }
}

/// `version-trace-parent-flags`. Of a version after ours the first four fields are read (3.2.4).
fn parse(text: &str) -> Option<Client> {
    let bytes = text.as_bytes();
    let rest = bytes.get(55);
    let (version, later) = (hex(text.get(0..2)?)?, rest.is_some());
    if version == 0xff || (version == 0 && later) || rest.is_some_and(|byte| *byte != b'-') {
        return None;
    }
    if [2, 35, 52].iter().any(|at| bytes.get(*at) != Some(&b'-')) {
        return None;
    }
    let (trace, span) = (hex(text.get(3..35)?)?, hex(text.get(36..52)?)?);
    let flags = hex(text.get(53..55)?)?;
    let span = u64::try_from(span).ok()?;
    (trace != 0 && span != 0).then_some(Client {
        trace,
        span,
        sampled: flags & u128::from(SAMPLED) != 0,
    })
}

/// Lower-case hex only, as the standard has it.
fn hex(text: &str) -> Option<u128> {
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.bytes().all(lower).then(|| u128::from_str_radix(text, 16).ok())?
}

/// Makes ids: unique within the process (a bijection of a counter), and among processes by the
/// random seeds. Asking the kernel for each would cost a system call.
pub(super) struct Ids {
    seeds: [u64; 3],
    next: AtomicU64,
}

impl Ids {
    pub(super) fn new() -> Self {
        Self { seeds: [random(), random(), random()], next: AtomicU64::new(0) }
    }

    /// A span in the client's trace.
    pub(super) fn child_of(&self, client: &Client) -> TraceContext {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        TraceContext {
            trace: client.trace,
            request: self.span(at, 0),
            upstream: self.span(at, 1),
            parent: Some(client.span),
            sampled: client.sampled,
        }
    }

    /// A new trace; `drawn` says whether chance keeps it.
    pub(super) fn root(&self, drawn: impl FnOnce(u128) -> bool) -> TraceContext {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        let half = |seed: usize| u128::from(mix(self.seeds[seed].wrapping_add(at)));
        let trace = (half(1) << 64 | half(2)).max(1);
        TraceContext {
            trace,
            request: self.span(at, 0),
            upstream: self.span(at, 1),
            parent: None,
            sampled: drawn(trace),
        }
    }

    /// Two spans a request.
    fn span(&self, at: u64, which: u64) -> u64 {
        mix(self.seeds[0].wrapping_add(at.wrapping_mul(2) + which)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        headers
    }

    #[test]
    fn a_clients_trace_is_continued() {
        let mut headers = headers(&[GOOD]);
        let client = read(&mut headers).unwrap();
        let context = Ids::new().child_of(&client);
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.parent, Some(0x00f0_67aa_0ba9_02b7));
        assert!(context.sampled);
        write(&mut headers, &context);
        let sent = headers[TRACEPARENT].to_str().unwrap();
        assert_eq!(
            sent,
            format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{:016x}-01", context.upstream)
        );
        assert_eq!(headers[TRACESTATE], "vendor=1");
    }

    #[test]
    fn what_is_no_context_begins_a_new_trace() {
        let long = format!("{GOOD}-more");
        let zero = GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let spanless = GOOD.replace("00f067aa0ba902b7", "0000000000000000");
        let upper = GOOD.to_uppercase();
        let invalid = GOOD.replacen("00-", "ff-", 1);
        for bad in ["", "00", &long, &zero, &spanless, &upper, &invalid, &GOOD[..54]] {
            let mut headers = headers(&[bad]);
            assert_eq!(read(&mut headers), None, "{bad}");
            assert!(!headers.contains_key(TRACESTATE), "{bad}: its state goes with it");
        }
        assert_eq!(read(&mut headers(&[GOOD, GOOD])), None, "two of them say nothing");
    }

    #[test]
    fn a_later_versions_first_fields_are_read() {
        let later = format!("{}-extra", GOOD.replacen("00-", "7e-", 1));
        assert!(parse(&later).is_some_and(|client| client.sampled));
        assert_eq!(parse(&later.replace("-extra", "extra")), None);
    }

    #[test]
    fn ids_never_repeat() {
        let ids = Ids::new();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let context = ids.root(|_| true);
            assert!(seen.insert(context.request) && seen.insert(context.upstream));
        }
    }

    proptest! {
        #[test]
        fn what_we_write_we_can_read(trace in 1..u128::MAX, span in 1..u64::MAX, sampled: bool) {
            let context =
                TraceContext { trace, request: 1, upstream: span, parent: None, sampled };
            let mut headers = HeaderMap::new();
            write(&mut headers, &context);
            prop_assert_eq!(read(&mut headers), Some(Client { trace, span, sampled }));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            let _ = parse(&text);
        }
    }
}
