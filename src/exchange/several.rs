//! Calls that carry many requests: a client of `ModelStreamInfer` keeps one call open for all that it asks.
//!
//! Each message is an exchange of its own, with its own look-up, flight, record and limits, and is asked of
//! the upstream as a call of that one message: so it is known which answers are its own. They go back over
//! the client's call, message by message.
//!
//! The order is what a server's would be. One answer a request: in the order of the requests. Many (decoupled
//! models): an exchange may speak as soon as all before it have spoken or ended.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as HttpBody, Incoming};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

use super::{Body, House, Sent, call::cacheable, exchange, reading};
use crate::{
    fault::{Fault, Kind},
    front::{
        Peer,
        body::{BodyLimits, Reserved, Room, aborted, too_large, too_slow},
    },
    relay::Piece,
    wire::{Dialect, Unread, grpc},
};

/// Exchanges of one call at a time; further requests wait on the client's side.
const AT_ONCE: usize = 64;

/// Messages on their way to the client.
const PIECES: usize = 16;

/// The dialect of a call that carries many requests, if the cache may have a part in it.
pub(super) fn carried(house: &House, parts: &Parts) -> Option<Arc<dyn Dialect>> {
    if !grpc::is_protobuf(&parts.headers) {
        return None;
    }
    let upstream = house.upstreams.route(parts.uri.path(), &parts.headers, None)?;
    let (_, dialect) = cacheable(house, upstream, parts).ok()?;
    dialect.carries_many().then_some(dialect)
}

/// Answers what the call's messages ask.
pub(super) fn serve(
    door: Arc<ArcSwap<House>>,
    peer: Peer,
    parts: Parts,
    incoming: Incoming,
    dialect: Arc<dyn Dialect>,
) -> Response<Body> {
    let (out, pieces) = mpsc::channel(PIECES);
    let house = door.load_full();
    let client = Arc::new(Client { door, peer, parts, dialect, out });
    let requests = Requests::new(incoming, &house);
    house.tasks.spawn(hold(client, requests));
    let mut response = Response::new(Body::merged(pieces));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Whose call it is, and the way back.
struct Client {
    /// A call may outlive a configuration: each request meets the one that stands then.
    door: Arc<ArcSwap<House>>,
    peer: Peer,
    parts: Parts,
    dialect: Arc<dyn Dialect>,
    out: mpsc::Sender<Piece>,
}

/// The life of a call. When its client leaves, so do its exchanges.
async fn hold(client: Arc<Client>, mut requests: Requests) {
    let mut exchanges = JoinSet::new();
    let mut turns = Turns::default();
    let mut begin = |asked| one(client.clone(), asked, turns.next());
    // `step` must wait for the answers of all before it.
    let (mut asking, mut step) = (true, None);
    let end = loop {
        if exchanges.is_empty() {
            match step.take() {
                Some(asked) => drop(exchanges.spawn(begin(asked))),
                None if !asking => break grpc::trailers(Ok(())),
                None => {}
            }
        }
        let room = asking && step.is_none() && exchanges.len() < AT_ONCE;
        tokio::select! {
            () = client.out.closed() => return,
            Some(ended) = exchanges.join_next() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => break failure,
                Err(panicked) => {
                    let fault = Fault::new(Kind::Internal, panicked.to_string());
                    break grpc::trailers(Err(&fault));
                }
            },
            asked = requests.next(), if room => match asked {
                Ok(Some(asked)) if client.is_step(&asked).await => step = Some(asked),
                Ok(Some(asked)) => drop(exchanges.spawn(begin(asked))),
                Ok(None) => asking = false,
                Err(fault) => break grpc::trailers(Err(&fault)),
            },
        }
    };
    // Whoever does not listen any more need not know how it ended.
    let _ = client.out.send(Piece::End(end)).await;
}

/// One request and its answers. A failure ends the whole call, as a server's status would.
async fn one(client: Arc<Client>, asked: Bytes, mut turn: Turn) -> Result<(), HeaderMap> {
    let house = client.door.load_full();
    let body = Sent::Right(Full::new(asked.clone()));
    let response = exchange(&house, client.peer, client.parts.clone(), body).await;
    let (head, body) = response.into_parts();
    if let Some(failure) = grpc::failure(&head.headers) {
        return Err(failure);
    }
    let broken = |fault: Fault| grpc::trailers(Err(&fault));
    if head.status != StatusCode::OK {
        let status = head.status.as_u16();
        return Err(broken(Fault::new(Kind::Cut, format!("the upstream answered HTTP {status}"))));
    }
    let mut answers = Messages::new(body);
    while let Some(answer) = answers.next().await.map_err(broken)? {
        turn.wait().await;
        let piece = Piece::Data(client.dialect.readdressed(&asked, answer));
        if client.out.send(piece).await.is_err() {
            return Ok(());
        }
        turn.pass();
    }
    turn.wait().await;
    match answers.trailers.as_ref().map(grpc::failure) {
        Some(None) => Ok(()),
        Some(Some(failure)) => Err(failure),
        None => Err(broken(Fault::new(Kind::Cut, "the upstream's answer has no end"))),
    }
}

impl Client {
    /// Steps of a sequence are one computation of the server's. What is read here is remembered for the
    /// request's own exchange.
    async fn is_step(&self, asked: &Bytes) -> bool {
        let house = self.door.load_full();
        let read = reading::read(&house, &self.dialect, &self.parts, asked).await;
        matches!(read, Err(Unread::Stateful))
    }
}

// === who may speak ===

/// Hands out places in the order of the requests.
#[derive(Default)]
struct Turns(Option<oneshot::Receiver<()>>);

/// One exchange's place. The next may speak when this one has spoken, or ended in its turn.
struct Turn {
    before: Option<oneshot::Receiver<()>>,
    after: Option<oneshot::Sender<()>>,
}

impl Turns {
    fn next(&mut self) -> Turn {
        let (after, next) = oneshot::channel();
        Turn { before: self.0.replace(next), after: Some(after) }
    }
}

impl Turn {
    async fn wait(&mut self) {
        if let Some(before) = self.before.take() {
            // Its end is a word too.
            let _ = before.await;
        }
    }

    fn pass(&mut self) {
        self.after = None;
    }
}

// === messages ===

/// A body's messages, one by one, each with its five bytes.
struct Messages<B> {
    body: B,
    held: BytesMut,
    trailers: Option<HeaderMap>,
}

impl<B: HttpBody<Data = Bytes> + Unpin> Messages<B> {
    fn new(body: B) -> Self {
        Self { body, held: BytesMut::new(), trailers: None }
    }

    /// Length of the message that has begun, as soon as it is told.
    fn length(&self) -> Option<usize> {
        grpc::frame_length(&self.held)
    }

    /// A message that is here in full.
    fn take(&mut self) -> Option<Bytes> {
        let length = self.length().filter(|length| *length <= self.held.len())?;
        Some(self.held.split_to(length).freeze())
    }

    /// Reads on, and says how many bytes came; `None` at the end. Nothing is lost when this is dropped
    /// before its end.
    async fn more(&mut self) -> Result<Option<usize>, B::Error> {
        let Some(frame) = self.body.frame().await.transpose()? else { return Ok(None) };
        match frame.into_data() {
            Ok(bytes) => {
                self.held.extend_from_slice(&bytes);
                Ok(Some(bytes.len()))
            }
            Err(frame) => {
                self.trailers = frame.into_trailers().ok();
                Ok(Some(0))
            }
        }
    }
}

impl Messages<Body> {
    /// The next answer; bounded in time by whoever makes it.
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            if let Some(answer) = self.take() {
                return Ok(Some(answer));
            }
            match self.more().await? {
                Some(_) => {}
                None if self.held.is_empty() => return Ok(None),
                None => {
                    let message = "the upstream's answer ended inside a message";
                    return Err(Fault::new(Kind::Cut, message));
                }
            }
        }
    }
}

/// What a client asks: each message is bounded as a request's body is.
struct Requests {
    messages: Messages<Incoming>,
    limits: BodyLimits,
    /// How long nothing may be asked.
    silence: Duration,
    room: Room,
    reserved: Reserved,
}

impl Requests {
    fn new(incoming: Incoming, house: &House) -> Self {
        let limits = BodyLimits::from(&house.config.limits);
        let (silence, room) = (house.config.timeouts.lifetime.get(), house.bodies.clone());
        let reserved = room.reserve();
        Self { messages: Messages::new(incoming), limits, silence, room, reserved }
    }

    /// The next request; `None` where the body ended behind the last one. Nothing is lost when this is
    /// dropped before its end.
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            if self.messages.length().is_some_and(|length| length > self.limits.bytes) {
                return Err(too_large(self.limits));
            }
            if let Some(asked) = self.messages.take() {
                self.reserved = self.room.reserve();
                self.reserved.grow(self.messages.held.len())?;
                return Ok(Some(asked));
            }
            let between = self.messages.held.is_empty();
            let patience = if between { self.silence } else { self.limits.idle };
            match timeout(patience, self.messages.more()).await {
                Ok(Ok(Some(bytes))) => self.reserved.grow(bytes)?,
                Ok(Ok(None)) if between => return Ok(None),
                Ok(Ok(None) | Err(_)) => return Err(aborted()),
                Err(_) if between => return Err(silent(patience)),
                Err(_) => return Err(too_slow("body_idle", patience)),
            }
        }
    }
}

fn silent(patience: Duration) -> Fault {
    let patience = humantime::format_duration(patience);
    let message = format!("nothing was asked for {patience} (timeouts.lifetime)");
    Fault::new(Kind::BodyTimeout, message)
}
