//! The accept loops, the connections' tasks, and the drain that ends them all.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use hyper_util::server::conn::auto::Builder;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Front, Handler, Origin, Peer, Signals, connection,
    listen::{Accepted, Listener},
    pace::Streams,
    proxy_protocol,
    stall::Stall,
    tls::{self, ServerTls},
};
use crate::config::{Limits, Trusted};

/// A handshake is a millisecond of a core and some 30 KiB. As many as this may be under way; more
/// wait, inside their own `limits.handshake_time`, so that a flood of half-open handshakes is shed
/// instead of served late.
const HANDSHAKES: usize = 1024;

/// After `accept` failed for want of file descriptors or memory: long enough for some connection to
/// end, short enough to go unnoticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How the drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that had to be cut.
    pub cut: usize,
}

/// Counts of client connections since the start.
#[derive(Debug, Default)]
pub struct Tally {
    accepted: AtomicU64,
    open: AtomicUsize,
    handshake_failures: AtomicU64,
    stalls: AtomicU64,
}

impl Tally {
    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// TLS handshakes and PROXY headers that failed or took too long.
    pub fn handshake_failures(&self) -> u64 {
        self.handshake_failures.load(Ordering::Relaxed)
    }

    /// Connections and HTTP/2 streams given up because their client took nothing.
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    pub(super) fn stalled(&self) {
        self.stalls.fetch_add(1, Ordering::Relaxed);
    }
}

/// What every connection's task needs.
pub(super) struct Shared<H> {
    pub(super) handler: H,
    pub(super) limits: Limits,
    proxies: Option<Trusted>,
    /// Time to finish up.
    pub(super) draining: CancellationToken,
    /// Both protocols, told apart by the first bytes.
    either: Builder<Streams>,
    /// After ALPN has settled on HTTP/2.
    http2: Builder<Streams>,
    tls: Option<Arc<ServerTls>>,
    handshakes: Semaphore,
    slots: Arc<Semaphore>,
    tracker: TaskTracker,
    cut: CancellationToken,
    tally: Arc<Tally>,
}

pub(super) async fn run<H: Handler>(front: Front, handler: H, signals: Signals) -> Drained {
    let Front { listeners, limits, proxies, drain_deadline, tls, tally } = front;
    let (tracker, cut) = (TaskTracker::new(), CancellationToken::new());
    let streams = Streams {
        tracker: tracker.clone(),
        cut: cut.clone(),
        stall: limits.write_stall.get(),
        tally: Arc::clone(&tally),
    };
    let either = connection::builder(&limits, streams);
    let shared = Arc::new(Shared {
        handler,
        draining: CancellationToken::new(),
        http2: either.clone().http2_only(),
        either,
        tls,
        handshakes: Semaphore::new(HANDSHAKES),
        // Each listener takes its slot before it accepts; an idle one must not starve the others.
        slots: Arc::new(Semaphore::new(limits.connections + listeners.len().saturating_sub(1))),
        limits,
        proxies,
        tracker,
        cut,
        tally,
    });
    let accepting = join_all(listeners.into_iter().map(|one| accept(one, Arc::clone(&shared))));
    let watching = async {
        match &shared.tls {
            Some(tls) => tls.watch().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = signals.drain.cancelled() => {}
        () = signals.abort.cancelled() => {}
        () = watching => {}
        // Only when there is nothing to listen on.
        _ = accepting => {}
    }
    drain(&shared, drain_deadline, &signals.abort).await
}

/// Hands each connection to a task of its own, for ever. Dropping the future closes the listener.
async fn accept<H: Handler>(listener: Listener, shared: Arc<Shared<H>>) {
    loop {
        // At the limit nothing is accepted: clients wait in the kernel's backlog.
        let Ok(slot) = Arc::clone(&shared.slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, origin)) => spawn(&shared, socket, origin, slot),
            Err(error) if of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, listener = %listener.address(), "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The connection failed before we took it; the listener is fine.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

fn spawn<H: Handler>(
    shared: &Arc<Shared<H>>,
    socket: Accepted,
    origin: Origin,
    slot: OwnedSemaphorePermit,
) {
    let open = Open::new(&shared.tally, slot);
    let task = {
        let shared = Arc::clone(shared);
        async move {
            let _open = open;
            serve(socket, origin, &shared).await;
        }
    };
    let cut = shared.cut.clone();
    shared.tracker.spawn(async move {
        if cut.run_until_cancelled(task).await.is_none() {
            tracing::warn!(?origin, "a client's connection was cut at the end of the drain");
        }
    });
}

async fn serve<H: Handler>(socket: Accepted, origin: Origin, shared: &Arc<Shared<H>>) {
    let stall = shared.limits.write_stall.get();
    match socket {
        Accepted::Tcp(stream) => {
            let Some((stream, origin)) = announced(stream, origin, shared).await else { return };
            let io = Stall::new(stream, stall, Arc::clone(&shared.tally));
            connection::run(io, Peer { origin, tls: None }, &shared.either, shared).await;
        }
        Accepted::Unix(stream) => {
            let io = Stall::new(stream, stall, Arc::clone(&shared.tally));
            connection::run(io, Peer { origin, tls: None }, &shared.either, shared).await;
        }
        Accepted::Tls(stream) => {
            let Some((stream, origin)) = announced(stream, origin, shared).await else { return };
            let io = Stall::new(stream, stall, Arc::clone(&shared.tally));
            // Boxed: a TLS stream is large and would make every connection's future so.
            Box::pin(serve_tls(io, origin, shared)).await;
        }
    }
}

/// The connection behind its PROXY header, where a trusted proxy sends one, and whose it is; `None`
/// if there is none although there should be. Its time counts as part of a handshake.
async fn announced<H>(
    mut stream: TcpStream,
    origin: Origin,
    shared: &Shared<H>,
) -> Option<(TcpStream, Origin)> {
    let from = match origin {
        Origin::Tcp(address) => Some(address.ip()),
        Origin::Unix => None,
    };
    if !shared.proxies.as_ref().is_some_and(|proxies| proxies.covers(from)) {
        return Some((stream, origin));
    }
    let limit = shared.limits.handshake_time.get();
    let told = tokio::select! {
        told = tokio::time::timeout(limit, proxy_protocol::read(&mut stream)) => told,
        () = shared.draining.cancelled() => return None,
    };
    match told {
        Ok(Ok(client)) => Some((stream, client.map_or(origin, Origin::Tcp))),
        Ok(Err(error)) => {
            shared.tally.handshake_failures.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%error, ?origin, "no PROXY header");
            None
        }
        Err(_) => {
            shared.tally.handshake_failures.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(?origin, "the PROXY header took too long");
            None
        }
    }
}

async fn serve_tls<H: Handler>(io: Stall<TcpStream>, origin: Origin, shared: &Arc<Shared<H>>) {
    let Some(tls) = &shared.tls else { return };
    let handshake = tokio::time::timeout(shared.limits.handshake_time.get(), async {
        let _slot = shared.handshakes.acquire().await;
        tls.accept(io).await
    });
    let outcome = tokio::select! {
        outcome = handshake => outcome,
        // No request can have been sent: the client finds another server at no cost.
        () = shared.draining.cancelled() => return,
    };
    match outcome {
        Ok(Ok((io, info))) => {
            let builder = match info.alpn {
                Some(tls::Alpn::H2) => &shared.http2,
                Some(tls::Alpn::Http11) | None => &shared.either,
            };
            connection::run(io, Peer { origin, tls: Some(info) }, builder, shared).await;
        }
        Ok(Err(error)) => {
            shared.tally.handshake_failures.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%error, ?origin, "TLS handshake failed");
        }
        Err(_) => {
            shared.tally.handshake_failures.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(?origin, "TLS handshake took too long");
        }
    }
}

/// Lets connections finish, then cuts them.
async fn drain<H>(shared: &Shared<H>, deadline: Duration, abort: &CancellationToken) -> Drained {
    shared.draining.cancel();
    shared.tracker.close();
    tokio::select! {
        () = shared.tracker.wait() => return Drained { cut: 0 },
        () = tokio::time::sleep(deadline) => {}
        () = abort.cancelled() => {}
    }
    let cut = shared.tally.open();
    shared.cut.cancel();
    shared.tracker.wait().await;
    tracing::warn!(connections = cut, "the drain's time is over: cut what was left");
    Drained { cut }
}

/// One open connection: its slot and its count.
struct Open {
    tally: Arc<Tally>,
    _slot: OwnedSemaphorePermit,
}

impl Open {
    fn new(tally: &Arc<Tally>, slot: OwnedSemaphorePermit) -> Self {
        tally.accepted.fetch_add(1, Ordering::Relaxed);
        tally.open.fetch_add(1, Ordering::AcqRel);
        Self { tally: Arc::clone(tally), _slot: slot }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.tally.open.fetch_sub(1, Ordering::AcqRel);
    }
}
