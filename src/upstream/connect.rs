//! From a replica's address to an open socket: DNS, TCP or a socket file, TLS, each with its limit.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::{TcpStream, UnixStream, lookup_host},
    time::{Duration, Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::{Protocol, movable::Movable, peer::Peer, socket::Socket, tls::ClientTls};
use crate::fault::Fault;

/// What it takes to connect to one replica.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) peer: Peer,
    pub(super) place: Place,
    pub(super) wrap: Wrap,
    /// For DNS and TCP together.
    pub(super) connect: Duration,
    /// For TLS.
    pub(super) handshake: Duration,
}

/// Where a replica listens.
#[derive(Debug)]
pub(super) enum Place {
    Tcp {
        /// A name, or an IP address without brackets.
        host: String,
        port: u16,
    },
    /// A socket file on this machine.
    Unix(PathBuf),
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
        let stream = self.stream().await?;
        match &self.wrap {
            Wrap::Tls { tls, name } => self.tls(stream, tls.config(), name).await,
            Wrap::Clear(protocol) => Ok((Socket::Clear(stream), *protocol)),
        }
    }

    /// Opens a connection that speaks HTTP/1.1: only that can become another protocol.
    pub(super) async fn connect_http1(&self) -> Result<Socket, Fault> {
        let stream = self.stream().await?;
        match &self.wrap {
            Wrap::Tls { tls, name } => {
                let mut config = ClientConfig::clone(&tls.config());
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                Ok(self.tls(stream, Arc::new(config), name).await?.0)
            }
            Wrap::Clear(_) => Ok(Socket::Clear(stream)),
        }
    }

    async fn stream(&self) -> Result<Movable, Fault> {
        match &self.place {
            Place::Tcp { host, port } => {
                let stream = self.tcp(host, *port).await?;
                // A token is a small packet, and Nagle's algorithm waits for more of them.
                stream.set_nodelay(true).map_err(|error| self.peer.unreachable(&error))?;
                Ok(stream.into())
            }
            Place::Unix(path) => match timeout(self.connect, UnixStream::connect(path)).await {
                Ok(Ok(stream)) => Ok(stream.into()),
                Ok(Err(error)) => Err(self.peer.unreachable(&error)),
                Err(_elapsed) => Err(self.peer.connect_timeout(self.connect)),
            },
        }
    }

    async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, Fault> {
        let deadline = Instant::now() + self.connect;
        let late = || self.peer.connect_timeout(self.connect);
        let resolving = timeout_at(deadline, self.resolve(host, port));
        let addresses = resolving.await.map_err(|_elapsed| late())??;
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

    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Fault> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let found = lookup_host((host, port)).await;
        let addresses: Vec<_> = found.map_err(|error| self.peer.unknown_host(&error))?.collect();
        if addresses.is_empty() {
            let nothing = io::Error::new(io::ErrorKind::NotFound, "it has no address");
            return Err(self.peer.unknown_host(&nothing));
        }
        Ok(addresses)
    }

    async fn tls(
        &self,
        stream: Movable,
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
