//! Whom we talk to, as every error message names it.

use std::{error::Error, fmt, sync::Arc};

use tokio::time::Duration;

use crate::fault::{Fault, Kind};

/// An upstream's name and one replica's URL.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) upstream: Arc<str>,
    pub(super) url: Arc<str>,
}

impl Peer {
    /// No connection: nothing was sent.
    pub(super) fn unreachable(&self, error: &dyn Error) -> Fault {
        let why = Chain(error);
        Fault::new(
            Kind::Connect,
            format!("{self} cannot be reached: {why}. Is the server running, and its URL right?"),
        )
        .safe_to_retry()
    }

    /// A name that does not resolve.
    pub(super) fn unknown_host(&self, error: &dyn Error) -> Fault {
        let why = Chain(error);
        Fault::new(
            Kind::Connect,
            format!("{self} has a host name that does not resolve: {why}. Check its URL and DNS."),
        )
        .safe_to_retry()
    }

    /// TCP took too long.
    pub(super) fn connect_timeout(&self, limit: Duration) -> Fault {
        Fault::new(
            Kind::ConnectTimeout,
            format!(
                "{self} accepted no connection within {limit:?} (timeouts.connect). Check the \
                 address, firewalls between, and the server's load."
            ),
        )
        .safe_to_retry()
    }

    /// TLS failed.
    pub(super) fn tls(&self, error: &dyn Error) -> Fault {
        let why = Chain(error);
        Fault::new(
            Kind::Connect,
            format!(
                "{self} failed the TLS handshake: {why}. Check that its certificate is for this \
                 host and that upstream.ca (or the system) trusts its issuer."
            ),
        )
        .safe_to_retry()
    }

    /// TLS took too long.
    pub(super) fn tls_timeout(&self, limit: Duration) -> Fault {
        Fault::new(
            Kind::ConnectTimeout,
            format!(
                "{self} finished no TLS handshake within {limit:?} (timeouts.handshake). Does it \
                 speak TLS on this port?"
            ),
        )
        .safe_to_retry()
    }

    /// The connection was gone before anything was written.
    pub(super) fn gone(&self, error: &dyn Error) -> Fault {
        let why = Chain(error);
        Fault::new(
            Kind::Reset,
            format!("{self} closed a new connection before it took the request: {why}"),
        )
        .safe_to_retry()
    }

    /// The upstream said that it did not touch the request.
    pub(super) fn refused(&self, error: &dyn Error) -> Fault {
        let why = Chain(error);
        Fault::new(Kind::Reset, format!("{self} refused the request unread: {why}")).safe_to_retry()
    }

    /// The connection broke between request and response head.
    pub(super) fn reset(&self, error: &dyn Error) -> Fault {
        let why = Chain(error);
        Fault::new(
            Kind::Reset,
            format!("{self} broke off before it answered: {why}. See the server's own log."),
        )
    }

    /// No response head in time.
    pub(super) fn first_byte_timeout(&self, limit: Duration) -> Fault {
        Fault::new(
            Kind::FirstByteTimeout,
            format!(
                "{self} began no answer within {limit:?} (timeouts.first_byte). Its queue may be \
                 long, or the limit too short for this model."
            ),
        )
    }

    /// A head in time, and then no answer.
    pub(super) fn first_token_timeout(&self, limit: Duration) -> Fault {
        Fault::new(
            Kind::FirstTokenTimeout,
            format!(
                "{self} sent a head and no word of its answer within {limit:?} \
                 (timeouts.first_token). Its queue may be long, or the limit too short."
            ),
        )
    }

    /// Silence inside a response.
    pub(super) fn idle_timeout(&self, limit: Duration) -> Fault {
        Fault::new(
            Kind::IdleTimeout,
            format!("{self} fell silent for {limit:?} inside its answer (timeouts.idle)"),
        )
    }

    /// The whole exchange took too long.
    pub(super) fn lifetime_timeout(&self, limit: Duration) -> Fault {
        Fault::new(
            Kind::LifetimeTimeout,
            format!("{self} was not done within {limit:?} (timeouts.lifetime)"),
        )
    }

    /// The response ended before its end.
    pub(super) fn cut(&self, error: &dyn Error) -> Fault {
        let why = Chain(error);
        Fault::new(Kind::Cut, format!("{self} broke off inside its answer: {why}"))
    }

    /// The response ended without an error and is shorter than it said.
    pub(super) fn short(&self, missing: u64) -> Fault {
        Fault::new(Kind::Cut, format!("{self} ended its answer {missing} bytes early"))
    }

    /// `101 Switching Protocols` though nothing was asked for.
    pub(super) fn switched(&self) -> Fault {
        Fault::new(Kind::Reset, format!("{self} switched protocols without being asked to"))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "upstream `{}` at {}", self.upstream, self.url)
    }
}

/// An error with its causes: hyper's own messages say little without them.
struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(out, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
