//! Answers before anybody asks: `reprise warm`.
//!
//! Each line of a file becomes the request that a client would send. One that comes with its answer
//! is kept as if its upstream had given it; any other is sent through a front of our own, on a port
//! of this machine that lives as long as this run, so it goes the very way that serves. What is
//! there already is left alone: after a kill, running it again goes on where it stopped.

mod line;
mod pace;
mod run;
mod send;

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use http::HeaderMap;
use tokio_util::task::TaskTracker;

pub use self::{line::Defaults, pace::Rate, run::Warmer};
use super::{StartFault, open};
use crate::{
    admin::Health,
    config::{Config, StoreKind, Trusted},
    exchange::Doorman,
    front::{Address, Front, Inherited, Signals},
};

/// How a file is to be asked.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What lines need not say.
    pub defaults: Defaults,
    /// Sent with every request: whose answers they are, tags, a namespace.
    pub headers: HeaderMap,
    /// Questions to the upstream, at most.
    pub rate: Option<Rate>,
    /// Lines at a time.
    pub concurrency: usize,
}

/// Why nothing was warmed.
#[derive(Debug, thiserror::Error)]
pub enum WarmFault {
    /// No store, no embedder, or no upstream that can be used.
    #[error("{0}")]
    Open(String),
    /// See [`StartFault`].
    #[error(transparent)]
    Start(#[from] StartFault),
    /// The file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Lines that are no questions; nothing was asked.
    #[error("{path}: nothing was asked, for lines are wrong:\n{}", reasons.join("\n"))]
    Lines {
        /// Which file.
        path: String,
        /// The first of them, each with its number.
        reasons: Vec<String>,
    },
}

/// What became of the lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warmed {
    /// Asked of the upstream and kept.
    pub asked: u64,
    /// Kept as given.
    pub given: u64,
    /// There already.
    pub already: u64,
    /// Neither: why, by line number.
    pub failed: Vec<(usize, String)>,
    /// Kept in memory alone, so lost: the store would not take them.
    pub unwritten: u64,
}

impl Warmed {
    /// Is every line's answer where clients will find it?
    pub const fn is_whole(&self) -> bool {
        self.failed.is_empty() && self.unwritten == 0
    }
}

/// Warms the store of a configuration with the lines of `path`. `tell` hears how many of how many
/// lines are done.
///
/// # Errors
/// Why it could not begin; what went wrong on the way is in [`Warmed`].
pub async fn warm(
    config: &Config,
    wanted: Wanted,
    path: &Path,
    tell: impl FnMut(u64, u64),
) -> Result<Warmed, WarmFault> {
    let config = &alone(config)?;
    let (health, tasks) = (Arc::new(Health::new()), TaskTracker::new());
    let opened = open::house(config, &health, &tasks).await?;
    let house = opened.house.clone();
    if house.cache.store().is_none() {
        let why = health.trouble("store").unwrap_or_default();
        return Err(WarmFault::Open(format!(
            "there is no store to warm: {why}. An embedded store is of one process: stop the one \
             that serves it, or warm a store on a server"
        )));
    }
    let front = Front::bind(config, &mut Inherited::none()).await.map_err(StartFault::Bind)?;
    let address = front.addresses().into_iter().find_map(|address| match address {
        Address::Http(address) => Some(address),
        Address::Https(_) | Address::Unix(_) => None,
    });
    let nowhere = || WarmFault::Open("no port of this machine could be opened".into());
    let warmer = Warmer::new(house.clone(), address.ok_or_else(nowhere)?, wanted)?;
    let signals = Signals::default();
    let door = Doorman(Arc::new(ArcSwap::new(house.clone())));
    let serving = tokio::spawn({
        let signals = signals.clone();
        async move { front.serve(door, signals).await }
    });
    let warmed = warmer.run(path, tell).await;
    signals.drain.cancel();
    let _ = serving.await;
    if let Err(error) = house.cache.save_learned() {
        tracing::error!(%error, "what was learned about near questions could not be saved");
    }
    drop((warmer, opened));
    // An embedded store writes out what waits when it goes, and blocks meanwhile.
    let _ = tokio::task::spawn_blocking(move || drop(house)).await;
    tasks.close();
    tasks.wait().await;
    warmed
}

/// The same house with a single door that nobody else is told of.
fn alone(config: &Config) -> Result<Config, WarmFault> {
    if config.store.kind == StoreKind::Off || !config.cache.enabled {
        let why = "store.kind = \"off\" or cache.enabled = false: nothing would be kept";
        return Err(WarmFault::Open(why.into()));
    }
    let mut config = config.clone();
    config.listen.http = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.listen.https = None;
    config.listen.unix = None;
    config.listen.admin = None;
    config.listen.trusted = Trusted::default();
    config.listen.proxy_protocol = false;
    // --rate is what bounds this client.
    config.limits.tenant_requests = 0;
    config.limits.tenant_tokens = 0;
    config.log.access = false;
    config.telemetry.otlp_endpoint = None;
    Ok(config)
}
