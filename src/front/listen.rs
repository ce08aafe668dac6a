//! Binding: TCP and unix listeners, every one before any of them serves.

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use super::{Address, Inherited, Origin, tls::TlsError};
use crate::config::Listen;

/// Connections that the kernel holds for us while we are at `limits.connections` or starting up.
/// The kernel caps it at `net.core.somaxconn`, 4096 on today's Linux.
const BACKLOG: u32 = 4096;

/// The socket file's mode: its owner and group may connect, others may not.
const SOCKET_MODE: u32 = 0o660;

/// How long a socket file's owner may take to accept our probe before it counts as alive. A full
/// backlog makes `connect` wait; only a refused connect proves that nobody is there.
const PROBE_TIME: Duration = Duration::from_secs(1);

/// Dead peers behind a silent network are found after 60 s + 4 x 15 s = two minutes: below the
/// usual 350 s of cloud NAT tables, above what a phone loses to a tunnel.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Why a listener could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A TCP address.
    #[error("{key}: cannot listen on {address}: {source}")]
    Tcp {
        /// The configuration key.
        key: &'static str,
        /// The address it names.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A unix socket.
    #[error("listen.unix: cannot listen on {}: {source}", path.display())]
    Unix {
        /// The path it names.
        path: PathBuf,
        /// What the system said, or what is in the way.
        source: io::Error,
    },
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// One bound listener.
#[derive(Debug)]
pub(super) enum Listener {
    Http(TcpListener, SocketAddr),
    Https(TcpListener, SocketAddr),
    Unix {
        listener: UnixListener,
        path: PathBuf,
        /// Ours to remove, unless a service manager made it.
        _file: Option<SocketFile>,
    },
}

/// One accepted connection.
pub(super) enum Accepted {
    Tcp(TcpStream),
    Tls(TcpStream),
    Unix(UnixStream),
}

/// Binds everything but the admin listener, or takes what was handed over for it. On an error what
/// was bound is dropped again.
pub(super) async fn bind_all(
    listen: &Listen,
    inherited: &mut Inherited,
) -> Result<Vec<Listener>, BindError> {
    let mut bound = Vec::new();
    if let Some(address) = listen.http {
        let (listener, real) = tcp("listen.http", address, inherited)?;
        bound.push(Listener::Http(listener, real));
    }
    if let Some(address) = listen.https {
        let (listener, real) = tcp("listen.https", address, inherited)?;
        bound.push(Listener::Https(listener, real));
    }
    if let Some(path) = &listen.unix {
        let failed = |source| BindError::Unix { path: path.clone(), source };
        let (listener, _file) = match inherited.take_unix(path) {
            Some(handed) => (UnixListener::from_std(handed).map_err(failed)?, None),
            None => unix(path).await.map(|(bound, file)| (bound, Some(file))).map_err(failed)?,
        };
        bound.push(Listener::Unix { listener, path: path.clone(), _file });
    }
    Ok(bound)
}

fn tcp(
    key: &'static str,
    address: SocketAddr,
    inherited: &mut Inherited,
) -> Result<(TcpListener, SocketAddr), BindError> {
    let mut bind = || {
        if let Some(handed) = inherited.take_tcp(address) {
            return Ok((TcpListener::from_std(handed)?, address));
        }
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for the old process's connections in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let real = listener.local_addr()?;
        Ok((listener, real))
    };
    bind().map_err(|source| BindError::Tcp { key, address, source })
}

async fn unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    remove_stale(path).await?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::new(path)?;
    // Between bind and listen every connect is refused, so nobody slips in under the umask's mode.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    #[expect(clippy::cast_possible_wrap, reason = "4096")]
    socket.listen(BACKLOG as i32)?;
    let listener = std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(socket));
    Ok((UnixListener::from_std(listener)?, file))
}

/// Clears the way for a new socket file: only a socket that refuses connections is removed. A file
/// of another kind, or a socket that somebody still answers on, is an error.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket is in the way; move it or choose another path",
        ));
    }
    match tokio::time::timeout(PROBE_TIME, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "removing the socket file of a dead process");
            std::fs::remove_file(path)
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process answers on this socket; stop it or choose another path",
        )),
    }
}

/// Our socket file, removed on drop unless another process has put its own in its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.into(), inode: std::fs::symlink_metadata(path)?.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|at| at.ino() == self.inode);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket file");
        }
    }
}

// === impl Listener ===

impl Listener {
    pub(super) fn address(&self) -> Address {
        match self {
            Self::Http(_, address) => Address::Http(*address),
            Self::Https(_, address) => Address::Https(*address),
            Self::Unix { path, .. } => Address::Unix(path.clone()),
        }
    }

    /// The next connection. Cancel safe.
    pub(super) async fn accept(&self) -> io::Result<(Accepted, Origin)> {
        match self {
            Self::Http(listener, _) => {
                let (stream, from) = tuned(listener.accept().await?);
                Ok((Accepted::Tcp(stream), Origin::Tcp(from)))
            }
            Self::Https(listener, _) => {
                let (stream, from) = tuned(listener.accept().await?);
                Ok((Accepted::Tls(stream), Origin::Tcp(from)))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Accepted::Unix(stream), Origin::Unix))
            }
        }
    }
}

/// Sets what every client connection needs. Failures are logged and lived with: the peer may be
/// gone already, and a connection without them still works.
fn tuned((stream, from): (TcpStream, SocketAddr)) -> (TcpStream, SocketAddr) {
    // Without it Nagle's algorithm holds each token until the last one is acknowledged.
    let nodelay = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    let keepalive = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    if let Err(error) = nodelay.and(keepalive) {
        tracing::debug!(%error, "cannot tune a client connection");
    }
    (stream, SocketAddr::new(from.ip().to_canonical(), from.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Trusted;

    fn nowhere() -> Listen {
        Listen {
            http: None,
            https: None,
            unix: None,
            admin: None,
            trusted: Trusted::default(),
            proxy_protocol: false,
        }
    }

    #[tokio::test]
    async fn port_zero_is_resolved_and_a_taken_port_names_its_key() {
        let listen = Listen { http: Some(([127, 0, 0, 1], 0).into()), ..nowhere() };
        let bound = bind_all(&listen, &mut Inherited::none()).await.unwrap();
        let Address::Http(real) = bound[0].address() else { panic!("not http") };
        assert_ne!(real.port(), 0);
        let error = bind_all(&Listen { http: Some(real), ..nowhere() }, &mut Inherited::none())
            .await
            .unwrap_err();
        assert!(
            error.to_string().starts_with("listen.http: cannot listen on 127.0.0.1:"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_socket_file_has_mode_0660_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let bound =
            bind_all(&Listen { unix: Some(path.clone()), ..nowhere() }, &mut Inherited::none())
                .await
                .unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        drop(bound);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn only_a_dead_socket_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listen = Listen { unix: Some(path.clone()), ..nowhere() };

        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let alive = bind_all(&listen, &mut Inherited::none()).await.unwrap();
        let error = bind_all(&listen, &mut Inherited::none()).await.unwrap_err();
        assert!(error.to_string().contains("another process answers"), "{error}");
        assert!(path.exists(), "the living socket stays");
        drop(alive);

        std::fs::write(&path, "precious").unwrap();
        let error = bind_all(&listen, &mut Inherited::none()).await.unwrap_err();
        assert!(error.to_string().contains("not a socket"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_successors_socket_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let ours =
            bind_all(&Listen { unix: Some(path.clone()), ..nowhere() }, &mut Inherited::none())
                .await
                .unwrap();
        // Made beside ours, so that the two cannot have the same inode.
        let beside = folder.path().join("t");
        let _successor = std::os::unix::net::UnixListener::bind(&beside).unwrap();
        std::fs::rename(&beside, &path).unwrap();
        drop(ours);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_an_error_not_a_panic() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(300)));
        let error = bind_all(&Listen { unix: Some(path), ..nowhere() }, &mut Inherited::none())
            .await
            .unwrap_err();
        assert!(error.to_string().starts_with("listen.unix: "), "{error}");
    }

    #[tokio::test]
    async fn a_socket_that_was_handed_over_is_used_for_its_address_and_outlives_us() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let listen = Listen { http: Some(address), unix: Some(path.clone()), ..nowhere() };
        let (kept, other) = (tcp.try_clone().unwrap(), unix.try_clone().unwrap());
        let mut inherited = Inherited::of(vec![kept], vec![other]);
        let bound = bind_all(&listen, &mut inherited).await.unwrap();
        assert!(inherited.is_empty());
        assert_eq!(bound[0].address(), Address::Http(address));
        drop(bound);
        assert!(path.exists(), "the service manager's file stays");
        // Still listening: this would be refused otherwise.
        TcpStream::connect(address).await.unwrap();
        UnixStream::connect(&path).await.unwrap();
    }
}
