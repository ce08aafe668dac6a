//! Proxies before us that are believed.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error};

/// Proxies whose word on who the client is counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    /// By their addresses.
    pub networks: Vec<IpNet>,
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
