//! Purges that every replica on one store takes part in.
//!
//! Whoever purges writes a small record into the store itself, before it deletes anything. Every
//! replica looks for new records each second, forgets what they mean in its memory, deletes what it
//! had just written, and from then on neither writes nor serves what was generated before: a *fence*.
//! Fences outlive the longest an answer could still be on its way.

use std::{collections::HashSet, time::Duration};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::{sync::Mutex, time::Instant};

use super::{
    entry::{Entry, now_ms},
    exact::ExactTier,
    purge::means,
    readings::Readings,
};
use crate::store::{
    EntryId, Selector, StoreFault,
    meta::{Meta, Shared},
};

/// What the shared records are called.
const KIND: &str = "purge";

/// How long a replica that cannot reach the store may hold an answer back and still not bring it
/// behind a purge.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// A purge older than this has been carried out by whoever was there: doing it again would only take
/// answers that came after it.
const NEWS: Duration = Duration::from_secs(10);

/// With fences older than this nothing is written before they have been looked up again.
pub(super) const FRESH: Duration = Duration::from_secs(3);

/// One purge, as all replicas read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Purge {
    selector: Selector,
    made_ms: u64,
}

impl Purge {
    /// Was this answer there when it was purged?
    fn covers(&self, entry: &Entry) -> bool {
        entry.generated_ms <= self.made_ms && means(&self.selector, entry)
    }

    fn is_news(&self) -> bool {
        is_news(self.made_ms)
    }

    /// What is to be deleted once more in the store, for what this replica wrote before it heard of
    /// it. What was generated since is another answer, under the very same key perhaps, and stays.
    pub(super) fn again(self) -> Selector {
        Selector::Both(Box::new((self.selector, Selector::Before(self.made_ms + 1))))
    }
}

/// Is it so fresh that its deletion in the store may have missed something?
pub(super) fn is_news(made_ms: u64) -> bool {
    u128::from(now_ms().saturating_sub(made_ms)) < NEWS.as_millis()
}

/// The purges of the last day.
pub(super) struct Fences {
    meta: Meta,
    exact: ExactTier,
    readings: Readings,
    purges: RwLock<Vec<Purge>>,
    looked: Mutex<Looked>,
}

#[derive(Default)]
struct Looked {
    seen: HashSet<EntryId>,
    at: Option<Instant>,
}

impl Fences {
    pub(super) fn new(meta: Meta, exact: ExactTier, readings: Readings) -> Self {
        Self { meta, exact, readings, purges: RwLock::default(), looked: Mutex::default() }
    }

    /// Has this answer been purged since it was generated?
    pub(super) fn stop(&self, entry: &Entry) -> bool {
        self.purges.read().iter().any(|purge| purge.covers(entry))
    }

    /// Tells all replicas, this one first.
    ///
    /// # Errors
    /// The store's: then nobody was told.
    pub(super) async fn announce(&self, selector: Selector) -> Result<(), StoreFault> {
        let purge = Purge { selector, made_ms: now_ms() };
        let value = serde_json::to_vec(&purge)
            .map_err(|error| StoreFault::Failed(format!("a purge cannot be written: {error}")))?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| StoreFault::Failed(error.to_string()))?;
        let name = format!("{}-{:016x}", purge.made_ms, u64::from_le_bytes(random));
        let shared = Shared { name: name.into(), written_ms: purge.made_ms, value: value.into() };
        let life_ms = u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX);
        let id = self.meta.set(KIND, shared, purge.made_ms + life_ms).await?;
        self.looked.lock().await.seen.insert(id);
        self.purges.write().push(purge);
        Ok(())
    }

    /// Looks for purges of others, if that was not done within `fresh`; forgets in memory what they
    /// mean, and gives those back whose deletion in the store may have missed what this replica wrote
    /// meanwhile.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn refresh(&self, fresh: Duration) -> Result<Vec<Purge>, StoreFault> {
        let mut looked = self.looked.lock().await;
        if looked.at.is_some_and(|at| at.elapsed() < fresh) {
            return Ok(Vec::new());
        }
        let ids = self.meta.ids(KIND).await?;
        let mut news = Vec::new();
        for id in &ids {
            if looked.seen.contains(id) {
                continue;
            }
            // Named but not readable yet: the next look will find it.
            let Some(shared) = self.meta.by_id(*id).await? else { continue };
            looked.seen.insert(*id);
            match serde_json::from_slice::<Purge>(&shared.value) {
                Ok(purge) => {
                    news.extend(purge.is_news().then(|| purge.clone()));
                    self.raise(purge);
                }
                Err(error) => {
                    tracing::warn!(%error, "a purge of a later version is not understood")
                }
            }
        }
        let ids: HashSet<_> = ids.into_iter().collect();
        looked.seen.retain(|id| ids.contains(id));
        looked.at = Some(Instant::now());
        let oldest = now_ms().saturating_sub(u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX));
        self.purges.write().retain(|purge| purge.made_ms >= oldest);
        Ok(news)
    }

    fn raise(&self, purge: Purge) {
        // The fence first: what a lookup carries into memory meanwhile is stopped by it.
        self.purges.write().push(purge.clone());
        let gone = self.exact.remove_if(|entry| purge.covers(entry));
        self.readings.clear();
        tracing::info!(selector = ?purge.selector, gone, "another replica purged");
    }
}
