//! Faults in gRPC's own words: a status in headers, over an HTTP answer that is always 200.
//!
//! Source: "gRPC over HTTP2" (Trailers-Only, Percent-Encoded) and gRPC's status codes.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};

use super::Body;
use crate::fault::{Fault, Kind};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether these are the headers of a gRPC call.
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// A fault of ours as the client's library reads it.
pub(super) fn refusal(fault: &Fault) -> Response<Body> {
    let mut response = Response::new(Body::whole(Bytes::new()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, status(fault.kind).into());
    if let Ok(message) = HeaderValue::from_str(&encoded(&fault.message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    response
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
    fn a_fault_is_told_in_headers_and_any_message_fits() {
        let fault = Fault::new(Kind::Connect, "100 % of it is gone\n\u{fc}");
        let response = refusal(&fault);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "100 %25 of it is gone%0A%C3%BC");
    }
}
