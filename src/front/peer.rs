//! Who is at the other end of a connection.

use std::net::SocketAddr;

use http::uri::Scheme;

use crate::config::{Alpn, TlsVersion};

/// Who is at the other end of a connection, and over what it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The socket's other end.
    pub origin: Origin,
    /// What TLS negotiated; `None` in clear text.
    pub tls: Option<TlsInfo>,
}

/// The other end of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An address; IPv4 inside IPv6 is already unwrapped.
    Tcp(SocketAddr),
    /// A process on this machine that may open our socket file.
    Unix,
}

impl Peer {
    /// The client's address, where it has one.
    pub const fn address(&self) -> Option<SocketAddr> {
        match self.origin {
            Origin::Tcp(address) => Some(address),
            Origin::Unix => None,
        }
    }

    /// `https` over TLS, else `http`.
    pub fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP }
    }
}

/// What a handshake settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// The protocol version.
    pub version: TlsVersion,
    /// The application protocol, where the client offered any.
    pub alpn: Option<Alpn>,
}
