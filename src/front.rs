//! Room 1: from a socket to one clean request, and from a response back to a socket.
//!
//! A connection comes in over TCP, TLS or a unix socket (`listen`, [`tls`]), is served as HTTP/1.1
//! or HTTP/2 under explicit limits (`connection`, `stall`, `pace`) and ends in an orderly drain
//! (`serve`). What a [`Handler`] calls on the way to an upstream lives here too:
//! [`hygiene`] (what may pass a proxy), [`tenant`] (whose request it is), [`admission`] (is there
//! room for it) and [`body`] (reading it whole, bounded).
//!
//! Limits on requests are not tower layers at this edge: hyper asks a service for readiness before
//! a request exists, so a layer's permit would be held by idle connections and given back when the
//! head is ready, long before a streamed answer ends. Permits are taken by the handler and ride in
//! the response body.

pub mod admission;
pub mod body;
mod connection;
pub mod hygiene;
mod inherited;
pub mod lanes;
mod listen;
mod pace;
mod peer;
pub mod proxy_protocol;
pub mod quota;
mod serve;
mod stall;
pub mod tenant;
#[cfg(test)]
mod tests;
pub mod tls;

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use tokio_util::sync::CancellationToken;

use self::listen::Listener;
pub use self::{
    inherited::Inherited,
    listen::BindError,
    peer::{Origin, Peer, TlsInfo},
    serve::{Drained, Tally},
};
use crate::{
    config::{Config, Limits, Trusted},
    fault::Fault,
};

/// Answers one request: the seam between this room and the rest of the house.
///
/// The future is dropped when the client leaves before the response head; the body is dropped when
/// it leaves later. A body that yields a [`Fault`] breaks the response off visibly (HTTP/1: the
/// connection ends without the last chunk; HTTP/2: the stream is reset).
pub trait Handler: Send + Sync + 'static {
    /// What the client reads.
    type Body: Body<Data = Bytes, Error = Fault> + Send + Unpin + 'static;

    /// Answers `request`, which came from `peer`. Failures are responses too.
    fn handle(
        &self,
        peer: Peer,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// When to stop. Both are levels, not events: a token that is already cancelled counts.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Stop accepting and let running requests finish, up to `drain.deadline`.
    pub drain: CancellationToken,
    /// Cut what is left now.
    pub abort: CancellationToken,
}

/// One place where clients can connect, as it really is (port 0 resolved). Displays as a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Clear text.
    Http(SocketAddr),
    /// TLS.
    Https(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(address) => write!(out, "http://{address}"),
            Self::Https(address) => write!(out, "https://{address}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// Every configured listener, bound but not yet accepting: clients that connect now wait in the
/// backlog until [`Front::serve`].
#[derive(Debug)]
pub struct Front {
    listeners: Vec<Listener>,
    limits: Limits,
    /// From whom connections begin with the PROXY protocol.
    proxies: Option<Trusted>,
    drain_deadline: Duration,
    tls: Option<Arc<tls::ServerTls>>,
    tally: Arc<Tally>,
    lanes: Option<Arc<lanes::Lanes>>,
}

impl Front {
    /// Binds every listener of `config.listen` except the admin one. All or nothing: on an error no
    /// port stays bound and no socket file stays behind. What is `inherited` need not be bound.
    pub async fn bind(config: &Config, inherited: &mut Inherited) -> Result<Self, BindError> {
        let tls = match config.listen.https {
            Some(_) => Some(Arc::new(tls::ServerTls::new(&config.tls, config.limits.connections)?)),
            None => None,
        };
        Ok(Self {
            listeners: listen::bind_all(&config.listen, inherited).await?,
            limits: config.limits.clone(),
            proxies: config.listen.proxy_protocol.then(|| config.listen.trusted.clone()),
            drain_deadline: config.drain.deadline.get(),
            tls,
            tally: Arc::default(),
            lanes: None,
        })
    }

    /// Deals connections to these lanes instead of serving them on the caller's runtime. What was
    /// begun on a lane ends with it: keep them while an unfinished answer may still be wanted.
    #[must_use]
    pub fn on(mut self, lanes: Arc<lanes::Lanes>) -> Self {
        self.lanes = Some(lanes);
        self
    }

    /// Where clients can connect.
    pub fn addresses(&self) -> Vec<Address> {
        self.listeners.iter().map(Listener::address).collect()
    }

    /// Counts of connections, for metrics.
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// What handshakes use, where there are any.
    pub fn tls(&self) -> Option<Arc<tls::ServerTls>> {
        self.tls.clone()
    }

    /// Serves until a signal says to stop and the last connection is gone.
    ///
    /// After `drain`: nothing new is accepted; idle connections close, busy ones are told that they
    /// will (`Connection: close`, GOAWAY) and may finish until `drain.deadline`. Then, or on
    /// `abort`, what is left is cut. No task outlives this call.
    pub async fn serve<H: Handler>(self, handler: H, signals: Signals) -> Drained {
        serve::run(self, handler, signals).await
    }
}
