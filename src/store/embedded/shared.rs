//! What the store's threads share: the shards, who may do what to them, and how they are.

use std::{
    fs,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use parking_lot::{Mutex, RwLock};

use super::{
    collection::Collection,
    room,
    shard::{Layout, guarded},
    shards::Shards,
};
use crate::store::{StoreFault, StoreReport};

/// So many failed lookups in a row, and the writer opens the shards again.
const FAULTS_UNTIL_REOPEN: u32 = 8;

/// The file that holds [`Shared::unindexed`].
const UNINDEXED: &str = "unindexed";

/// Shared by the handle and all threads of one store.
pub(super) struct Shared {
    pub(super) collection: Collection,
    pub(super) layout: Layout,
    /// `None` while they are being opened again, or could not be. Whoever takes this for writing
    /// holds `maintenance`, so no optimization (minutes of reading) can make the lookups wait.
    pub(super) shards: RwLock<Option<Shards>>,
    /// Held by whoever flushes, optimizes or reopens: Edge panics where a flush meets an optimization.
    pub(super) maintenance: Mutex<()>,
    pub(super) records: AtomicU64,
    pub(super) disk_bytes: AtomicU64,
    /// Changed records that no optimization has seen. The writer adds, the compactor takes off.
    pub(super) unindexed: AtomicU64,
    /// What its file says; no count at all where there is none.
    noted: AtomicU64,
    /// Records that went because the disk space was used up.
    pub(super) evicted: AtomicU64,
    /// Finished optimizations.
    pub(super) compactions: AtomicU64,
    /// What is wrong now.
    pub(super) trouble: Mutex<Option<String>>,
    /// What went wrong when opening, for as long as the process lives.
    pub(super) notice: Option<String>,
    /// Failed lookups since the last good one.
    faults: AtomicU32,
}

impl Shared {
    pub(super) fn new(
        collection: Collection,
        layout: Layout,
        shards: Shards,
        notice: Option<String>,
    ) -> Self {
        let records = AtomicU64::new(shards.len());
        let disk_bytes = AtomicU64::new(room::taken(&collection.dir));
        // Without its file all records wait for an optimization.
        let noted = fs::read_to_string(collection.dir.join(UNINDEXED)).unwrap_or_default();
        let noted = noted.trim().parse().ok();
        let unindexed = AtomicU64::new(noted.unwrap_or(shards.len()));
        Self {
            collection,
            layout,
            shards: RwLock::new(Some(shards)),
            maintenance: Mutex::new(()),
            records,
            disk_bytes,
            unindexed,
            noted: AtomicU64::new(noted.unwrap_or(u64::MAX)),
            evicted: AtomicU64::new(0),
            compactions: AtomicU64::new(0),
            trouble: Mutex::new(None),
            notice,
            faults: AtomicU32::new(0),
        }
    }

    /// Asks the shards something. A panic in there is a fault of this one question.
    pub(super) fn read<T>(
        &self,
        ask: impl FnOnce(&Shards) -> Result<T, StoreFault>,
    ) -> Result<T, StoreFault> {
        let result = match &*self.shards.read() {
            Some(shards) => guarded("reading", || ask(shards)),
            None => Err(StoreFault::Unavailable("it is being opened again".to_owned())),
        };
        match &result {
            Ok(_) => self.faults.store(0, Ordering::Relaxed),
            Err(_) => {
                self.faults.fetch_add(1, Ordering::Relaxed);
            }
        }
        result
    }

    /// Keeps that count for the next start; a few seconds of it may be lost.
    pub(super) fn keep_unindexed(&self) {
        let unindexed = self.unindexed.load(Ordering::Relaxed);
        // An idle store writes nothing.
        if self.noted.swap(unindexed, Ordering::Relaxed) == unindexed {
            return;
        }
        let file = self.collection.dir.join(UNINDEXED);
        if let Err(fault) = fs::write(file, unindexed.to_string()) {
            tracing::warn!(%fault, "what waits for an optimization cannot be noted");
        }
    }

    /// Whether lookups keep failing; asking resets the count, so each streak is acted on once.
    pub(super) fn lookups_keep_failing(&self) -> bool {
        let failing = self.faults.load(Ordering::Relaxed) >= FAULTS_UNTIL_REOPEN;
        if failing {
            self.faults.store(0, Ordering::Relaxed);
        }
        failing
    }

    pub(super) fn report(&self) -> StoreReport {
        StoreReport {
            kind: "embedded",
            collection: self.collection.name.clone(),
            records: self.records.load(Ordering::Relaxed),
            disk_bytes: self.disk_bytes.load(Ordering::Relaxed),
            unindexed: self.unindexed.load(Ordering::Relaxed),
            evicted_total: self.evicted.load(Ordering::Relaxed),
            trouble: self.trouble.lock().clone().or_else(|| self.notice.clone()),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(shards) = self.shards.get_mut().take() {
            shards.close();
        }
    }
}
