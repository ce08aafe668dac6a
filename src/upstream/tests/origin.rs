//! A model server that does exactly what a test says.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::{Bytes, BytesMut};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

pub(super) struct Origin {
    pub(super) listener: TcpListener,
}

impl Origin {
    pub(super) async fn bind() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    /// Answers `status` (and maybe headers) with a length and `body`.
    pub(super) fn answering(self, status: &str, body: &str) -> Answering {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let task = tokio::spawn(async move {
            let mut lines = JoinSet::new();
            loop {
                let mut line = self.accept().await;
                let (answer, count) = (answer.clone(), count.clone());
                lines.spawn(async move {
                    while line.next_request().await.is_some() {
                        count.fetch_add(1, Relaxed);
                        line.say(&answer).await;
                    }
                });
            }
        });
        Answering { asked, _running: Running { _task: AbortOnDropHandle::new(task) } }
    }

    pub(super) async fn accept(&self) -> Line<TcpStream> {
        let (stream, _) = self.listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        Line { stream, read: BytesMut::new() }
    }

    pub(super) async fn accept_h2(&self) -> h2::server::Connection<TcpStream, Bytes> {
        let (stream, _) = self.listener.accept().await.unwrap();
        h2::server::handshake(stream).await.unwrap()
    }
}

/// Something that goes on in the background, until this is dropped.
pub(super) struct Running {
    _task: AbortOnDropHandle<()>,
}

/// An origin that answers every request alike, until this is dropped.
pub(super) struct Answering {
    /// Requests so far.
    pub(super) asked: Arc<AtomicUsize>,
    _running: Running,
}

/// Keeps a connection going when the script has nothing more to accept.
pub(super) fn serve_on<S>(mut server: h2::server::Connection<S, Bytes>) -> Running
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let task = tokio::spawn(async move { while let Some(Ok(_)) = server.accept().await {} });
    Running { _task: AbortOnDropHandle::new(task) }
}

/// A replica that is down: its port is taken, so that nobody else gets it, and refuses.
pub(super) struct Dead(Socket);

impl Dead {
    pub(super) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
        socket.bind(&any.into()).unwrap();
        Self(socket)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap().as_socket().unwrap())
    }

    pub(super) fn revive(self) -> Origin {
        self.0.listen(128).unwrap();
        self.0.set_nonblocking(true).unwrap();
        Origin { listener: TcpListener::from_std(self.0.into()).unwrap() }
    }
}

/// One accepted connection.
pub(super) struct Line<S> {
    pub(super) stream: S,
    read: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    pub(super) fn over(stream: S) -> Self {
        Self { stream, read: BytesMut::new() }
    }

    /// A request's head, up to and with the empty line.
    pub(super) async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                return String::from_utf8(self.read.split_to(end + 4).to_vec()).unwrap();
            }
            assert_ne!(self.more().await, 0, "closed inside a head");
        }
    }

    /// A whole request, or `None` if the other side closed instead.
    pub(super) async fn next_request(&mut self) -> Option<(String, String)> {
        if self.read.is_empty() && self.stream.read_buf(&mut self.read).await.unwrap_or(0) == 0 {
            return None;
        }
        Some(self.request().await)
    }

    /// A whole request with `Content-Length` or without a body: head and body.
    pub(super) async fn request(&mut self) -> (String, String) {
        let head = self.head().await;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |value| value.parse().unwrap());
        let body = self.bytes(length).await;
        (head, String::from_utf8(body.to_vec()).unwrap())
    }

    pub(super) async fn bytes(&mut self, count: usize) -> BytesMut {
        while self.read.len() < count {
            assert_ne!(self.more().await, 0, "closed inside a body");
        }
        self.read.split_to(count)
    }

    pub(super) async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Answers 200 with a length.
    pub(super) async fn answer(&mut self, body: &str) {
        let length = body.len();
        self.say(&format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")).await;
    }

    /// Returns once the other side has closed or reset the connection.
    pub(super) async fn closed(&mut self) {
        while let Ok(1..) = self.stream.read_buf(&mut self.read).await {
            self.read.clear();
        }
    }

    async fn more(&mut self) -> usize {
        self.stream.read_buf(&mut self.read).await.unwrap()
    }
}

/// Returns after the reactor has told all sockets what the kernel knew when this was called.
pub(super) async fn reactor_turn() {
    for _ in 0..2 {
        let origin = Origin::bind().await;
        let address = origin.listener.local_addr().unwrap();
        let (_, connected) = tokio::join!(origin.accept(), TcpStream::connect(address));
        connected.unwrap();
    }
}
