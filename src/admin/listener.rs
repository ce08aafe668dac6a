//! Accepting connections of the admin listener, bounded in number, in age and in what they may
//! send: it must answer a health check also when somebody leans on it.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Admin, Health};
use crate::observe::SAMPLE_EVERY;

/// Scrapers, probes and some dashboards; more wait in the listen backlog.
const MAX_CONNECTIONS: usize = 256;

/// For a whole request head, and between two requests: longer than the usual scrape interval is
/// not needed, a new connection is cheap.
const HEADER_TIME: Duration = Duration::from_secs(15);

/// Then a connection is asked to end: this is what bounds a peer that stops reading.
const MAX_AGE: Duration = Duration::from_secs(600);

/// How long a connection that was asked to end may take over its last answer.
const LAST_ANSWER: Duration = Duration::from_secs(2);

/// After `accept` failed (no file descriptors left): a tight loop would burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers that the process is starting until `opened`; then gives the listener back. What was
/// accepted by then is asked to end.
pub async fn starting(
    listener: TcpListener,
    health: Arc<Health>,
    opened: CancellationToken,
) -> TcpListener {
    let mut connections = JoinSet::new();
    answer(&listener, &super::starting_router(health), &opened, &mut connections).await;
    while connections.join_next().await.is_some() {}
    listener
}

/// Serves until `stop`, and keeps the history that the dashboard shows; then ends what is open
/// within a few seconds.
pub async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) {
    let (observer, watchers) = (Arc::clone(&admin.observer), admin.watchers.clone());
    let router = admin.router();
    let sampling = async {
        let mut samples = interval(SAMPLE_EVERY);
        samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            samples.tick().await;
            observer.sample();
        }
    };
    let mut connections = JoinSet::new();
    tokio::select! {
        () = answer(&listener, &router, &stop, &mut connections) => {}
        () = sampling => {}
    }
    drop(listener);
    watchers.close();
    // Each of them has seen `stop` and has its own deadline.
    while connections.join_next().await.is_some() {}
}

/// Accepts until `stop`.
async fn answer(
    listener: &TcpListener,
    router: &Router,
    stop: &CancellationToken,
    connections: &mut JoinSet<()>,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            accepted = accept(listener, &permits) => match accepted {
                Ok((stream, peer, permit)) => {
                    let (stop, router) = (stop.clone(), router.clone());
                    connections.spawn(async move {
                        connection(stream, peer, router, stop).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin listener cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            // Forgets those that ended.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
    // Events are small frames that should not wait for one another.
    let _ = stream.set_nodelay(true);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.call(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_headers(64)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    tokio::select! {
        // How a peer leaves is its own affair.
        _ = serving.as_mut() => return,
        () = stop.cancelled() => {}
        () = sleep(MAX_AGE) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = timeout(LAST_ANSWER, serving).await;
}
