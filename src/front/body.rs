//! Request bodies: read whole, bounded in bytes and in time; or streamed on, bounded in silence.
//!
//! What the cache handles is read to its end before the cache is asked: a hit that is served past
//! an unread body leaves that body on the connection, to be taken for the next request
//! (CVE-2025-4366).

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, timeout, timeout_at};

use crate::{
    config::Limits,
    fault::{Fault, Kind},
};

/// After a body proved too large we read on for so long, and up to the limit in bytes again, before
/// we answer: a client that is still sending sees a broken pipe instead of our 413 (hyper #2384).
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// The most of a refused request's body that is taken for the sake of its connection.
const LEFT: usize = 256 << 10;

/// What is set aside at once for a body whose length is only announced. A client must send bytes to
/// make us take more.
const FIRST_RESERVE: usize = 256 << 10;

/// How much and how slow a request body may be.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes in all.
    pub bytes: usize,
    /// Silence between two pieces.
    pub idle: Duration,
    /// From the first look to the last byte.
    pub total: Duration,
}

impl From<&Limits> for BodyLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            bytes: limits.body_bytes.bytes(),
            idle: limits.body_idle.get(),
            total: limits.body_time.get(),
        }
    }
}

/// Room for the bodies of all requests together: a limit for each alone, times as many as may be
/// inside, is more memory than anybody has. Clones are the same room.
#[derive(Clone, Debug)]
pub struct Room(Arc<Space>);

#[derive(Debug)]
struct Space {
    limit: AtomicUsize,
    taken: AtomicUsize,
}

/// What one body takes of the room. Hold it for as long as the body.
#[derive(Debug)]
pub struct Reserved {
    space: Arc<Space>,
    bytes: usize,
}

impl Room {
    /// Room for so many bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Space { limit: AtomicUsize::new(limit), taken: AtomicUsize::new(0) }))
    }

    /// Another limit from now on. What is inside stays.
    pub fn resize(&self, limit: usize) {
        self.0.limit.store(limit, Relaxed);
    }

    /// Bytes in use.
    pub fn taken(&self) -> usize {
        self.0.taken.load(Relaxed)
    }

    /// Nothing of it yet.
    pub fn reserve(&self) -> Reserved {
        Reserved { space: Arc::clone(&self.0), bytes: 0 }
    }
}

impl Reserved {
    /// Takes so many bytes more.
    ///
    /// # Errors
    /// [`Kind::Overloaded`]: the room is full.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Fault> {
        let taken = self.space.taken.fetch_add(bytes, Relaxed) + bytes;
        self.bytes += bytes;
        if taken > self.space.limit.load(Relaxed) {
            let full = "too many request bodies at once (limits.bodies_bytes); try again";
            return Err(Fault::new(Kind::Overloaded, full)
                .safe_to_retry()
                .retry_after(Duration::from_secs(1)));
        }
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.space.taken.fetch_sub(self.bytes, Relaxed);
    }
}

/// All bytes of `body`; trailers are ignored. A body that came in one piece is not copied.
///
/// `headers` are the request's: a client that said `Expect: 100-continue` has not sent anything yet
/// and gets its refusal without being asked to.
///
/// Errors: [`Kind::BodyTooLarge`], [`Kind::BodyTimeout`], [`Kind::BodyAborted`], and
/// [`Kind::Overloaded`] when `room` is full. The caller answers
/// at once: hyper does not notice by itself that a client has left in the middle of its own body.
pub async fn read_whole<B>(
    headers: &HeaderMap,
    mut body: B,
    limits: BodyLimits,
    room: &Room,
) -> Result<(Bytes, Reserved), Fault>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = body.size_hint().lower();
    if announced > limits.bytes as u64 {
        if !headers.contains_key(header::EXPECT) {
            discard(&mut body, limits.bytes).await;
        }
        return Err(too_large(limits));
    }
    let deadline = Instant::now() + limits.total;
    let (mut whole, mut reserved) = (Whole::Nothing, room.reserve());
    loop {
        let patience = deadline.min(Instant::now() + limits.idle);
        let piece = match timeout_at(patience, body.frame()).await {
            Ok(None) => return Ok((whole.finish(), reserved)),
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            Ok(Some(Err(_))) => return Err(aborted()),
            Err(_) if Instant::now() >= deadline => {
                return Err(too_slow("body_time", limits.total));
            }
            Err(_) => return Err(too_slow("body_idle", limits.idle)),
        };
        if whole.len() + piece.len() > limits.bytes {
            drop(whole);
            discard(&mut body, limits.bytes).await;
            return Err(too_large(limits));
        }
        reserved.grow(piece.len())?;
        whole = whole.with(piece, usize::try_from(announced).unwrap_or(0));
    }
}

/// Takes what a refused request is still sending of its body, if that is little: hyper closes a
/// connection with an unread body on it without a word, and the client sends its next request there.
pub async fn leave<B>(headers: &HeaderMap, mut body: B)
where
    B: Body<Data = Bytes> + Unpin,
{
    if !headers.contains_key(header::EXPECT) {
        discard(&mut body, LEFT).await;
    }
}

/// The client's body broke off.
pub fn aborted() -> Fault {
    Fault::new(Kind::BodyAborted, "the request body ended before it was complete or was malformed")
}

/// The client's body is beyond its limit.
pub fn too_large(limits: BodyLimits) -> Fault {
    let limit = limits.bytes;
    Fault::new(
        Kind::BodyTooLarge,
        format!("the request body is larger than limits.body_bytes ({limit} bytes)"),
    )
}

/// The client's body was too slow for the limit of this name.
pub fn too_slow(key: &str, limit: Duration) -> Fault {
    let limit = humantime::format_duration(limit);
    Fault::new(
        Kind::BodyTimeout,
        format!("the request body took longer than limits.{key} ({limit})"),
    )
}

/// Reads and forgets what a client is still sending, within bounds.
async fn discard<B: Body<Data = Bytes> + Unpin>(body: &mut B, bytes: usize) {
    let reading = async {
        let mut left = bytes;
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    let _ = timeout(DISCARD_TIME, reading).await;
}

/// What has been read so far. Most bodies come in one piece, which is then the result itself.
enum Whole {
    Nothing,
    One(Bytes),
    Joined(BytesMut),
}

impl Whole {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::One(piece) => piece.len(),
            Self::Joined(pieces) => pieces.len(),
        }
    }

    fn with(self, piece: Bytes, announced: usize) -> Self {
        if piece.is_empty() {
            return self;
        }
        match self {
            Self::Nothing => Self::One(piece),
            Self::One(first) => {
                let known = first.len() + piece.len();
                let mut joined =
                    BytesMut::with_capacity(known.max(announced.min(known + FIRST_RESERVE)));
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&piece);
                Self::Joined(joined)
            }
            Self::Joined(mut joined) => {
                joined.extend_from_slice(&piece);
                Self::Joined(joined)
            }
        }
    }

    fn finish(self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::One(piece) => piece,
            Self::Joined(joined) => joined.freeze(),
        }
    }
}

/// A request body on its way to an upstream, frame by frame, trailers too. Fails with
/// [`Kind::BodyTimeout`] when the client is silent for longer than `idle` while we want more (time
/// that the upstream takes to accept is not the client's), and with [`Kind::BodyAborted`].
#[derive(Debug)]
pub struct Upload<B> {
    body: B,
    idle: Duration,
    /// Made at the first silence; most bodies never pause.
    timer: Option<Pin<Box<Sleep>>>,
    silent: bool,
}

impl<B> Upload<B> {
    /// Streams `body`.
    pub const fn new(body: B, idle: Duration) -> Self {
        Self { body, idle, timer: None, silent: false }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Upload<B> {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Self { body, idle, timer, silent } = &mut *self;
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            *silent = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(|_| aborted())));
        }
        let deadline = Instant::now() + *idle;
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if !*silent {
            timer.as_mut().reset(deadline);
            *silent = true;
        }
        ready!(timer.as_mut().poll(context));
        let silence = humantime::format_duration(*idle);
        Poll::Ready(Some(Err(Fault::new(
            Kind::BodyTimeout,
            format!("nothing of the request body came for {silence}"),
        ))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
