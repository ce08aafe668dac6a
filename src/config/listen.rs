//! `[listen]`: where clients and operators come in, and whose word on them counts.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Deserializer, de::Error};

use super::units;

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

/// Proxies whose word on who the client is counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    /// By their addresses.
    pub networks: Vec<ipnet::IpNet>,
    /// Whoever may open our socket file.
    pub unix: bool,
}

impl Trusted {
    /// Whether a peer is one of them; `None` came over the unix socket.
    pub fn covers(&self, address: Option<IpAddr>) -> bool {
        match address {
            Some(address) => self.networks.iter().any(|network| network.contains(&address)),
            None => self.unix,
        }
    }
}

impl<'de> Deserialize<'de> for Trusted {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut trusted = Self::default();
        for text in Vec::<String>::deserialize(from)? {
            if text == "unix" {
                trusted.unix = true;
                continue;
            }
            let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(Into::into));
            trusted.networks.push(network.map_err(|_| {
                D::Error::custom(format!(
                    "expected an address, a network such as \"10.0.0.0/8\", or \"unix\", not \
                     \"{text}\""
                ))
            })?);
        }
        Ok(trusted)
    }
}
