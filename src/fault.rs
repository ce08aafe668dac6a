//! What went wrong, whose fault it was, and whether trying again is safe.
//!
//! Every failure that a client can see becomes one [`Fault`], and only one place turns a fault into
//! an HTTP answer: the dialect's `error` (so that an OpenAI client reads an OpenAI error), or
//! [`Fault::plain_json`] where no dialect is known.

use std::{borrow::Cow, fmt, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

/// Whose fault a failure is: decides the class of the status code and who gets paged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// The client sent something that we cannot or must not handle.
    Client,
    /// The model server behind us failed.
    Upstream,
    /// The cache (embedder, store) failed. Never shown to a client: the cache fails open.
    Cache,
    /// Reprise itself: overload, shutdown, a bug.
    Us,
}

/// May the same request be sent again without the risk of doing it twice?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No byte of the request can have been acted on.
    Safe,
    /// The other side may have begun to work on it.
    Unsafe,
}

/// Every kind of failure, closed, with a stable name for logs, metrics and error bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A request that HTTP itself forbids (no or two `Host`, bad target ...).
    BadRequest,
    /// A method that a proxy in front of a model server has no use for (`CONNECT`).
    MethodNotAllowed,
    /// The request body passed `limits.body_bytes`.
    BodyTooLarge,
    /// The request body stopped coming, or took longer than it may in all.
    BodyTimeout,
    /// The client closed its side in the middle of its own request body.
    BodyAborted,
    /// `Cache-Control: only-if-cached` and nothing is cached.
    OnlyIfCached,
    /// No upstream serves this path.
    NoRoute,
    /// No connection could be made to the upstream.
    Connect,
    /// Connecting (TCP or TLS) took longer than it may.
    ConnectTimeout,
    /// The upstream closed or broke the connection before its response head.
    Reset,
    /// The upstream took longer than it may to begin its answer.
    FirstByteTimeout,
    /// The upstream sent a head and then took longer than it may to its first event.
    FirstTokenTimeout,
    /// The upstream fell silent in the middle of its answer.
    IdleTimeout,
    /// The answer took longer than any answer may.
    LifetimeTimeout,
    /// The upstream ended its answer before it was complete.
    Cut,
    /// Too many requests of one tenant in a minute.
    RateLimited,
    /// Too many requests at once.
    Overloaded,
    /// The process is shutting down.
    Draining,
    /// A bug of ours.
    Internal,
}

impl Kind {
    /// All of them, in the order of their discriminants: a metric that exists at zero from the start
    /// shows its first increment as one.
    pub const ALL: [Self; 19] = [
        Self::BadRequest,
        Self::MethodNotAllowed,
        Self::BodyTooLarge,
        Self::BodyTimeout,
        Self::BodyAborted,
        Self::OnlyIfCached,
        Self::NoRoute,
        Self::Connect,
        Self::ConnectTimeout,
        Self::Reset,
        Self::FirstByteTimeout,
        Self::FirstTokenTimeout,
        Self::IdleTimeout,
        Self::LifetimeTimeout,
        Self::Cut,
        Self::RateLimited,
        Self::Overloaded,
        Self::Draining,
        Self::Internal,
    ];

    /// The stable name: label in metrics, `reason` in logs, `code` in error bodies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::BodyAborted => "body_aborted",
            Self::OnlyIfCached => "only_if_cached",
            Self::NoRoute => "no_route",
            Self::Connect => "upstream_connect",
            Self::ConnectTimeout => "upstream_connect_timeout",
            Self::Reset => "upstream_reset",
            Self::FirstByteTimeout => "upstream_first_byte_timeout",
            Self::FirstTokenTimeout => "upstream_first_token_timeout",
            Self::IdleTimeout => "upstream_idle_timeout",
            Self::LifetimeTimeout => "upstream_lifetime_timeout",
            Self::Cut => "upstream_cut",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status a client gets for it.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest | Self::BodyAborted => StatusCode::BAD_REQUEST,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Connect | Self::Reset | Self::Cut => StatusCode::BAD_GATEWAY,
            Self::OnlyIfCached
            | Self::ConnectTimeout
            | Self::FirstByteTimeout
            | Self::FirstTokenTimeout
            | Self::IdleTimeout
            | Self::LifetimeTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Overloaded | Self::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whose fault it is.
    pub const fn whose(self) -> Whose {
        match self {
            Self::BadRequest
            | Self::MethodNotAllowed
            | Self::BodyTooLarge
            | Self::BodyTimeout
            | Self::BodyAborted
            | Self::OnlyIfCached
            | Self::NoRoute
            | Self::RateLimited => Whose::Client,
            Self::Connect
            | Self::ConnectTimeout
            | Self::Reset
            | Self::FirstByteTimeout
            | Self::FirstTokenTimeout
            | Self::IdleTimeout
            | Self::LifetimeTimeout
            | Self::Cut => Whose::Upstream,
            Self::Overloaded | Self::Draining | Self::Internal => Whose::Us,
        }
    }
}

/// One failure, ready to be shown.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What kind of failure.
    pub kind: Kind,
    /// Whether the request may be sent again.
    pub retry: Retry,
    /// One sentence for the person who reads the error: what happened and what to do. It never
    /// holds prompt text or credentials.
    pub message: Cow<'static, str>,
    /// Sent as `Retry-After` where set.
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// A fault of `kind` that says `message`; not safe to retry.
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, retry: Retry::Unsafe, message: message.into(), retry_after: None }
    }

    /// The same fault, known to have happened before the upstream could act.
    #[must_use]
    pub fn safe_to_retry(mut self) -> Self {
        self.retry = Retry::Safe;
        self
    }

    /// The same fault with a `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The error body where no dialect is known: `{"error":{"message","type","code"}}`, the shape
    /// that most model servers share.
    pub fn plain_json(&self) -> Bytes {
        let whose = match self.kind.whose() {
            Whose::Client => "invalid_request_error",
            Whose::Upstream => "upstream_error",
            Whose::Cache | Whose::Us => "proxy_error",
        };
        let body = json!({"error": {
            "message": self.message, "type": whose, "param": null, "code": self.kind.name(),
        }});
        Bytes::from(body.to_string())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.kind.name(), self.message)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_in_the_order_of_the_discriminants() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "{}", kind.name());
        }
        // The last one declared.
        assert_eq!(Kind::Internal as usize + 1, Kind::ALL.len());
    }
}
