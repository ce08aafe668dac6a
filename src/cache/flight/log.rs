//! The append-only log of one running answer.
//!
//! One writer drains the upstream at the upstream's own speed; any number of readers follow, each
//! at its own. This one structure gives coalescing, recording, late joiners and clients that leave,
//! and it keeps a slow client from holding back a shared HTTP/2 connection (transport: an undrained
//! stream of small frames kills its whole connection).
//!
//! The log is bounded twice: by its own limit and by a [`Budget`] that all logs share. Past either
//! it stops being a recording: what every reader has read is dropped, nobody can join any more, a
//! reader that lags behind others by more than the window is cut, and only a reader that is alone
//! holds the writer back.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;

use crate::fault::{Fault, Kind};

/// How far the fastest reader of a log that is no recording may run ahead of the slowest.
const WINDOW: usize = 256 << 10;

/// How an answer ended: cleanly, perhaps with trailers, or not.
pub type End = Result<Option<HeaderMap>, Fault>;

/// Bytes that all running answers of this process may hold together.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of this many bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> Fits {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used <= self.limit { Fits::Yes } else { Fits::No }
    }

    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[derive(PartialEq, Eq)]
enum Fits {
    Yes,
    No,
}

/// The shared log. Readers come from [`Log::reader`], the one writer from [`Log::new`].
#[derive(Debug)]
pub struct Log {
    state: Mutex<State>,
    limit: usize,
    budget: Arc<Budget>,
}

#[derive(Debug)]
struct State {
    /// Chunks that are kept; the first is number `base`.
    chunks: VecDeque<Bytes>,
    base: u64,
    bytes: usize,
    /// Still the whole answer from its first byte?
    recording: bool,
    end: Option<End>,
    readers: BTreeMap<u64, Place>,
    next_reader: u64,
    writer: Option<Waker>,
}

/// Where one reader stands.
#[derive(Debug)]
struct Place {
    /// The next chunk's number.
    next: u64,
    waker: Option<Waker>,
    cut: bool,
}

impl Log {
    /// A log of at most `limit` bytes, and its writer.
    #[expect(clippy::new_ret_no_self, reason = "the writer owns the log; readers share it")]
    pub fn new(limit: usize, budget: &Arc<Budget>) -> Writer {
        let state = State {
            chunks: VecDeque::new(),
            base: 0,
            bytes: 0,
            recording: true,
            end: None,
            readers: BTreeMap::new(),
            next_reader: 0,
            writer: None,
        };
        let log = Self { state: Mutex::new(state), limit, budget: budget.clone() };
        Writer { log: Arc::new(log) }
    }

    /// A reader from the first byte on; `None` once the beginning is no longer kept.
    pub fn reader(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.state.lock();
        if !state.recording {
            return None;
        }
        let id = state.next_reader;
        state.next_reader += 1;
        let next = state.base;
        state.readers.insert(id, Place { next, waker: None, cut: false });
        Some(Reader { log: self.clone(), id })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.budget.give(self.state.get_mut().bytes);
    }
}

impl State {
    fn wake_readers(&mut self) {
        for place in self.readers.values_mut() {
            if let Some(waker) = place.waker.take() {
                waker.wake();
            }
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    /// Drops what every reader has read; only for a log that is no recording.
    fn trim(&mut self, budget: &Budget) {
        let keep_from = self.readers.values().filter(|place| !place.cut).map(|place| place.next);
        let keep_from = keep_from.min().unwrap_or(u64::MAX);
        while self.base < keep_from {
            let Some(chunk) = self.chunks.pop_front() else { break };
            self.base += 1;
            self.bytes -= chunk.len();
            budget.give(chunk.len());
        }
    }

    /// Cuts readers that hold back others; a reader that is alone is waited for instead.
    fn cut_laggards(&mut self, budget: &Budget) {
        let live = |state: &Self| state.readers.values().filter(|place| !place.cut).count();
        while self.bytes > WINDOW && live(self) > 1 {
            let places = self.readers.values_mut().filter(|place| !place.cut);
            let Some(slowest) = places.min_by_key(|place| place.next) else { return };
            slowest.cut = true;
            if let Some(waker) = slowest.waker.take() {
                waker.wake();
            }
            self.trim(budget);
        }
    }
}

/// Appends to a log. Dropping it without [`Writer::finish`] ends the log with a fault, so that no
/// reader waits for ever.
#[derive(Debug)]
pub struct Writer {
    log: Arc<Log>,
}

impl Writer {
    /// The log itself.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Appends a chunk. Follow it by [`Writer::room`].
    pub fn push(&self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        let Log { state, limit, budget } = self.log.as_ref();
        let mut state = state.lock();
        let fits = budget.take(chunk.len());
        state.bytes += chunk.len();
        state.chunks.push_back(chunk);
        if state.recording && (state.bytes > *limit || fits == Fits::No) {
            state.recording = false;
        }
        if !state.recording {
            state.trim(budget);
            state.cut_laggards(budget);
        }
        state.wake_readers();
    }

    /// Resolves when there is room for more: at once for a recording, else when the one reader has
    /// read on.
    pub async fn room(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.log.state.lock();
            if state.recording || state.bytes <= WINDOW || state.readers.is_empty() {
                return Poll::Ready(());
            }
            state.writer = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Is everything from the first byte still there?
    pub fn is_recording(&self) -> bool {
        self.log.state.lock().recording
    }

    /// The answer ended; readers get what is left and then this end.
    pub fn finish(self, end: End) {
        let mut state = self.log.state.lock();
        state.end.get_or_insert(end);
        state.wake_readers();
    }

    /// The whole body so far, in one piece of just its length; `None` if it is no longer all there.
    ///
    /// Always a copy: a chunk is a slice of the connection's read buffer, and who keeps it keeps all of
    /// that, 8 KiB and more for an answer of some hundred bytes.
    pub fn body(&self) -> Option<Bytes> {
        let state = self.log.state.lock();
        if !state.recording {
            return None;
        }
        let mut body = Vec::with_capacity(state.bytes);
        state.chunks.iter().for_each(|chunk| body.extend_from_slice(chunk));
        Some(Bytes::from(body))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.log.state.lock();
        if state.end.is_none() {
            let fault = Fault::new(Kind::Internal, "the answer was given up half-way");
            state.end = Some(Err(fault));
            state.wake_readers();
        }
    }
}

/// Follows a log from its first byte.
#[derive(Debug)]
pub struct Reader {
    log: Arc<Log>,
    id: u64,
}

impl Reader {
    /// The next chunk; `None` after a clean end. Adjacent small chunks come as they were pushed.
    pub fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        let mut guard = self.log.state.lock();
        let state = &mut *guard;
        let Some(place) = state.readers.get_mut(&self.id) else { return Poll::Ready(None) };
        if place.cut {
            let fault = Fault::new(Kind::Overloaded, "this reader fell too far behind its answer");
            return Poll::Ready(Some(Err(fault)));
        }
        let at = usize::try_from(place.next - state.base).unwrap_or(usize::MAX);
        if let Some(chunk) = state.chunks.get(at).cloned() {
            place.next += 1;
            if !state.recording {
                state.trim(&self.log.budget);
                state.wake_writer();
            }
            return Poll::Ready(Some(Ok(chunk)));
        }
        match &state.end {
            Some(Ok(_)) => Poll::Ready(None),
            Some(Err(fault)) => Poll::Ready(Some(Err(fault.clone()))),
            None => {
                place.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The trailers of an answer that ended cleanly with some.
    pub fn trailers(&self) -> Option<HeaderMap> {
        self.log.state.lock().end.as_ref()?.as_ref().ok()?.clone()
    }

    /// Awaits the next chunk.
    pub async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.log.state.lock();
        state.readers.remove(&self.id);
        if !state.recording {
            state.trim(&self.log.budget);
        }
        state.wake_writer();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(limit: usize) -> (Writer, Arc<Budget>) {
        let budget = Budget::new(1 << 30);
        (Log::new(limit, &budget), budget)
    }

    async fn rest(mut reader: Reader) -> Result<Vec<u8>, Fault> {
        let mut all = Vec::new();
        while let Some(chunk) = reader.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn late_joiners_get_everything_from_the_start() {
        let (writer, budget) = writer(1 << 20);
        let early = tokio::spawn(rest(writer.log().reader().unwrap()));
        writer.push(Bytes::from_static(b"one "));
        tokio::task::yield_now().await;
        writer.push(Bytes::from_static(b"two "));
        let late = writer.log().reader().unwrap();
        writer.push(Bytes::from_static(b"three"));
        assert_eq!(writer.body().unwrap(), "one two three");
        let log = writer.log().clone();
        writer.finish(Ok(None));
        let after = log.reader().unwrap();
        for all in [early.await.unwrap(), rest(late).await, rest(after).await] {
            assert_eq!(all.unwrap(), b"one two three");
        }
        assert_eq!(budget.used(), 13);
        drop(log);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_kept_body_does_not_keep_the_buffer_that_it_came_in() {
        let (writer, _) = writer(1 << 20);
        let buffer = Bytes::from(vec![7; 64 << 10]);
        let weak = buffer.slice(..100);
        drop(buffer);
        writer.push(weak);
        let body = writer.body().unwrap();
        drop(writer);
        let body = body.try_into_mut().expect("nobody else holds it");
        assert_eq!((body.len(), body.capacity()), (100, 100));
    }

    #[tokio::test]
    async fn a_lost_writer_ends_every_reader_with_a_fault() {
        let (writer, _) = writer(1 << 20);
        let reader = writer.log().reader().unwrap();
        writer.push(Bytes::from_static(b"half"));
        drop(writer);
        assert_eq!(rest(reader).await.unwrap_err().kind, Kind::Internal);
    }

    #[tokio::test]
    async fn past_the_limit_one_reader_holds_the_writer_back_and_memory_stays_bounded() {
        let (writer, budget) = writer(WINDOW);
        let mut reader = writer.log().reader().unwrap();
        let chunk = Bytes::from(vec![1; WINDOW / 2]);
        for _ in 0..3 {
            writer.push(chunk.clone());
        }
        assert!(!writer.is_recording());
        assert!(writer.body().is_none());
        assert!(writer.log().reader().is_none());
        {
            let room = writer.room();
            tokio::pin!(room);
            assert!(futures_util::poll!(room.as_mut()).is_pending());
            reader.next().await.unwrap().unwrap();
            room.await;
        }
        assert!(budget.used() <= WINDOW);
        drop(reader);
        writer.room().await;
    }

    #[tokio::test]
    async fn past_the_limit_a_laggard_is_cut_and_the_others_go_on() {
        let (writer, budget) = writer(WINDOW);
        let mut slow = writer.log().reader().unwrap();
        let mut fast = writer.log().reader().unwrap();
        let chunk = Bytes::from(vec![1; WINDOW / 2]);
        for _ in 0..10 {
            writer.push(chunk.clone());
            fast.next().await.unwrap().unwrap();
            writer.room().await;
        }
        assert_eq!(slow.next().await.unwrap().unwrap_err().kind, Kind::Overloaded);
        assert!(budget.used() <= WINDOW);
    }

    #[tokio::test]
    async fn the_shared_budget_ends_a_recording_too() {
        let budget = Budget::new(10);
        let one = Log::new(1 << 20, &budget);
        let two = Log::new(1 << 20, &budget);
        one.push(Bytes::from_static(b"12345678"));
        two.push(Bytes::from_static(b"12345678"));
        assert!(one.is_recording());
        assert!(!two.is_recording());
    }

    proptest::proptest! {
        #[test]
        fn every_reader_sees_the_same_bytes(
            steps in proptest::collection::vec((0_u8..3, 0_usize..40), 1..60),
        ) {
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
                let (writer, _) = writer(1 << 20);
                let mut sent = Vec::new();
                let mut readers = Vec::new();
                for (step, size) in steps {
                    match step {
                        0 => {
                            let chunk: Vec<u8> = (0..size).map(|at| (at + sent.len()) as u8).collect();
                            sent.extend_from_slice(&chunk);
                            writer.push(Bytes::from(chunk));
                        }
                        1 => readers.push(tokio::spawn(rest(writer.log().reader().unwrap()))),
                        _ => tokio::task::yield_now().await,
                    }
                }
                writer.finish(Ok(None));
                for reader in readers {
                    assert_eq!(reader.await.unwrap().unwrap(), sent);
                }
            });
        }
    }
}
