//! `[limits]`: what one client may take from all others.

use serde::Deserialize;

use super::{Size, Span};

/// What one client may take from all others.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Open client connections.
    pub connections: usize,
    /// Requests in flight.
    pub requests: usize,
    /// Headers of a request.
    pub header_count: usize,
    /// Bytes of a request head.
    pub header_bytes: Size,
    /// Time for a request head.
    pub header_time: Span,
    /// Time for a TLS handshake.
    pub handshake_time: Span,
    /// Bytes of a request body that is read to be cached.
    pub body_bytes: Size,
    /// Silence inside a request body.
    pub body_idle: Span,
    /// Time for a whole request body.
    pub body_time: Span,
    /// How long a client may take nothing of its answer.
    pub write_stall: Span,
    /// Concurrent streams of an HTTP/2 connection.
    pub h2_streams: u32,
    /// Bytes of all request bodies that are read to be cached, together.
    pub bodies_bytes: Size,
    /// Requests of one tenant in a minute; 0: any number.
    pub tenant_requests: u64,
    /// Tokens that upstreams compute for one tenant in a minute; 0: any number.
    pub tenant_tokens: u64,
}
