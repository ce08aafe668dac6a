//! `[timeouts]` of upstreams, and `[drain]`: how long we wait for whom.

use serde::Deserialize;

use super::Span;

/// How long upstreams may take.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// TCP connect.
    pub connect: Span,
    /// TLS handshake.
    pub handshake: Span,
    /// Request sent to response head.
    pub first_byte: Span,
    /// Request sent to the first event of a streamed answer.
    pub first_token: Span,
    /// Silence inside a response.
    pub idle: Span,
    /// A whole exchange.
    pub lifetime: Span,
    /// Silence both ways on a connection that became a websocket.
    pub tunnel_idle: Span,
    /// How long an unused connection is kept.
    pub pool_idle: Span,
}

/// How to stop.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Not ready but still accepting.
    pub delay: Span,
    /// How long running requests may take to finish.
    pub deadline: Span,
}
