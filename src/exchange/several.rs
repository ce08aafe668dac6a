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
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as HttpBody, Incoming};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

use super::{Body, House, Sent, call::call, exchange};
use crate::{
    fault::{Fault, Kind},
    front::{
        Peer,
        body::{BodyLimits, Reserved, Room, aborted, too_large, too_slow},
    },
    relay::Piece,
    wire::{Dialect, grpc},
};

/// Exchanges of one call at a time; further requests wait on the client's side.
const AT_ONCE: usize = 64;

/// Messages on their way to the client.
const PIECES: usize = 16;

/// The dialect of a call that carries many requests.
pub(super) fn carried(house: &House, parts: &Parts) -> Option<Arc<dyn Dialect>> {
    if !grpc::is_call(&parts.headers) || parts.method != Method::POST || !house.config.cache.enabled
    {
        return None;
    }
    let upstream = house.upstreams.route(parts.uri.path(), &parts.headers, None)?;
    let dialect = upstream.dialects().at(parts.uri.path())?;
    (dialect.many().is_some() && grpc::is_protobuf(&parts.headers)).then(|| dialect.clone())
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
    let messages = Messages::asked(incoming, &house);
    house.tasks.spawn(hold(client, messages));
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
async fn hold(client: Arc<Client>, mut messages: Messages<Incoming>) {
    let mut exchanges = JoinSet::new();
    let mut turns = Turns::default();
    let (mut asking, mut next) = (true, None::<Bytes>);
    let end = loop {
        if let Some(asked) = next.take() {
            if client.waits(&asked) && !exchanges.is_empty() {
                next = Some(asked);
            } else {
                exchanges.spawn(one(client.clone(), asked, turns.next()));
            }
        }
        if !asking && next.is_none() && exchanges.is_empty() {
            break grpc::trailers(Ok(()));
        }
        let room = asking && next.is_none() && exchanges.len() < AT_ONCE;
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
            message = messages.next(), if room => match message {
                Ok(Some(message)) => next = Some(message),
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
    let mut answers = Messages::answers(body, &house);
    while let Some(answer) = answers.next().await.map_err(broken)? {
        turn.wait().await;
        let Some(many) = client.dialect.many() else { break };
        let piece = Piece::Data(many.readdressed(&asked, answer));
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
    fn waits(&self, asked: &[u8]) -> bool {
        let house = self.door.load();
        let call = call(&house, &self.parts, asked);
        self.dialect.many().is_some_and(|many| many.waits(call))
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
struct Messages<B: HttpBody> {
    body: B,
    fault: fn(B::Error) -> Fault,
    /// It ended inside a message.
    cut: fn() -> Fault,
    held: BytesMut,
    limits: BodyLimits,
    /// How long nothing may come between two messages.
    silence: Duration,
    room: Room,
    reserved: Reserved,
    trailers: Option<HeaderMap>,
}

impl Messages<Incoming> {
    /// What a client asks: a message is bounded as a request's body is.
    fn asked(body: Incoming, house: &House) -> Self {
        let limits = BodyLimits::from(&house.config.limits);
        Self::new(body, |_| aborted(), aborted, limits, house)
    }
}

impl Messages<Body> {
    /// What is answered: bounded in time by whoever makes it.
    fn answers(body: Body, house: &House) -> Self {
        let limits = BodyLimits { bytes: usize::MAX, idle: Duration::MAX, total: Duration::MAX };
        let cut = || Fault::new(Kind::Cut, "the upstream's answer ended inside a message");
        Self { silence: Duration::MAX, ..Self::new(body, |fault| fault, cut, limits, house) }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> Messages<B> {
    fn new(
        body: B,
        fault: fn(B::Error) -> Fault,
        cut: fn() -> Fault,
        limits: BodyLimits,
        house: &House,
    ) -> Self {
        let (room, silence) = (house.bodies.clone(), house.config.timeouts.lifetime.get());
        let reserved = room.reserve();
        let (held, trailers) = (BytesMut::new(), None);
        Self { body, fault, cut, held, limits, silence, room, reserved, trailers }
    }

    /// The next message; `None` where the body ended behind the last one. Nothing is lost when this is
    /// dropped before its end.
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let length = grpc::frame_length(&self.held);
            if length.is_some_and(|length| length > self.limits.bytes) {
                return Err(too_large(self.limits));
            }
            if let Some(length) = length.filter(|length| *length <= self.held.len()) {
                let message = self.held.split_to(length).freeze();
                self.reserved = self.room.reserve();
                self.reserved.grow(self.held.len())?;
                return Ok(Some(message));
            }
            let between = self.held.is_empty();
            let patience = if between { self.silence } else { self.limits.idle };
            let frame = match timeout(patience, self.body.frame()).await {
                Ok(Some(frame)) => frame.map_err(self.fault)?,
                Ok(None) if between => return Ok(None),
                Ok(None) => return Err((self.cut)()),
                Err(_) if between => return Err(silent(patience)),
                Err(_) => return Err(too_slow("body_idle", patience)),
            };
            match frame.into_data() {
                Ok(bytes) => {
                    self.reserved.grow(bytes.len())?;
                    self.held.extend_from_slice(&bytes);
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
    }
}

fn silent(patience: Duration) -> Fault {
    let patience = humantime::format_duration(patience);
    let message = format!("nothing was asked for {patience} (timeouts.lifetime)");
    Fault::new(Kind::BodyTimeout, message)
}
