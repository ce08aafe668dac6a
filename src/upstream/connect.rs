//! From a replica's address to an open socket: DNS, TCP, TLS, each with its limit.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Duration, Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::{Protocol, peer::Peer, socket::Socket, tls::ClientTls};
use crate::fault::Fault;

/// What it takes to connect to one replica.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) peer: Peer,
    /// A name, or an IP address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) wrap: Wrap,
    /// For DNS and TCP together.
    pub(super) connect: Duration,
    /// For TLS.
    pub(super) handshake: Duration,
}

/// What lies on top of TCP.
#[derive(Debug)]
pub(super) enum Wrap {
    /// `http://`: the protocol is known beforehand.
    Clear(Protocol),
    /// `https://`: the protocol is what ALPN agrees on.
    Tls { tls: Arc<ClientTls>, name: ServerName<'static> },
}

impl Address {
    /// Opens a connection.
    pub(super) async fn connect(&self) -> Result<(Socket, Protocol), Fault> {
        let stream = self.tcp().await?;
        // A token is a small packet, and Nagle's algorithm waits for more of them.
        stream.set_nodelay(true).map_err(|error| self.peer.unreachable(&error))?;
        match &self.wrap {
            Wrap::Clear(protocol) => Ok((Socket::Clear(stream), *protocol)),
            Wrap::Tls { tls, name } => self.tls(stream, tls.config(), name).await,
        }
    }

    async fn tcp(&self) -> Result<TcpStream, Fault> {
        let deadline = Instant::now() + self.connect;
        let late = || self.peer.connect_timeout(self.connect);
        let addresses = timeout_at(deadline, self.resolve()).await.map_err(|_elapsed| late())??;
        let mut last = late();
        for (index, address) in addresses.iter().enumerate() {
            // An equal share of what is left: a dead first address must not take it all.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = self.peer.unreachable(&error),
                Err(_elapsed) => last = late(),
            }
        }
        Err(last)
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, Fault> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let found = lookup_host((self.host.as_str(), self.port)).await;
        let addresses: Vec<_> = found.map_err(|error| self.peer.unknown_host(&error))?.collect();
        if addresses.is_empty() {
            let nothing = io::Error::new(io::ErrorKind::NotFound, "it has no address");
            return Err(self.peer.unknown_host(&nothing));
        }
        Ok(addresses)
    }

    async fn tls(
        &self,
        stream: TcpStream,
        config: Arc<ClientConfig>,
        name: &ServerName<'static>,
    ) -> Result<(Socket, Protocol), Fault> {
        let shake = TlsConnector::from(config).connect(name.clone(), stream);
        let stream = timeout(self.handshake, shake)
            .await
            .map_err(|_elapsed| self.peer.tls_timeout(self.handshake))?
            .map_err(|error| self.peer.tls(&error))?;
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            // No ALPN at all is what plain HTTP/1.1 servers behind TLS do.
            _ => Protocol::Http1,
        };
        Ok((Socket::Tls(Box::new(stream)), protocol))
    }
}
