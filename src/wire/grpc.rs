//! gRPC's framing and its statuses: messages behind five bytes, the outcome in trailers.
//!
//! Source: "gRPC over HTTP2" (Length-Prefixed-Message, Trailers-Only, Percent-Encoded) and gRPC's
//! status codes.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::NotStorable;
use crate::fault::{Fault, Kind};

/// Where a call says how it ended.
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// What the client can decompress.
pub const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// How long the client will wait.
pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Whether these are the headers of a gRPC call, of any kind.
pub fn is_call(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// Whether its messages are protobuf and its status comes in trailers (gRPC-Web's does not).
pub fn is_protobuf(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    matches!(kind, Some(b"application/grpc" | b"application/grpc+proto"))
}

/// The one message that a body consists of; `None` for several, a part of one or a compressed one.
pub(super) fn message(body: &[u8]) -> Option<&[u8]> {
    let (head, message) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes(head[1..].try_into().ok()?);
    (head[0] == 0 && usize::try_from(length) == Ok(message.len())).then_some(message)
}

/// The first message of a body, and what comes behind it; `None` where it is not whole, or compressed.
pub(super) fn first(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (frame, rest) = body.split_at_checked(frame_length(body)?)?;
    Some((message(frame)?, rest))
}

/// Length of the first message with the five bytes before it, as soon as those are there.
pub fn frame_length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().ok()?);
    usize::try_from(length).ok()?.checked_add(5)
}

/// A message of these parts.
pub(super) fn framed(parts: &[&[u8]]) -> Bytes {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(5 + length);
    frame.push(0);
    frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    frame.into()
}

/// How a call failed that these headers or trailers end: its status and what it says of it.
pub fn failure(ending: &HeaderMap) -> Option<HeaderMap> {
    let status = ending.get(&STATUS).filter(|status| *status != "0")?;
    let mut failure = HeaderMap::with_capacity(3);
    failure.insert(STATUS, status.clone());
    for name in [MESSAGE, DETAILS] {
        if let Some(value) = ending.get(&name) {
            failure.insert(name, value.clone());
        }
    }
    Some(failure)
}

/// Whether an answer that ended so was a success.
pub(super) fn ended(trailers: Option<&HeaderMap>) -> Result<(), NotStorable> {
    match trailers.and_then(|trailers| trailers.get(&STATUS)) {
        Some(status) if status == "0" => Ok(()),
        Some(_) => Err(NotStorable::UpstreamError),
        None => Err(NotStorable::Incomplete),
    }
}

/// How a call ends: well, or with a fault of ours.
pub fn trailers(end: Result<(), &Fault>) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(STATUS, end.map_or_else(|fault| status(fault.kind), |()| 0).into());
    if let Err(fault) = end
        && let Ok(message) = HeaderValue::from_str(&encoded(&fault.message))
    {
        trailers.insert(MESSAGE, message);
    }
    trailers
}

fn status(kind: Kind) -> u16 {
    match kind {
        Kind::BadRequest | Kind::MethodNotAllowed => 3, // INVALID_ARGUMENT
        Kind::BodyAborted => 1,                         // CANCELLED
        Kind::NoRoute => 12,                            // UNIMPLEMENTED
        Kind::BodyTimeout
        | Kind::ConnectTimeout
        | Kind::FirstByteTimeout
        | Kind::FirstTokenTimeout
        | Kind::IdleTimeout
        | Kind::LifetimeTimeout => 4, // DEADLINE_EXCEEDED
        Kind::BodyTooLarge | Kind::RateLimited => 8,    // RESOURCE_EXHAUSTED
        Kind::Internal => 13,
        // UNAVAILABLE: the one that clients may try again.
        _ => 14,
    }
}

/// Everything but printable ASCII, and the percent sign, as `%XX`.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_in_trailers_and_any_message_fits() {
        let fault = Fault::new(Kind::Connect, "100 % of it is gone\n\u{fc}");
        let told = trailers(Err(&fault));
        assert_eq!(told[STATUS], "14");
        assert_eq!(told[MESSAGE], "100 %25 of it is gone%0A%C3%BC");
        assert_eq!(trailers(Ok(())), HeaderMap::from_iter([(STATUS, HeaderValue::from(0))]));
    }

    #[test]
    fn only_one_whole_plain_message_is_one() {
        assert_eq!(message(b"\0\0\0\0\x02ab"), Some(&b"ab"[..]));
        assert_eq!(message(b"\0\0\0\0\0"), Some(&b""[..]));
        let two = b"\0\0\0\0\x01a\0\0\0\0\x01b";
        for other in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\x01a", b"\0\0\0\0\x02a", two] {
            assert_eq!(message(other), None, "{other:?}");
        }
    }

    #[test]
    fn only_a_status_of_zero_is_a_success() {
        assert_eq!(ended(None), Err(NotStorable::Incomplete));
        assert_eq!(ended(Some(&HeaderMap::new())), Err(NotStorable::Incomplete));
        assert_eq!(ended(Some(&trailers(Ok(())))), Ok(()));
        let failed = trailers(Err(&Fault::new(Kind::Internal, "x")));
        assert_eq!(ended(Some(&failed)), Err(NotStorable::UpstreamError));
    }
}
