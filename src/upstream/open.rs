//! From the configuration to upstreams that can be used.

use std::sync::{Arc, atomic::AtomicU64};

use http::{
    Uri,
    uri::{PathAndQuery, Scheme},
};
use rustls::pki_types::ServerName;

use super::{
    Protocol, Upstream,
    affinity::Ring,
    balance::Balance,
    budget::Budget,
    connect::{Address, Place, Wrap},
    deadline::Limits,
    hedge::Hedge,
    line::Line,
    peer::Peer,
    replica::Replica,
    speculate::Speculation,
    tls::ClientTls,
};
use crate::{
    config::{self, BalanceRule},
    pem::PemError,
    wire::dialects::Dialects,
};

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
    /// `upstream.check` is no path.
    #[error("upstream `{upstream}`: check: expected a path such as \"/health\", not `{path}`")]
    Check {
        /// Which upstream.
        upstream: String,
        /// What was there.
        path: String,
    },
    /// `upstream.ca`, `.cert` or `.key` cannot be used.
    #[error(transparent)]
    File(#[from] PemError),
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

/// One upstream.
pub(super) fn upstream(
    settings: &config::Upstream,
    timeouts: &config::Timeouts,
) -> Result<Upstream, OpenError> {
    let name: Arc<str> = settings.name.as_str().into();
    let secure = settings.urls.iter().any(|url| url.starts_with("https:"));
    let tls = if secure { Some(Arc::new(ClientTls::open(settings)?)) } else { None };
    let mut replicas = Vec::new();
    for url in &settings.urls {
        let peer = Peer { upstream: Arc::clone(&name), url: url.as_str().into() };
        let replica = replica_at(url, peer, settings.http2, tls.as_ref(), timeouts);
        replicas.push(Arc::new(replica.ok_or_else(|| OpenError::Url {
            upstream: settings.name.clone(),
            url: url.clone(),
        })?));
    }
    let ring = match settings.balance {
        BalanceRule::Prefix => Some(Ring::new(settings.urls.iter().map(String::as_str))),
        BalanceRule::Latency => None,
    };
    let check = match settings.check.as_str() {
        "" => None,
        path => Some(path.parse::<PathAndQuery>().map_err(|_| OpenError::Check {
            upstream: settings.name.clone(),
            path: path.to_owned(),
        })?),
    };
    Ok(Upstream {
        name,
        dialects: Dialects::of(&settings.dialect),
        aliases: settings.aliases.clone(),
        replicas,
        balance: Balance::new(ring),
        budget: Budget::for_retries(),
        hedge: Hedge::new(settings),
        line: Line::new(settings),
        speculation: Speculation::new(settings),
        failed_over: AtomicU64::new(0),
        check,
        warm: settings.warm,
        tls,
    })
}

fn replica_at(
    url: &str,
    peer: Peer,
    http2: bool,
    tls: Option<&Arc<ClientTls>>,
    timeouts: &config::Timeouts,
) -> Option<Replica> {
    let (uri, place) = match url.strip_prefix("unix:") {
        Some(path) => (Uri::from_static("http://localhost"), Place::Unix(path.into())),
        None => {
            let uri: Uri = url.parse().ok()?;
            let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
            let default = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
            let port = uri.port_u16().unwrap_or(default);
            (uri, Place::Tcp { host, port })
        }
    };
    let wrap = match (tls, &place) {
        (Some(tls), Place::Tcp { host, .. }) if uri.scheme() == Some(&Scheme::HTTPS) => {
            Wrap::Tls { tls: Arc::clone(tls), name: ServerName::try_from(host.clone()).ok()? }
        }
        _ if http2 => Wrap::Clear(Protocol::Http2),
        _ => Wrap::Clear(Protocol::Http1),
    };
    let address = Address {
        peer,
        place,
        wrap,
        connect: timeouts.connect.get(),
        handshake: timeouts.handshake.get(),
    };
    let limits = Limits {
        first_byte: timeouts.first_byte.get(),
        first_token: timeouts.first_token.get(),
        idle: timeouts.idle.get(),
        lifetime: timeouts.lifetime.get(),
    };
    Replica::new(&uri, address, limits, timeouts.pool_idle.get())
}
