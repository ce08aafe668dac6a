//! `[listen]`: where clients and operators come in.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

use super::{Trusted, units};

/// Where to listen.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Threads that serve client connections; 0 = one a core.
    pub threads: usize,
    /// Clear-text HTTP/1.1 and HTTP/2.
    #[serde(deserialize_with = "units::optional")]
    pub http: Option<SocketAddr>,
    /// TLS.
    #[serde(deserialize_with = "units::optional")]
    pub https: Option<SocketAddr>,
    /// A unix socket's path.
    #[serde(deserialize_with = "units::optional")]
    pub unix: Option<PathBuf>,
    /// Metrics, health, statistics.
    #[serde(deserialize_with = "units::optional")]
    pub admin: Option<SocketAddr>,
    /// Proxies before us whose word on who the client is counts.
    pub trusted: Trusted,
    /// Connections from trusted proxies begin with the PROXY protocol.
    pub proxy_protocol: bool,
}
