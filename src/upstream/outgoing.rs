//! Request bodies on their way to a replica, and how far they have come.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

use crate::fault::{Fault, Kind};

/// A request body.
#[derive(Debug)]
pub enum Outgoing {
    /// All of it, in memory: it can be sent again where that is safe.
    Whole(Bytes),
    /// As it comes from the client: it can be sent once.
    Stream(BoxBody<Bytes, Fault>),
}

/// What hyper reads: a body that tells how far it is and that can be called back.
pub(super) enum Upload {
    Whole(Bytes),
    Stream(BoxBody<Bytes, Fault>, Arc<Progress>),
}

impl From<Outgoing> for Upload {
    fn from(body: Outgoing) -> Self {
        match body {
            Outgoing::Whole(bytes) => Self::Whole(bytes),
            Outgoing::Stream(stream) => Self::Stream(stream, Arc::new(Progress::new())),
        }
    }
}

impl Upload {
    /// A second copy, where there can be one.
    pub(super) fn copy(&self) -> Option<Self> {
        match self {
            Self::Whole(bytes) => Some(Self::Whole(bytes.clone())),
            Self::Stream(..) => None,
        }
    }

    /// Watches the rest of a streamed body after hyper took it.
    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        match self {
            Self::Whole(_) => None,
            Self::Stream(_, progress) => Some(Arc::clone(progress)),
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(stream, progress) => {
                if progress.is_cancelled(cx) {
                    return Poll::Ready(Some(Err(Fault::new(
                        Kind::Reset,
                        "the exchange ended before the request was sent",
                    ))));
                }
                let polled = Pin::new(stream).poll_frame(cx);
                match &polled {
                    Poll::Ready(Some(Err(fault))) => progress.failed(fault),
                    Poll::Ready(_) => progress.moved(),
                    Poll::Pending => {}
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(stream, _) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(stream, _) => stream.size_hint(),
        }
    }
}

/// A second request, where there can be one: once sent, the first is hyper's.
pub(super) fn copy(request: &Request<Upload>) -> Option<Request<Upload>> {
    let mut copied = Request::new(request.body().copy()?);
    request.method().clone_into(copied.method_mut());
    request.uri().clone_into(copied.uri_mut());
    request.headers().clone_into(copied.headers_mut());
    Some(copied)
}

/// How far a streamed request body has come.
///
/// The first-byte clock counts from its last movement: a client that uploads slowly is not a model
/// server that thinks for long.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    /// Microseconds after `began`.
    last_move: AtomicU64,
    state: Mutex<State>,
    waker: AtomicWaker,
}

#[derive(Debug)]
enum State {
    Running,
    /// The exchange is over; nobody wants the rest.
    Cancelled,
    /// The client's side failed, and that is the true reason of whatever the upstream says next.
    Failed(Fault),
}

impl Progress {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            last_move: AtomicU64::new(0),
            state: Mutex::new(State::Running),
            waker: AtomicWaker::new(),
        }
    }

    /// When the upstream last took something of the body.
    pub(super) fn last_move(&self) -> Instant {
        self.began + Duration::from_micros(self.last_move.load(Relaxed))
    }

    /// The fault of the client's side, if it failed.
    pub(super) fn fault(&self) -> Option<Fault> {
        match &*self.state.lock() {
            State::Failed(fault) => Some(fault.clone()),
            State::Running | State::Cancelled => None,
        }
    }

    /// Ends the upload with an error, which resets an HTTP/2 stream. HTTP/1 needs no such call: its
    /// connection is dropped with the exchange.
    pub(super) fn cancel(&self) {
        let mut state = self.state.lock();
        if matches!(*state, State::Running) {
            *state = State::Cancelled;
        }
        drop(state);
        self.waker.wake();
    }

    fn is_cancelled(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        matches!(*self.state.lock(), State::Cancelled)
    }

    fn moved(&self) {
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last_move.store(micros, Relaxed);
    }

    fn failed(&self, fault: &Fault) {
        *self.state.lock() = State::Failed(fault.clone());
    }
}
