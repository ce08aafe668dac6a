//! The composition root: the only file that knows every room.
//!
//! [`run`] is the life of a serving process: bind, open (the model and the store load while the
//! admin listener already answers "starting"), serve, drain, flush.

mod embedder;
mod explain;
mod open;
mod reload;
mod reports;
mod store;
pub mod transfer;
pub mod warm;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    net::TcpListener,
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::reload::Reread;
use self::{open::Opened, reload::Reloader, reports::Reports};
use crate::{
    admin::{self, Admin, Health, Phase, Reload as _},
    config::Config,
    exchange::{Doorman, House},
    front::{BindError, Front, Inherited, Signals, lanes::Lanes},
    observe::log::Dropped,
    upstream::{OpenError, sight::Sight},
};

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// A client listener cannot be bound, or its certificate cannot be used.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin listener cannot be bound.
    #[error("cannot listen on listen.admin = \"{address}\": {source}")]
    Admin {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A socket that was handed over cannot be used.
    #[error("LISTEN_FDS: {0}")]
    Inherited(#[source] std::io::Error),
    /// Sockets that were handed over and that no setting names.
    #[error("LISTEN_FDS hands over {0}, and no listen.* names it: set the same address there")]
    Unexpected(String),
    /// An upstream's settings cannot be used.
    #[error(transparent)]
    Upstream(#[from] OpenError),
    /// The tenants' key cannot be read or made.
    #[error(transparent)]
    TenantKey(std::io::Error),
    /// Two metrics of one name, or no signal handlers: the process cannot work.
    #[error("cannot start: {0}")]
    Process(String),
}

/// Serves until a signal says to stop. SIGHUP has the configuration read again by `reread`.
///
/// # Errors
/// Whatever keeps it from serving at all; a broken cache does not.
pub async fn run(config: Config, reread: Reread, dropped: Dropped) -> Result<(), StartFault> {
    let health = Arc::new(Health::new());
    let signals = Signals::default();
    let watcher = watch_signals(&config, &health, &signals)?;
    let lanes = Lanes::start(config.listen.threads);
    let lanes = Arc::new(lanes.map_err(|error| StartFault::Process(error.to_string()))?);
    let mut inherited = Inherited::from_env().map_err(StartFault::Inherited)?;
    let front = Front::bind(&config, &mut inherited).await?.on(lanes.clone());
    let admin_listener = bind_admin(&config, &mut inherited).await?;
    if !inherited.is_empty() {
        return Err(StartFault::Unexpected(inherited.to_string()));
    }

    let tasks = TaskTracker::new();
    let opened = CancellationToken::new();
    let starting = admin_listener.map(|listener| {
        let starting = admin::starting(listener, health.clone(), opened.clone());
        tokio::spawn(starting)
    });
    let house = open::house(&config, &health, &tasks).await;
    opened.cancel();
    let Opened { house, embedder, counted, observer, exporter } = house?;
    let sight = Arc::new(Sight::default());
    sight.watch(&config);
    let current = Arc::new(ArcSwap::new(house.clone()));
    let reloader = Arc::new(Reloader::new(current.clone(), front.tls(), sight.clone(), reread));
    let hang_ups = watch_hang_ups(&reloader)?;
    let reports = Arc::new(Reports {
        current: current.clone(),
        embedder,
        counted,
        sight,
        dropped,
        tally: front.tally(),
        tls: front.tls(),
        reloader: reloader.clone(),
        lanes: lanes.clone(),
        runtime: Handle::current(),
    });
    let admin_stop = CancellationToken::new();
    let token = config.admin.token.as_deref();
    let desk =
        Admin::new(observer, reports.clone(), health.clone(), reports, token).reloading(reloader);
    let admin = match starting {
        Some(starting) => match starting.await {
            Ok(listener) => Some(tokio::spawn(admin::serve(listener, desk, admin_stop.clone()))),
            Err(error) => return Err(StartFault::Process(error.to_string())),
        },
        None => None,
    };

    for address in front.addresses() {
        tracing::info!(%address, "listening");
    }
    let saver = tokio::spawn(save_learned(house.clone()));
    health.enter(Phase::Serving);
    let drained = front.serve(Doorman(current), signals.clone()).await;
    if drained.cut > 0 {
        tracing::warn!(connections = drained.cut, "cut at the end of the drain");
    }
    finish(&config, &house, tasks, &signals).await;
    if let Some(exporter) = exporter {
        exporter.close().await;
    }
    admin_stop.cancel();
    if let Some(admin) = admin {
        let _ = admin.await;
    }
    saver.abort();
    watcher.abort();
    hang_ups.abort();
    drop(lanes);
    tracing::info!("stopped");
    Ok(())
}

/// Lets running journeys end (their answers are wanted by the cache), then makes everything durable.
async fn finish(config: &Config, house: &Arc<House>, tasks: TaskTracker, signals: &Signals) {
    house.tasks.close();
    tokio::select! {
        () = house.tasks.wait() => {}
        () = signals.abort.cancelled() => {}
        () = tokio::time::sleep(config.drain.deadline.get()) => {
            tracing::warn!(answers = house.tasks.len(), "given up unfinished");
        }
    }
    const FLUSH_TIME: Duration = Duration::from_secs(10);
    match tokio::time::timeout(FLUSH_TIME, house.cache.flush()).await {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => tracing::error!(%fault, "the store could not be flushed"),
        Err(_) => tracing::error!("the store took too long to flush"),
    }
    if let Err(error) = house.cache.save_learned() {
        tracing::error!(%error, "what was learned about near questions could not be saved");
    }
    tasks.close();
}

/// What was learned is written down now and then: a crash loses a minute of it, and no answer.
async fn save_learned(house: Arc<House>) {
    const EVERY: Duration = Duration::from_secs(60);
    loop {
        tokio::time::sleep(EVERY).await;
        let cache = house.cache.clone();
        let saved = tokio::task::spawn_blocking(move || cache.save_learned()).await;
        if let Ok(Err(error)) = saved {
            tracing::error!(%error, "what was learned about near questions could not be saved");
        }
    }
}

async fn bind_admin(
    config: &Config,
    inherited: &mut Inherited,
) -> Result<Option<TcpListener>, StartFault> {
    let Some(address) = config.listen.admin else { return Ok(None) };
    let listener = match inherited.take_tcp(address) {
        Some(handed) => TcpListener::from_std(handed),
        None => TcpListener::bind(address).await,
    };
    let listener = listener.map_err(|source| StartFault::Admin { address, source })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "admin listening");
    }
    Ok(Some(listener))
}

/// First SIGTERM or SIGINT: not ready, wait `drain.delay`, drain. Second: now.
fn watch_signals(
    config: &Config,
    health: &Arc<Health>,
    signals: &Signals,
) -> Result<JoinHandle<()>, StartFault> {
    let open = |kind| signal(kind).map_err(|error| StartFault::Process(error.to_string()));
    let (mut terminate, mut interrupt) =
        (open(SignalKind::terminate())?, open(SignalKind::interrupt())?);
    let delay = config.drain.delay.get();
    let (health, signals) = (health.clone(), signals.clone());
    Ok(tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        tracing::info!("draining: a second signal cuts what is left");
        health.enter(Phase::Draining);
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = either(&mut terminate, &mut interrupt) => signals.abort.cancel(),
        }
        signals.drain.cancel();
        either(&mut terminate, &mut interrupt).await;
        signals.abort.cancel();
    }))
}

/// SIGHUP: read the configuration again.
fn watch_hang_ups(reloader: &Arc<Reloader>) -> Result<JoinHandle<()>, StartFault> {
    let hang_up = signal(SignalKind::hangup());
    let mut hang_up = hang_up.map_err(|error| StartFault::Process(error.to_string()))?;
    let reloader = reloader.clone();
    Ok(tokio::spawn(async move {
        while hang_up.recv().await.is_some() {
            let reloader = reloader.clone();
            // What became of it is logged and counted there.
            let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
        }
    }))
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
