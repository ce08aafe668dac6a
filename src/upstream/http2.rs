//! One HTTP/2 connection, shared by many streams and driven by tasks of its own.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
    rt::Executor,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{task::JoinSet, time::Duration};

use super::{
    deadline::Deadline, outgoing::Upload, socket::Socket, unanswered::Unanswered,
    watchdog::Watchdog,
};

/// What one stream may have unread: a bulk answer over a 50 ms path still reaches 20 MB/s.
const STREAM_WINDOW: u32 = 1 << 20;

/// What all streams may have unread, far above the sum that [`SHARE`] stalled streams reach, so
/// that a client who does not read can never starve the other streams (linkerd2-proxy #400).
///
/// It is also how h2 limits undrained frames below 256 bytes, which is what tokens are: half of it,
/// at up to 255 bytes a frame (RUSTSEC-2026-0258, h2 0.4.19). A stream stalled with 60-byte frames
/// costs 3.4 MiB of that; here 37 of them fit, and one is refused no sooner.
const CONNECTION_WINDOW: u32 = 256 << 20;

/// The protocol's smallest: a token must not wait behind a large frame of another stream.
const FRAME_BYTES: u32 = 16 * 1024;

/// Response headers, decoded; the same as for HTTP/1.1.
const HEAD_BYTES: u32 = 64 * 1024;

/// Request bytes buffered for a stream whose window is closed.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// A peer that vanished without a word is noticed within half a minute, under streams and idle.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_ANSWER: Duration = Duration::from_secs(10);

/// Streams of ours that were reset (clients leave often) and that the peer may still send frames
/// for. Each is a few hundred bytes; frames for forgotten ones cost an answer each.
const RESETS_REMEMBERED: usize = 256;
const RESETS_REMEMBERED_FOR: Duration = Duration::from_secs(5);

/// Streams on one connection before another is opened: all of them share one TCP window and one
/// loss recovery.
pub(super) const SHARE: usize = 32;

type Tasks = Mutex<JoinSet<()>>;

/// An open connection.
pub(super) struct Session {
    sender: SendRequest<Upload>,
    streams: AtomicUsize,
    /// How many streams the peer allows, as of the last request.
    allowed: Arc<AtomicUsize>,
    /// The connection and what hyper runs for its streams; all end with the session.
    _tasks: Arc<Tasks>,
}

impl Session {
    /// A connection over a fresh socket.
    pub(super) async fn new(socket: Socket) -> hyper::Result<Arc<Self>> {
        let tasks = Arc::new(Mutex::new(JoinSet::new()));
        let (sender, connection) = Builder::new(Spawner(Arc::downgrade(&tasks)))
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_BYTES)
            .max_header_list_size(HEAD_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_ANSWER)
            .keep_alive_while_idle(true)
            .max_concurrent_reset_streams(RESETS_REMEMBERED)
            .reset_stream_duration(RESETS_REMEMBERED_FOR)
            .handshake(TokioIo::new(socket))
            .await?;
        let allowed = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
        let published = Arc::clone(&allowed);
        let mut connection = Box::pin(connection);
        tasks.lock().spawn(async move {
            let ended = poll_fn(|cx| {
                let polled = connection.as_mut().poll(cx);
                published.store(connection.current_max_send_streams(), Relaxed);
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "upstream HTTP/2 connection ended");
            }
        });
        Ok(Arc::new(Self { sender, streams: AtomicUsize::new(0), allowed, _tasks: tasks }))
    }

    /// Whether new streams can still be opened.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Streams that run now.
    pub(super) fn streams(&self) -> usize {
        self.streams.load(Relaxed)
    }

    /// Whether another stream gets its fair part of this connection.
    pub(super) fn has_room(&self) -> bool {
        self.streams() < SHARE.min(self.allowed.load(Relaxed))
    }

    /// Takes a place for one exchange.
    pub(super) fn stream(self: &Arc<Self>) -> Stream {
        self.streams.fetch_add(1, Relaxed);
        Stream(Arc::clone(self))
    }
}

/// One exchange's place on a connection; also keeps the connection alive.
pub(super) struct Stream(Arc<Session>);

impl Stream {
    /// Sends `request` and waits for the response head. Dropping this future, or later the body,
    /// resets the stream.
    pub(super) async fn send(
        &self,
        request: Request<Upload>,
        deadline: &Deadline,
        watchdog: &mut Watchdog,
    ) -> Result<Response<Incoming>, Unanswered> {
        let mut response = pin!(self.0.sender.clone().try_send_request(request));
        poll_fn(|cx| {
            if let Poll::Ready(answered) = response.as_mut().poll(cx) {
                return Poll::Ready(answered.map_err(Unanswered::from));
            }
            deadline.poll_passed(cx, watchdog).map(|()| Err(Unanswered::Late))
        })
        .await
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

/// Runs what hyper needs run for a connection, in that connection's own set.
///
/// Weak, because those tasks hold it: they must not keep alive what shall end them.
#[derive(Clone)]
struct Spawner(Weak<Tasks>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawner {
    fn execute(&self, task: F) {
        let Some(tasks) = self.0.upgrade() else { return };
        let mut tasks = tasks.lock();
        // Each stream leaves a finished task behind.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

/// Whether the peer says, in HTTP/2's own words, that it did not begin to work on the request:
/// `REFUSED_STREAM`, or a stream number above that of `GOAWAY` (RFC 9113 6.8 and 8.7). h2 gives a
/// stream a remote `GOAWAY` as its error in that case only.
pub(super) fn is_refusal(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(inner) = inner.downcast_ref::<h2::Error>() {
            let refused = inner.is_reset() && inner.reason() == Some(h2::Reason::REFUSED_STREAM);
            return inner.is_remote() && (refused || inner.is_go_away());
        }
        cause = inner.source();
    }
    false
}
