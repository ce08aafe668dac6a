//! Certificates change while we run: their files are looked at, and taken over when they are good.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::{Duration, MissedTickBehavior, interval};

use super::{ServerTls, files};
use crate::pem;

/// Contents are compared, not times or names: a chain and its key are written one after the other,
/// links are exchanged, and mounted secrets change behind both. A pair that does not fit together
/// yet does so a moment later.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often files were taken over, and how often not.
#[derive(Debug, Default)]
pub struct Reloads {
    done: AtomicU64,
    failed: AtomicU64,
}

impl Reloads {
    /// Taken over.
    pub fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// Not good: the old ones stayed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }
}

impl ServerTls {
    /// Looks at the files for ever.
    pub(in crate::front) async fn watch(&self) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refused = None;
        loop {
            ticks.tick().await;
            self.look(&mut refused);
        }
    }

    /// Reads a few small files; `refused` is what they held when they were last found wanting, so
    /// that each state of them is complained of once.
    pub(super) fn look(&self, refused: &mut Option<blake3::Hash>) {
        let current = self.current.load();
        let found = pem::digest(files(&current.settings));
        if found == current.files || *refused == Some(found) {
            return;
        }
        match self.load(&current.settings) {
            Ok(loaded) => {
                self.publish(loaded);
                self.reloads.done.fetch_add(1, Relaxed);
                *refused = None;
                tracing::info!("new certificates are in use");
            }
            Err(error) => {
                self.reloads.failed.fetch_add(1, Relaxed);
                *refused = Some(found);
                tracing::warn!(%error, "new certificates cannot be used: the old ones stay");
            }
        }
    }
}
