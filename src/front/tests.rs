//! This room over real sockets: a [`Front`] with a handler that does what the path says.

mod drain;
mod limits;
mod protocols;

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Notify, Semaphore},
    task::JoinHandle,
};

use super::{body::BodyLimits, *};
use crate::config::{self, Overrides, Size, Span, Trusted};

/// A front under test and the strings to pull.
struct Served {
    addresses: Vec<Address>,
    signals: Signals,
    tally: Arc<Tally>,
    stage: Arc<Stage>,
    task: JoinHandle<Drained>,
}

/// What the handler and a test share.
struct Stage {
    requests: AtomicUsize,
    /// A request to `/wait` has come.
    waiting: Notify,
    /// Lets one request to `/wait` go on.
    go: Semaphore,
    /// A body of `/endless` was dropped.
    dropped: Notify,
}

fn settings() -> Config {
    let overrides = Overrides {
        upstream: Some("http://127.0.0.1:1".into()),
        listen: Some("127.0.0.1:0".into()),
        ..Overrides::default()
    };
    config::load(None, &BTreeMap::new(), &overrides).unwrap()
}

fn millis(duration: u64) -> Span {
    Span(Duration::from_millis(duration))
}

async fn serve(config: &Config) -> Served {
    let front = Front::bind(config, &mut Inherited::none()).await.unwrap();
    let stage = Arc::new(Stage {
        requests: AtomicUsize::new(0),
        waiting: Notify::new(),
        go: Semaphore::new(0),
        dropped: Notify::new(),
    });
    let (addresses, tally, signals) = (front.addresses(), front.tally(), Signals::default());
    let handler = ByPath { stage: Arc::clone(&stage), limits: BodyLimits::from(&config.limits) };
    let task = tokio::spawn(front.serve(handler, signals.clone()));
    Served { addresses, signals, tally, stage, task }
}

impl Served {
    fn tcp(&self) -> SocketAddr {
        match self.addresses[0] {
            Address::Http(address) | Address::Https(address) => address,
            Address::Unix(_) => panic!("not TCP"),
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.tcp()).await.unwrap()
    }

    /// Sends `bytes` on a connection of its own and reads until the server closes it.
    async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect().await;
        client.write_all(bytes.as_ref()).await.unwrap();
        until_closed(&mut client).await
    }

    fn requests(&self) -> usize {
        self.stage.requests.load(Ordering::SeqCst)
    }

    async fn drained(&mut self) -> Drained {
        soon(&mut self.task).await.unwrap()
    }
}

/// What never comes fails its test instead of hanging it.
async fn soon<F: Future>(coming: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), coming).await.expect("it should have come by now")
}

/// Everything until the server closes, gently or not.
async fn until_closed(client: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut said = Vec::new();
    let _ = soon(client.read_to_end(&mut said)).await;
    String::from_utf8_lossy(&said).into_owned()
}

/// One response with a `Content-Length`, as text, from a connection that stays open.
async fn one_response(client: &mut TcpStream) -> String {
    let mut said = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&said).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        assert_ne!(soon(client.read_buf(&mut said)).await.unwrap(), 0, "closed after {text:?}");
    }
}

struct ByPath {
    stage: Arc<Stage>,
    limits: BodyLimits,
}

type TestBody = UnsyncBoxBody<Bytes, Fault>;

fn text(text: impl Into<Bytes>) -> TestBody {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

impl Handler for ByPath {
    type Body = TestBody;

    async fn handle(&self, peer: Peer, request: Request<Incoming>) -> Response<TestBody> {
        self.stage.requests.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer(peer, request).await;
        answer.unwrap_or_else(|fault| {
            let mut response = Response::new(text(fault.plain_json()));
            *response.status_mut() = fault.kind.status();
            response
        })
    }
}

impl ByPath {
    async fn answer(
        &self,
        peer: Peer,
        request: Request<Incoming>,
    ) -> Result<Response<TestBody>, Fault> {
        let (mut parts, body) = request.into_parts();
        hygiene::request(&mut parts, &peer, &Trusted::default())?;
        let said = match parts.uri.path() {
            "/peer" => text(format!("{:?} {:?} {:?}", parts.version, peer.origin, peer.tls)),
            "/echo" => {
                let room = body::Room::new(1 << 30);
                text(body::read_whole(&parts.headers, body, self.limits, &room).await?.0)
            }
            "/wait" => {
                self.stage.waiting.notify_one();
                self.stage.go.acquire().await.unwrap().forget();
                text("waited")
            }
            "/endless" => Endless(Arc::clone(&self.stage)).boxed_unsync(),
            "/broken" => StreamBody::new(futures_util::stream::iter([
                Ok(Frame::data(Bytes::from_static(b"half"))),
                Err(Fault::new(crate::fault::Kind::Cut, "the upstream broke off")),
            ]))
            .boxed_unsync(),
            _ => text("hello"),
        };
        Ok(Response::new(said))
    }
}

/// A body without end that says when it is dropped.
struct Endless(Arc<Stage>);

impl Body for Endless {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 16 << 10])))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.dropped.notify_one();
    }
}
