//! A socket whose events follow whoever uses it.
//!
//! A socket's events come to the runtime that opened it. Idle connections are shared by all lanes,
//! and a lane that waits for the events of another one is woken across threads for each of them: two
//! context switches more than the exchange itself costs. So the socket moves to the runtime of the
//! next exchange (two `epoll_ctl` calls) whenever that is another one.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    runtime::{Handle, Id},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Movable {
    stream: Stream,
    /// Set between two exchanges; the next poll moves the socket.
    moves: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// A move failed: what it left is closed.
    Lost,
}

/// Asks for a move, from outside the layers that own the socket.
#[derive(Debug)]
pub(super) struct Mover {
    moves: Arc<AtomicBool>,
    home: Id,
}

impl Mover {
    /// Whether the socket's events come to the runtime that this is called on.
    pub(super) fn is_here(&self) -> bool {
        self.home == Handle::current().id()
    }

    /// Lets them come here from the next poll on. Nobody may be waiting for them, which is so
    /// between two exchanges.
    pub(super) fn here(&mut self) {
        self.home = Handle::current().id();
        self.moves.store(true, Ordering::Release);
    }
}

impl From<TcpStream> for Movable {
    fn from(stream: TcpStream) -> Self {
        Self { stream: Stream::Tcp(stream), moves: Arc::default() }
    }
}

impl From<UnixStream> for Movable {
    fn from(stream: UnixStream) -> Self {
        Self { stream: Stream::Unix(stream), moves: Arc::default() }
    }
}

impl Movable {
    /// Called on the runtime that opened it.
    pub(super) fn mover(&self) -> Mover {
        Mover { moves: Arc::clone(&self.moves), home: Handle::current().id() }
    }

    /// The stream, with its events coming here.
    fn stream(&mut self) -> io::Result<&mut Stream> {
        if self.moves.load(Ordering::Acquire) {
            self.moves.store(false, Ordering::Release);
            self.stream = match std::mem::replace(&mut self.stream, Stream::Lost) {
                Stream::Tcp(tcp) => Stream::Tcp(TcpStream::from_std(tcp.into_std()?)?),
                Stream::Unix(unix) => Stream::Unix(UnixStream::from_std(unix.into_std()?)?),
                Stream::Lost => Stream::Lost,
            };
        }
        Ok(&mut self.stream)
    }
}

impl AsyncRead for Movable {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut().stream()? {
            Stream::Tcp(socket) => Pin::new(socket).poll_read(cx, buffer),
            Stream::Unix(socket) => Pin::new(socket).poll_read(cx, buffer),
            Stream::Lost => lost(),
        }
    }
}

impl AsyncWrite for Movable {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut().stream()? {
            Stream::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Stream::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
            Stream::Lost => lost(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut().stream()? {
            Stream::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, buffers),
            Stream::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, buffers),
            Stream::Lost => lost(),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Unix(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Lost => lost(),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Lost => Poll::Ready(Ok(())),
        }
    }
}

fn lost<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        runtime::{Builder, Runtime},
    };

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// Without the move the read below would wait for ever: nobody turns the first runtime.
    #[test]
    fn after_a_move_the_first_runtime_is_not_needed() {
        let (first, second) = (runtime(), runtime());
        let (socket, mut mover, mut other) = first.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (other, _) = listener.accept().await.unwrap();
            let socket = Movable::from(socket);
            let mover = socket.mover();
            (socket, mover, other.into_std().unwrap())
        });
        let (told, heard) = mpsc::channel();
        let reading = thread::spawn(move || {
            second.block_on(async {
                mover.here();
                let mut socket = socket;
                socket.write_all(b"ask").await.unwrap();
                let mut answer = [0; 6];
                socket.read_exact(&mut answer).await.unwrap();
                told.send(answer).unwrap();
            });
        });
        let mut asked = [0; 3];
        other.set_nonblocking(false).unwrap();
        std::io::Read::read_exact(&mut other, &mut asked).unwrap();
        std::io::Write::write_all(&mut other, b"answer").unwrap();
        let answer = heard.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
        assert_eq!((&asked, &answer), (b"ask", b"answer"));
        reading.join().unwrap();
        drop(first);
    }
}
