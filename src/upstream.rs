//! Room 7: model servers. Connections, timeouts, balancing, and one answer to "may this be sent
//! again".
//!
//! [`Upstreams`] knows all of them and finds one by path; an [`Upstream`] is one named service with
//! its replicas; [`Upstream::send`] makes one exchange, on another replica when the first one
//! certainly did nothing. The body of the reply carries everything that must outlive the call: the
//! connection, the load, the timers.
//!
//! Connections are hyper's, but the pool is ours, because hyper-util's keeps one HTTP/2 connection
//! per host, cannot say whether it gave an old connection, and drives each in a task of its own.

mod balance;
mod connect;
mod deadline;
mod http1;
mod http2;
mod outgoing;
mod peer;
mod pool;
mod replica;
mod reply;
mod socket;
mod tls;
mod unanswered;
mod watchdog;

use std::{path::PathBuf, sync::Arc, time::Duration};

use http::{
    HeaderValue, Method, Request, Uri,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
    request,
    uri::{PathAndQuery, Scheme},
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use self::{
    balance::Balance,
    connect::{Address, Wrap},
    deadline::Limits,
    outgoing::Upload,
    peer::Peer,
    replica::Replica,
};
pub use self::{
    outgoing::Outgoing,
    reply::{Reply, ReplyBody, Timing},
};
use crate::{
    config::{self, Config, DialectName},
    fault::{Fault, Kind},
};

/// How often idle connections are looked at: how long one that the other side closed, or that is
/// too old, may still hold a socket.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// An HTTP version towards a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Why the upstreams cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A base URL that the configuration's own check should have refused.
    #[error("upstream `{upstream}`: `{url}` is not a base URL such as \"http://127.0.0.1:8000\"")]
    Url {
        /// Which upstream.
        upstream: String,
        /// The URL.
        url: String,
    },
    /// `upstream.ca` cannot be used.
    #[error("upstream.ca: {}: {why}", path.display())]
    Roots {
        /// The PEM file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An `https://` upstream, and the system trusts nobody.
    #[error("the system has no root certificates ({why}): install them, or set upstream.ca")]
    NoSystemRoots {
        /// What the search said.
        why: String,
    },
    /// TLS itself could not be set up.
    #[error("TLS towards upstreams: {0}")]
    Tls(#[source] rustls::Error),
}

/// All model servers.
#[derive(Debug)]
pub struct Upstreams {
    all: Vec<Arc<Upstream>>,
    /// Longest prefix first.
    routes: Vec<(String, Arc<Upstream>)>,
    _sweep: AbortOnDropHandle<()>,
}

/// One named model server with its replicas.
pub struct Upstream {
    name: Arc<str>,
    dialect: DialectName,
    replicas: Vec<Arc<Replica>>,
    balance: Balance,
}

/// One replica in numbers.
#[derive(Clone, Debug)]
pub struct ReplicaReport {
    /// Its base URL.
    pub url: Arc<str>,
    /// Exchanges that run, each to the end of its body.
    pub in_flight: usize,
    /// Open HTTP/1.1 connections that wait for use.
    pub idle_connections: usize,
    /// Open HTTP/2 connections.
    pub shared_connections: usize,
    /// Connections opened since the start.
    pub connections_opened: u64,
}

impl Upstreams {
    /// Sets up what `config` names; connects to nobody yet. Must be called inside a tokio runtime:
    /// a task that closes unused connections runs until this is dropped.
    ///
    /// # Errors
    /// Certificates that cannot be read.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        let mut routes = Vec::new();
        let mut all = Vec::new();
        for settings in &config.upstream {
            let upstream = Arc::new(Upstream::open(settings, &config.timeouts)?);
            all.push(Arc::clone(&upstream));
            let of_this = settings.routes.iter();
            routes.extend(of_this.map(|route| (route.clone(), Arc::clone(&upstream))));
        }
        routes.sort_by_key(|(route, _)| std::cmp::Reverse(route.len()));
        let swept = all.clone();
        let sweep = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(SWEEP_EVERY);
            loop {
                ticks.tick().await;
                swept.iter().flat_map(|one| &one.replicas).for_each(|replica| replica.pool.sweep());
            }
        });
        Ok(Self { all, routes, _sweep: AbortOnDropHandle::new(sweep) })
    }

    /// All of them, in the order of the configuration.
    pub fn all(&self) -> &[Arc<Upstream>] {
        &self.all
    }

    /// Who serves `path`: the longest route that is a prefix of it, whole segments only (`/v1`
    /// serves `/v1/models`, not `/v10`).
    pub fn route(&self, path: &str) -> Option<&Arc<Upstream>> {
        let serves = |route: &str| match path.strip_prefix(route) {
            Some(rest) => rest.is_empty() || rest.starts_with('/') || route.ends_with('/'),
            None => false,
        };
        self.routes.iter().find(|(route, _)| serves(route)).map(|(_, upstream)| upstream)
    }
}

impl Upstream {
    fn open(settings: &config::Upstream, timeouts: &config::Timeouts) -> Result<Self, OpenError> {
        let name: Arc<str> = settings.name.as_str().into();
        let secure = settings.urls.iter().any(|url| url.starts_with("https:"));
        let tls = if secure { Some(tls::client(settings.ca.as_deref())?) } else { None };
        let mut replicas = Vec::new();
        for url in &settings.urls {
            let peer = Peer { upstream: Arc::clone(&name), url: url.as_str().into() };
            let replica = replica_at(url, peer, settings.http2, tls.as_ref(), timeouts);
            replicas.push(Arc::new(replica.ok_or_else(|| OpenError::Url {
                upstream: settings.name.clone(),
                url: url.clone(),
            })?));
        }
        let balance = Balance::default();
        Ok(Self { name, dialect: settings.dialect, replicas, balance })
    }

    /// Its name in metrics, errors and purges.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The API it speaks.
    pub fn dialect(&self) -> DialectName {
        self.dialect
    }

    /// Each replica in numbers.
    pub fn report(&self) -> Vec<ReplicaReport> {
        self.replicas.iter().map(|replica| replica.report()).collect()
    }

    /// Makes one exchange, up to the response head.
    ///
    /// `head` has a target in origin form and no hop-by-hop headers; `Host` is set to the
    /// replica's own. Dropping the future, or later the body, stops the upstream's work. A fault is
    /// [`Retry::Safe`](crate::fault::Retry::Safe) only when no byte of the request can have been
    /// acted on; a whole body is then tried on each other replica before the fault is returned.
    ///
    /// # Errors
    /// The last attempt's fault; each limit of `[timeouts]` has its own kind.
    pub async fn send(&self, head: request::Parts, body: Outgoing) -> Result<Reply, Fault> {
        let began = Instant::now();
        let path = head.uri.path_and_query().cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut request = Request::from_parts(head, Upload::from(body));
        frame(&mut request);
        let mut tried = Vec::new();
        let mut last = None;
        while let Some((index, replica)) = self.balance.pick(&self.replicas, &tried) {
            match replica.exchange(request, &path, began).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => {
                    last = Some(failure.fault.clone());
                    request = failure.into_retry()?;
                }
            }
            tried.push(index);
        }
        Err(last.unwrap_or_else(|| {
            Fault::new(Kind::Connect, format!("upstream `{}` has no replica", self.name))
        }))
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Upstream").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Says in the headers how long a whole body is; nobody else's word for it counts.
fn frame(request: &mut Request<Upload>) {
    // Extensions are for our own rooms; hyper reads some of them as orders.
    request.extensions_mut().clear();
    let Upload::Whole(bytes) = request.body() else { return };
    let length = bytes.len();
    let says_zero = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
    let headers = request.headers_mut();
    headers.remove(TRANSFER_ENCODING);
    if length > 0 || says_zero {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    } else {
        headers.remove(CONTENT_LENGTH);
    }
}

fn replica_at(
    url: &str,
    peer: Peer,
    http2: bool,
    tls: Option<&Arc<ClientConfig>>,
    timeouts: &config::Timeouts,
) -> Option<Replica> {
    let uri: Uri = url.parse().ok()?;
    let secure = uri.scheme() == Some(&Scheme::HTTPS);
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let wrap = match tls {
        Some(config) if secure => {
            Wrap::Tls { config: Arc::clone(config), name: ServerName::try_from(host.clone()).ok()? }
        }
        _ if http2 => Wrap::Clear(Protocol::Http2),
        _ => Wrap::Clear(Protocol::Http1),
    };
    let address = Address {
        peer,
        port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
        host,
        wrap,
        connect: timeouts.connect.get(),
        handshake: timeouts.handshake.get(),
    };
    let limits = Limits {
        first_byte: timeouts.first_byte.get(),
        idle: timeouts.idle.get(),
        lifetime: timeouts.lifetime.get(),
    };
    Replica::new(&uri, address, limits, timeouts.pool_idle.get())
}

#[cfg(test)]
mod tests;
