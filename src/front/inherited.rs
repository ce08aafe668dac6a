//! Sockets that a service manager opened for us (systemd's `LISTEN_FDS`).
//!
//! They stay open while one process follows another, so that clients wait in the backlog instead of
//! being refused. Each is told by its address: the configuration says what it is for.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
};

use listenfd::ListenFd;

/// Sockets that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited {
    tcp: Vec<(TcpListener, SocketAddr)>,
    unix: Vec<(UnixListener, PathBuf)>,
}

impl Inherited {
    /// No sockets.
    pub fn none() -> Self {
        Self::default()
    }

    /// What the environment hands over. To be called once.
    ///
    /// # Errors
    /// A descriptor that is no listening stream socket.
    pub fn from_env() -> io::Result<Self> {
        let mut handed = ListenFd::from_env();
        let mut all = Self::default();
        for place in 0..handed.len() {
            if let Ok(Some(listener)) = handed.take_tcp_listener(place) {
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                all.tcp.push((listener, address));
            } else if let Some(listener) = handed.take_unix_listener(place)? {
                listener.set_nonblocking(true)?;
                let path = listener.local_addr()?.as_pathname().map(Path::to_owned);
                all.unix.push((listener, path.unwrap_or_default()));
            }
        }
        Ok(all)
    }

    /// These.
    #[cfg(test)]
    pub(super) fn of(tcp: Vec<TcpListener>, unix: Vec<UnixListener>) -> Self {
        let tcp = tcp.into_iter().map(|one| {
            one.set_nonblocking(true).unwrap();
            let address = one.local_addr().unwrap();
            (one, address)
        });
        let unix = unix.into_iter().map(|one| {
            one.set_nonblocking(true).unwrap();
            let path = one.local_addr().unwrap().as_pathname().unwrap().to_owned();
            (one, path)
        });
        Self { tcp: tcp.collect(), unix: unix.collect() }
    }

    /// The one that listens on `address`.
    pub fn take_tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.tcp.iter().position(|(_, known)| *known == address)?;
        Some(self.tcp.swap_remove(at).0)
    }

    pub(super) fn take_unix(&mut self, path: &Path) -> Option<UnixListener> {
        let at = self.unix.iter().position(|(_, known)| known == path)?;
        Some(self.unix.swap_remove(at).0)
    }

    /// Whether all were taken.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.unix.is_empty()
    }
}

impl fmt::Display for Inherited {
    /// What is left.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tcp = self.tcp.iter().map(|(_, address)| address.to_string());
        let unix = self.unix.iter().map(|(_, path)| path.display().to_string());
        out.write_str(&tcp.chain(unix).collect::<Vec<_>>().join(", "))
    }
}
