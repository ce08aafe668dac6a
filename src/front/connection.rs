//! One connection: its limits, its requests, and when it is told to close.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
    time::Instant,
};

use super::{
    Handler, Peer,
    pace::{Pace, Streams},
    serve::Shared,
};
use crate::{config::Limits, fault::Fault};

/// An HTTP/2 client may send this much of one request body before we have read any of it. Enough
/// for a prompt at once; 10 MB/s at 50 ms round trip for an upload.
const H2_STREAM_WINDOW: u32 = 512 << 10;

/// The same for all streams of a connection. Eight streams' worth, so that one body that nobody
/// reads cannot starve its siblings; half of it is also h2's budget for unread frames below 256
/// bytes (RUSTSEC-2026-0258), past which h2 ends the whole connection.
const H2_CONNECTION_WINDOW: u32 = 8 * H2_STREAM_WINDOW;

/// What one stream may buffer of a response that its client is slow to take. hyper's 400 KiB times
/// 128 streams is 50 MiB a connection for nothing: flights keep the bytes anyway.
const H2_SEND_BUFFER: usize = 64 << 10;

/// HTTP/2's smallest and default frame: larger ones only let one stream hold the line longer.
const H2_FRAME: u32 = 16 << 10;

/// A dead HTTP/2 peer is found within the sum of both; TCP alone would take minutes, during which
/// its streams hold permits.
const H2_PING_INTERVAL: Duration = Duration::from_secs(20);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Streams that a client may reset before we have seen them, and streams that we may reset for a
/// client's mistakes, before the connection ends (CVE-2023-44487, RUSTSEC-2024-0003).
const H2_PENDING_RESETS: usize = 20;
const H2_ERROR_RESETS: usize = 1024;

/// hyper's own number of headers, below which its parser keeps them on the stack.
const H1_HEADERS_ON_STACK: usize = 100;

/// How long a connection that was accepted but has not yet asked anything may keep a drain waiting:
/// its first request is probably on the wire, and closing would refuse it.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// How long a connection that was told to end, and on which nothing runs, may take to do so. A pooled
/// HTTP/2 client that is not looking answers neither GOAWAY nor PING.
const GOODBYE: Duration = Duration::from_secs(2);

/// The server side of every connection, each limit said aloud.
pub(super) fn builder(limits: &Limits, streams: Streams) -> Builder<Streams> {
    let mut builder = Builder::new(streams);
    let mut http1 = builder.http1();
    http1
        .timer(TokioTimer::new())
        // Also bounds how long an idle keep-alive connection lives.
        .header_read_timeout(limits.header_time.get())
        // hyper answers 431 when a head outgrows its buffer. At least 8 KiB by config's check.
        .max_buf_size(limits.header_bytes.bytes())
        // A client that closes its sending side has left: with half-close on, hyper would not tell
        // us, and an upstream would generate for nobody.
        .half_close(false)
        .keep_alive(true)
        // Pipelined clients are rare; the option is marked experimental.
        .pipeline_flush(false)
        .ignore_invalid_headers(false);
    if limits.header_count != H1_HEADERS_ON_STACK {
        // Setting it, even to the default, moves the parser's headers to the heap.
        http1.max_headers(limits.header_count);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_send_buf_size(H2_SEND_BUFFER)
        .max_frame_size(H2_FRAME)
        .max_header_list_size(u32::try_from(limits.header_bytes.0).unwrap_or(u32::MAX))
        .keep_alive_interval(H2_PING_INTERVAL)
        .keep_alive_timeout(H2_PING_TIMEOUT)
        .max_pending_accept_reset_streams(H2_PENDING_RESETS)
        .max_local_error_reset_streams(H2_ERROR_RESETS);
    builder
}

/// Serves `io` until the client leaves, idles for too long, breaks a limit, or the drain has let it
/// finish. Errors end the connection and concern nobody else.
pub(super) async fn run<I, H>(
    io: I,
    peer: Peer,
    builder: &Builder<Streams>,
    shared: &Arc<Shared<H>>,
) where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    H: Handler,
{
    let activity = Arc::new(Activity::new());
    let service = service_fn({
        let (shared, activity) = (Arc::clone(shared), Arc::clone(&activity));
        move |request| {
            let flying = Flying::new(&activity);
            respond(Arc::clone(&shared), peer, request, flying)
        }
    });
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
    let mut time_to_close = pin!(async {
        shared.draining.cancelled().await;
        activity.first_request().await;
    });
    // hyper bounds idleness only once it knows that a connection is HTTP/1. This clock covers a
    // client that sends nothing, half a preface, or HTTP/2 without requests.
    let patience = shared.limits.header_time.get();
    let mut closing = false;
    loop {
        let limit = if closing { patience.min(GOODBYE) } else { patience };
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error = error.as_ref(), ?peer, "client connection ended");
                }
                return;
            }
            () = &mut time_to_close, if !closing => {}
            () = activity.idle(limit) => {
                if closing {
                    // It has had another such while to say goodbye. A partial head or a silent
                    // HTTP/2 peer would never do so (hyper #4170).
                    return;
                }
            }
        }
        closing = true;
        activity.restart();
        connection.as_mut().graceful_shutdown();
    }
}

async fn respond<H: Handler>(
    shared: Arc<Shared<H>>,
    peer: Peer,
    request: Request<Incoming>,
    flying: Flying,
) -> Result<Response<Reply<H::Body>>, Infallible> {
    if request.headers().len() > shared.limits.header_count {
        // HTTP/1 heads do not come this far; h2 bounds the bytes of a head but not the number of
        // its fields.
        let mut refusal = Response::new(Reply::new(None, flying));
        *refusal.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Ok(refusal);
    }
    let http1 = request.version() < Version::HTTP_2;
    let mut response = shared.handler.handle(peer, request).await;
    if http1 && shared.draining.is_cancelled() {
        // hyper says so only if it was told before the request came, and closes anyway: a client
        // that was not warned sends its next request into the closing connection.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| Reply::new(Some(body), flying)))
}

/// A handler's body on its way to hyper: keeps its request counted as in flight to the end, and
/// tells an HTTP/2 stream's [`Pace`] whose turn it is.
struct Reply<B> {
    body: Option<B>,
    /// A failure that waits for its turn.
    failed: Option<Fault>,
    pace: Option<Arc<Pace>>,
    _flying: Flying,
}

impl<B> Reply<B> {
    /// `None` is an empty body.
    fn new(body: Option<B>, flying: Flying) -> Self {
        Self { body, failed: None, pace: Pace::current(), _flying: flying }
    }
}

impl<B: Body<Data = Bytes, Error = Fault> + Unpin> Body for Reply<B> {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Self { body, failed, pace, .. } = &mut *self;
        let Some(body) = body else { return Poll::Ready(None) };
        if let Some(fault) = failed.take() {
            return Poll::Ready(Some(Err(fault)));
        }
        if let Some(pace) = pace {
            pace.came_back();
        }
        match ready!(Pin::new(body).poll_frame(context)) {
            Some(Err(fault)) => {
                // On an error hyper drops what it has not written yet: the head, or the last words
                // before the failure. Yielding once lets it write them.
                *failed = Some(fault);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Ok(frame)) => {
                if let Some(pace) = pace {
                    pace.handed_over();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// What a connection is doing.
struct Activity {
    in_flight: AtomicUsize,
    asked: AtomicBool,
    first: Notify,
    /// When the last request ended; the connection's start before the first.
    idle_since: Mutex<Instant>,
}

impl Activity {
    fn new() -> Self {
        Self {
            in_flight: AtomicUsize::new(0),
            asked: AtomicBool::new(false),
            first: Notify::new(),
            idle_since: Mutex::new(Instant::now()),
        }
    }

    /// Starts the idle clock anew.
    fn restart(&self) {
        *self.idle_since.lock() = Instant::now();
    }

    /// Ends at the first request, at once if there has been one, or after [`FIRST_REQUEST`].
    async fn first_request(&self) {
        if !self.asked.load(Ordering::Acquire) {
            let _ = tokio::time::timeout(FIRST_REQUEST, self.first.notified()).await;
        }
    }

    /// Ends when nothing has been in flight for `limit`.
    async fn idle(&self, limit: Duration) {
        loop {
            let since = *self.idle_since.lock();
            let now = Instant::now();
            let busy = self.in_flight.load(Ordering::Acquire) > 0;
            if !busy && since + limit <= now {
                return;
            }
            // A request that ends while we sleep sets the clock, so the next look is exact.
            let until = if busy { now + limit } else { since + limit };
            tokio::time::sleep_until(until).await;
        }
    }
}

/// One request, from its head to the end of its response body.
struct Flying(Arc<Activity>);

impl Flying {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.in_flight.fetch_add(1, Ordering::AcqRel);
        if !activity.asked.swap(true, Ordering::AcqRel) {
            activity.first.notify_one();
        }
        Self(Arc::clone(activity))
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        self.0.restart();
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}
