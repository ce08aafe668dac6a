//! Room 8: the body that a client reads.
//!
//! It replays an entry, follows a flight's log or passes an upstream's body on; it holds the
//! request's admission and its place aboard a flight to its end; and it says, exactly once, how it
//! ended.

mod paced;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;

use self::paced::Paced;
use crate::{
    cache::{
        flight::{Landing, Passenger, log::Reader},
        pace::Pace,
    },
    fault::{Fault, Kind, Whose},
    front::admission::Admitted,
    observe::{BodyEnd, RecordGuard},
    upstream::ReplyBody,
    wire::{Dialect, Shape},
};

/// What a client reads. `H` is the head type of the flights that it may follow.
pub struct Body<H> {
    source: Source<H>,
    record: Option<RecordGuard>,
    end: Option<BodyEnd>,
    /// What is still to come behind the last byte.
    trailers: Option<HeaderMap>,
    /// The last byte that the client got.
    last: Option<u8>,
    /// Held until the client has everything.
    _admitted: Option<Admitted>,
}

enum Source<H> {
    /// Everything is here.
    Whole(Bytes),
    /// Somebody's running answer, ours or another's.
    Flight(Following<H>),
    /// The upstream's body, untouched.
    Direct(Box<ReplyBody>),
    /// Everything is here, and let go piece by piece.
    Paced(Paced),
    /// Answers of several exchanges.
    Merged(mpsc::Receiver<Piece>),
    /// The dialect's word for a failed stream was sent; now the connection is broken off.
    Broken(Fault),
    Over,
}

/// What several exchanges put together.
#[derive(Debug)]
pub enum Piece {
    /// A whole message of one of them.
    Data(Bytes),
    /// There are no more, and these trailers say how it ended.
    End(HeaderMap),
}

/// A place in a running answer.
pub struct Following<H> {
    /// The answer's bytes.
    pub reader: Reader,
    /// Keeps the flight wanted.
    pub passenger: Passenger<H>,
    /// Says how an answer fails.
    pub dialect: Arc<dyn Dialect>,
    /// What the client reads.
    pub shape: Shape,
    /// Bytes still to come, where the head announced them: hyper does not ask again after the last.
    pub left: Option<u64>,
}

impl<H> Body<H> {
    /// A body that is all here.
    pub fn whole(bytes: Bytes) -> Self {
        Self::of(Source::Whole(bytes))
    }

    /// A body of events that is all here, let go as they came, or evenly over `total`.
    pub fn paced(bytes: &Bytes, pace: &Pace, total: Duration) -> Self {
        Self::of(Source::Paced(Paced::new(bytes, pace, total)))
    }

    /// A body that follows a flight.
    pub fn following(place: Following<H>) -> Self {
        Self::of(Source::Flight(place))
    }

    /// An upstream's body, untouched.
    pub fn direct(body: ReplyBody) -> Self {
        Self::of(Source::Direct(Box::new(body)))
    }

    /// A body of what several exchanges have to say. Dropping it tells them that nobody listens.
    pub fn merged(pieces: mpsc::Receiver<Piece>) -> Self {
        Self::of(Source::Merged(pieces))
    }

    fn of(source: Source<H>) -> Self {
        Self { source, record: None, end: None, trailers: None, last: None, _admitted: None }
    }

    /// The same body, with these trailers behind it.
    #[must_use]
    pub fn ending(mut self, trailers: Option<HeaderMap>) -> Self {
        self.trailers = trailers;
        self
    }

    /// The same body, holding the request's record and permit to its end.
    #[must_use]
    pub fn holding(mut self, record: RecordGuard, admitted: Option<Admitted>) -> Self {
        self.record = Some(record);
        self._admitted = admitted;
        self
    }

    fn deliver(&mut self, bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if let Some(record) = &mut self.record {
            record.sent(bytes.len());
        }
        self.last = bytes.last().copied().or(self.last);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    /// Notes what was kept of a flight that this client has read to its end.
    fn settle(&mut self) {
        if let (Source::Flight(place), Some(record)) = (&self.source, &mut self.record)
            && let Some(Landing::Kept(entry)) = place.passenger.landed()
        {
            let usage = entry.usage.unwrap_or_default();
            record.tokens_prompt = Some(usage.prompt);
            record.tokens_completion = Some(usage.completion);
            if record.outcome.spared_upstream() {
                record.tokens_saved = usage.prompt + usage.completion;
                record.upstream_saved = std::time::Duration::from_millis(entry.upstream_ms);
            }
        }
    }

    fn complete(&mut self) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.settle();
        if let Source::Flight(place) = &self.source {
            self.trailers = place.reader.trailers();
        }
        self.source = Source::Over;
        self.end = Some(BodyEnd::Complete);
        self.last_frame()
    }

    fn last_frame(&mut self) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn fail(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if let Some(record) = &mut self.record {
            record.fault = Some(fault.kind);
        }
        self.end = Some(match fault.kind {
            Kind::IdleTimeout
            | Kind::LifetimeTimeout
            | Kind::FirstByteTimeout
            | Kind::FirstTokenTimeout => BodyEnd::TimedOut,
            // A reader that was cut because it took its answer too slowly.
            Kind::Overloaded => BodyEnd::TimedOut,
            kind if kind.whose() == Whose::Client => BodyEnd::ClientLeft,
            _ => BodyEnd::UpstreamFailed,
        });
        // Inside an announced length a last word would fill up what is missing, and the client would
        // take the answer for complete.
        if let Source::Flight(Following { dialect, shape, left: None, .. }) = &self.source {
            let (dialect, shape) = (dialect.clone(), *shape);
            let word = dialect.stream_error(shape, &fault, self.last);
            if let Some(last_word) = word.filter(|_| shape.is_events()) {
                self.source = Source::Broken(fault);
                return self.deliver(last_word);
            }
            self.trailers = dialect.trailers(Err(&fault));
            if self.trailers.is_some() {
                self.source = Source::Over;
                return self.last_frame();
            }
        }
        self.source = Source::Over;
        Poll::Ready(Some(Err(fault)))
    }
}

impl<H: Send + Sync + 'static> HttpBody for Body<H> {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let body = self.get_mut();
        match &mut body.source {
            Source::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                body.source = Source::Over;
                body.end = Some(BodyEnd::Complete);
                if bytes.is_empty() { body.last_frame() } else { body.deliver(bytes) }
            }
            Source::Paced(paced) => match ready!(paced.poll_next(context)) {
                Some(piece) => body.deliver(piece),
                None => body.complete(),
            },
            Source::Flight(place) => match ready!(place.reader.poll_next(context)) {
                Some(Ok(bytes)) => {
                    place.left = place.left.map(|left| left.saturating_sub(bytes.len() as u64));
                    body.deliver(bytes)
                }
                Some(Err(fault)) => body.fail(fault),
                None => body.complete(),
            },
            Source::Direct(direct) => match ready!(Pin::new(direct.as_mut()).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => body.deliver(bytes),
                    Err(trailers) => Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(fault)) => body.fail(fault),
                None => body.complete(),
            },
            Source::Merged(pieces) => match ready!(pieces.poll_recv(context)) {
                Some(Piece::Data(bytes)) => body.deliver(bytes),
                Some(Piece::End(trailers)) => {
                    body.trailers = Some(trailers);
                    body.complete()
                }
                None => body.fail(Fault::new(Kind::Internal, "nobody ended this call")),
            },
            Source::Broken(fault) => {
                let fault = fault.clone();
                body.source = Source::Over;
                Poll::Ready(Some(Err(fault)))
            }
            Source::Over => body.last_frame(),
        }
    }

    fn is_end_stream(&self) -> bool {
        if self.trailers.is_some() {
            return false;
        }
        match &self.source {
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Paced(paced) => paced.left() == 0,
            Source::Direct(body) => body.is_end_stream(),
            Source::Over => true,
            Source::Flight(_) | Source::Merged(_) | Source::Broken(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        // An exact size would be announced, and whoever read it all would not wait for the trailers.
        if self.trailers.is_some() {
            return SizeHint::default();
        }
        match &self.source {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Paced(paced) => SizeHint::with_exact(paced.left()),
            Source::Direct(body) => body.size_hint(),
            Source::Over => SizeHint::with_exact(0),
            Source::Flight(_) | Source::Merged(_) | Source::Broken(_) => SizeHint::default(),
        }
    }
}

impl<H> Drop for Body<H> {
    fn drop(&mut self) {
        // A body whose last byte is out (or that has none: HEAD, 204) is not asked for its end.
        let empty = match &self.source {
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Paced(paced) => paced.left() == 0,
            Source::Direct(body) => body.is_end_stream(),
            Source::Flight(place) => place.left == Some(0),
            Source::Merged(_) | Source::Broken(_) | Source::Over => false,
        };
        if empty {
            self.settle();
        }
        if let Some(record) = self.record.take() {
            let end = self.end.or(empty.then_some(BodyEnd::Complete));
            record.finish(end.unwrap_or(BodyEnd::ClientLeft));
        }
    }
}
