//! The thread that optimizes: builds graphs over new vectors and drops what was deleted.

use std::sync::{atomic::Ordering, mpsc::Receiver};

use super::{room, shared::Shared};

/// The weakest claim to the processor that Linux knows.
const NICEST: i32 = 19;

/// Optimizes once for each wish, until the writer is gone.
pub(super) fn run(shared: &Shared, wishes: &Receiver<()>) {
    // Linux keeps niceness per thread, and the threads that Edge starts from here inherit it. A
    // system that refuses loses some latency during an optimization, nothing else.
    rustix::process::setpriority_process(None, NICEST).ok();
    while wishes.recv().is_ok() {
        optimize(shared);
    }
}

/// Optimizes now, if there is room for a second copy.
pub(super) fn optimize(shared: &Shared) {
    // Segments are rebuilt beside the old ones.
    let copy = shared.disk_bytes.load(Ordering::Relaxed);
    if let Err(fault) = room::check(&shared.collection.dir, copy) {
        tracing::warn!(%fault, "the store is not optimized");
        return;
    }
    let _alone = shared.maintenance.lock();
    let started = std::time::Instant::now();
    let seen = shared.unindexed.load(Ordering::Relaxed);
    match shared.read(super::shards::Shards::optimize) {
        Ok(()) => {
            shared.unindexed.fetch_sub(seen, Ordering::Relaxed);
            tracing::info!(elapsed = ?started.elapsed(), "the store was optimized");
        }
        Err(fault) => tracing::warn!(%fault, "the store could not be optimized"),
    }
    shared.compactions.fetch_add(1, Ordering::Relaxed);
}
