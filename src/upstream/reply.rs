//! What comes back: a head at once, and a body that keeps its connection until its end.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Duration, Instant};

use super::{
    Branch, Protocol, deadline::Limits, http1::Http1, http2::Stream, in_flight::InFlight,
    line::Turn, verdict::Verdict, watchdog::Watchdog,
};
use crate::fault::Fault;

/// An answer whose head has come.
#[derive(Debug)]
pub struct Reply {
    /// Status and headers, as the replica sent them, hop-by-hop ones included.
    pub head: http::response::Parts,
    /// The rest.
    pub body: ReplyBody,
    /// Where the time went so far.
    pub timing: Timing,
    /// Base URL of the replica that answered.
    pub replica: Arc<str>,
    /// What the replica speaks.
    pub protocol: Protocol,
    /// Why this replica.
    pub branch: Branch,
    /// The replica says that it has too much to do, or failed where another one may not.
    pub declined: bool,
}

/// The time to a response head, of the attempt that succeeded.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Waiting for a connection that somebody else opened or had.
    pub queue: Duration,
    /// Opening one, DNS to TLS; `None` where an open one was used.
    pub connect: Option<Duration>,
    /// From the request given to the connection to the response head, or to the first event of a
    /// stream where that is waited for.
    pub first_byte: Duration,
}

impl Timing {
    /// What is left of it for who began to wait `later` than the call began.
    pub fn after(self, later: Duration) -> Self {
        let rest = later.saturating_sub(self.queue);
        let connect = self.connect.map(|span| span.saturating_sub(rest));
        let rest = rest.saturating_sub(self.connect.unwrap_or_default());
        Self {
            queue: self.queue.saturating_sub(later),
            connect,
            first_byte: self.first_byte.saturating_sub(rest),
        }
    }
}

/// A response body.
///
/// It times itself (`timeouts.idle`, `timeouts.lifetime`); an error is its last item. It holds its
/// connection and its place in the replica's load until its end. Dropped earlier, it closes the
/// HTTP/1.1 connection or resets the HTTP/2 stream, so that the model server stops generating.
pub struct ReplyBody {
    source: Source,
    limits: Limits,
    /// The end of the whole exchange.
    end: Instant,
    /// Since when the reader has waited in vain. A reader who does not ask is not waiting: a slow
    /// client is not the upstream's silence.
    waiting_since: Option<Instant>,
    /// Until when the first event must come, while it is waited for: a model that thinks is not
    /// one that fell silent.
    token_by: Option<Instant>,
    /// What was read ahead of the reader.
    held: VecDeque<Frame<Bytes>>,
    flight: Option<InFlight>,
    /// The right to this exchange, where only so many may run at once.
    turn: Option<Turn>,
}

/// Where the bytes come from.
pub(super) enum Source {
    Http1 { body: Incoming, wire: Box<Http1> },
    // In the order in which they must be dropped: the body resets the stream.
    Http2 { body: Incoming, watchdog: Watchdog, _stream: Stream },
    Ended,
}

impl ReplyBody {
    pub(super) fn new(source: Source, limits: Limits, end: Instant, flight: InFlight) -> Self {
        let mut this = Self {
            source,
            limits,
            end,
            waiting_since: None,
            token_by: None,
            held: VecDeque::new(),
            flight: Some(flight),
            turn: None,
        };
        if this.is_over() {
            this.finish();
        }
        this
    }

    /// The first event is waited for; the request was sent at `sent`.
    pub(super) fn expect_token(&mut self, sent: Instant) {
        self.token_by = Some(sent + self.limits.first_token);
    }

    /// It came, inside `frames`, which the reader shall get.
    pub(super) fn hold(&mut self, frames: VecDeque<Frame<Bytes>>, sent: Instant) {
        self.token_by = None;
        self.held = frames;
        if let Some(flight) = &self.flight {
            flight.first_token(sent);
        }
        if matches!(self.source, Source::Ended) {
            self.flight = None;
        }
    }

    /// The reader shall get this first.
    pub(super) fn put_back(&mut self, frame: Frame<Bytes>) {
        self.held.push_front(frame);
    }

    /// It was an error: `words` are what is left of this body, and its connection is closed.
    pub(super) fn replace(&mut self, words: Bytes, blame: bool) {
        if let Some(flight) = self.flight.as_mut().filter(|_| blame) {
            flight.judge(Verdict::Erred, Duration::ZERO);
        }
        self.source = Source::Ended;
        self.flight = None;
        self.token_by = None;
        self.held = VecDeque::from([Frame::data(words)]);
    }

    /// Keeps the right to the exchange for as long as it lasts.
    pub(super) fn keep(&mut self, turn: Option<Turn>) {
        self.turn = turn.filter(|_| self.flight.is_some());
    }

    /// Whether hyper knows that nothing more comes.
    fn is_over(&self) -> bool {
        match &self.source {
            Source::Http1 { body, .. } | Source::Http2 { body, .. } => body.is_end_stream(),
            Source::Ended => true,
        }
    }

    /// A clean end: the connection may serve the next exchange, if the request is through too.
    fn finish(&mut self) {
        let source = std::mem::replace(&mut self.source, Source::Ended);
        self.turn = None;
        let Some(flight) = &self.flight else { return };
        if let Source::Http1 { wire, .. } = source
            && wire.is_free()
        {
            flight.replica.pool.put(wire);
        }
        // What began the answer is not heard yet: that is still to be judged.
        if self.token_by.is_none() {
            self.flight = None;
        }
    }

    /// Ends with an error; whatever was open is closed by the drop.
    fn fail(&mut self, fault: impl FnOnce(&InFlight) -> Fault) -> Fault {
        self.source = Source::Ended;
        self.turn = None;
        match self.flight.take() {
            // The client's own upload failing is the reason, whatever the upstream made of it.
            Some(flight) => flight.upload_fault().unwrap_or_else(|| fault(&flight)),
            None => Fault::new(crate::fault::Kind::Internal, "a reply failed after its end"),
        }
    }

    /// Ready with a fault once waiting has lasted too long.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        let watchdog = match &mut self.source {
            Source::Http1 { wire, .. } => &mut wire.watchdog,
            Source::Http2 { watchdog, .. } => watchdog,
            Source::Ended => return Poll::Pending,
        };
        let mut since = *self.waiting_since.get_or_insert_with(Instant::now);
        // Silence means both ways: an upload that goes on is no silence.
        if let Some(upload) = self.flight.as_ref().and_then(|flight| flight.upload.as_ref()) {
            since = since.max(upload.last_move());
        }
        let silent_at = self.token_by.unwrap_or(since + self.limits.idle);
        ready!(watchdog.poll_passed(cx, silent_at.min(self.end)));
        let Limits { idle, lifetime, first_token, .. } = self.limits;
        let (silent, began) = (silent_at < self.end, self.token_by.is_none());
        if let Some(flight) = self.flight.as_mut().filter(|_| !began) {
            flight.judge(Verdict::Failed, first_token);
        }
        Poll::Ready(self.fail(|flight| {
            let peer = flight.replica.peer();
            match (silent, began) {
                (true, true) => peer.idle_timeout(idle),
                (true, false) => peer.first_token_timeout(first_token),
                (false, _) => peer.lifetime_timeout(lifetime),
            }
        }))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        if let Some(frame) = this.held.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let polled = match &mut this.source {
            Source::Http1 { body, wire } => wire.poll_frame(body, cx),
            Source::Http2 { body, .. } => Pin::new(body).poll_frame(cx),
            Source::Ended => return Poll::Ready(None),
        };
        let Poll::Ready(item) = polled else {
            return this.poll_overdue(cx).map(|fault| Some(Err(fault)));
        };
        this.waiting_since = None;
        match item {
            // A stream that never pauses must end too.
            Some(Ok(_)) if Instant::now() >= this.end => {
                let lifetime = this.limits.lifetime;
                Poll::Ready(Some(Err(
                    this.fail(|flight| flight.replica.peer().lifetime_timeout(lifetime))
                )))
            }
            Some(Ok(frame)) => {
                if this.is_over() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                Poll::Ready(Some(Err(this.fail(|flight| flight.replica.peer().cut(&error)))))
            }
            // HTTP/2 may end a stream with `RST_STREAM(NO_ERROR)`, which hyper takes for an end.
            None => match this.size_hint().exact() {
                Some(missing) if missing > 0 => {
                    Poll::Ready(Some(Err(this.fail(|flight| flight.replica.peer().short(missing)))))
                }
                _ => {
                    this.finish();
                    Poll::Ready(None)
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = match &self.source {
            Source::Http1 { body, .. } | Source::Http2 { body, .. } => body.size_hint(),
            Source::Ended => SizeHint::with_exact(0),
        };
        if self.held.is_empty() {
            return rest;
        }
        let held = self.held.iter().filter_map(|frame| Some(frame.data_ref()?.len() as u64));
        let held: u64 = held.sum();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + held);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + held);
        }
        hint
    }
}

impl std::fmt::Debug for ReplyBody {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ReplyBody").field("over", &self.is_over()).finish_non_exhaustive()
    }
}
