//! A new configuration for a running process: all of it or nothing.
//!
//! Everything new is opened first; only when all of it is good is it put in place, by exchanging
//! the [`House`] that the next request enters. Requests inside the old one keep it to their end.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::open;
use crate::{
    admin::Reload,
    config::{Change, Config, Problems, changes},
    exchange::House,
    front::tls::{ServerTls, TlsError},
    upstream::{OpenError, sight::Sight},
};

/// Reads the configuration again, from where it was read at the start.
pub type Reread = Box<dyn Fn() -> Result<Config, Problems> + Send + Sync>;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadFault {
    #[error("the configuration is wrong:\n{0}")]
    Config(#[from] Problems),
    #[error("these settings need a restart: {}; nothing was changed", .0.join(", "))]
    Fixed(Vec<&'static str>),
    #[error(transparent)]
    Upstream(#[from] OpenError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Puts new configurations in place.
pub(super) struct Reloader {
    current: Arc<ArcSwap<House>>,
    tls: Option<Arc<ServerTls>>,
    sight: Arc<Sight>,
    reread: Reread,
    /// One at a time.
    busy: Mutex<()>,
    applied: AtomicU64,
    refused: AtomicU64,
}

impl Reloader {
    pub(super) fn new(
        current: Arc<ArcSwap<House>>,
        tls: Option<Arc<ServerTls>>,
        sight: Arc<Sight>,
        reread: Reread,
    ) -> Self {
        let (applied, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { current, tls, sight, reread, busy: Mutex::new(()), applied, refused }
    }

    /// Configurations put in place, and refused.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.applied.load(Relaxed), self.refused.load(Relaxed))
    }

    fn apply(&self) -> Result<Vec<Change>, ReloadFault> {
        let _busy = self.busy.lock();
        let config = (self.reread)()?;
        let old = self.current.load_full();
        let changes = changes(&old.config, &config).map_err(ReloadFault::Fixed)?;
        if changes.is_empty() {
            return Ok(changes);
        }
        let certificates = match &self.tls {
            Some(tls) if changes.contains(&Change::Tls) => Some((tls, tls.load(&config.tls)?)),
            _ => None,
        };
        let mut next = House::clone(&old);
        if changes.contains(&Change::Upstreams) {
            next.upstreams = old.upstreams.reopened(&config)?;
            open::promises(&config, &next.upstreams, &old.observer);
        }
        // From here on nothing can fail.
        if changes.contains(&Change::Upstreams) {
            self.sight.watch(&config);
        }
        next.config = config;
        next.admission.resize(next.config.limits.requests);
        next.bodies.resize(next.config.limits.bodies_bytes.bytes());
        next.cache.configure(next.config.cache.clone());
        if let Some((tls, loaded)) = certificates {
            tls.publish(loaded);
        }
        self.current.store(Arc::new(next));
        Ok(changes)
    }
}

impl Reload for Reloader {
    fn reload(&self) -> Result<Vec<&'static str>, String> {
        match self.apply() {
            Ok(changes) => {
                self.applied.fetch_add(1, Relaxed);
                let names: Vec<_> = changes.into_iter().map(Change::name).collect();
                tracing::info!(changed = names.join(","), "configuration reloaded");
                Ok(names)
            }
            Err(fault) => {
                self.refused.fetch_add(1, Relaxed);
                tracing::error!(%fault, "configuration not reloaded: the old one stays");
                Err(fault.to_string())
            }
        }
    }
}
