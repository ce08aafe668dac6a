//! The threads that answer lookups.

use std::sync::{Arc, mpsc::Receiver};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::shared::Shared;
use crate::{
    embed::Vector,
    store::{EntryId, Holding, Neighbour, Record, Selector, StoreFault},
};

/// Where a job's result goes. Its other end is gone when nobody waits any more.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreFault>>;

/// Part of a list, and the id that the next part begins with.
pub(super) type Page = (Vec<Holding>, Option<EntryId>);

/// A question to the store.
pub(super) enum Read {
    Get(EntryId, Reply<Option<Record>>),
    Nearest {
        partition: Arc<str>,
        vector: Vector,
        limit: usize,
        reply: Reply<Vec<Neighbour>>,
    },
    Count(Selector, Reply<u64>),
    Answers(Selector, Reply<Vec<EntryId>>),
    /// A page of a list, from its first id on.
    Holdings(Selector, Option<EntryId>, Reply<Page>),
}

/// Answers questions until all senders are gone.
pub(super) fn run(shared: &Shared, jobs: &Mutex<Receiver<Read>>) {
    loop {
        // One reader waits in `recv`, the others wait for the lock: a bounded queue of the standard
        // library with several consumers. The guard is gone before the work begins.
        let job = jobs.lock().recv();
        match job {
            Ok(job) => answer(shared, job),
            Err(_) => return,
        }
    }
}

fn answer(shared: &Shared, job: Read) {
    match job {
        Read::Get(id, reply) => give(reply, || shared.read(|shards| shards.get(id))),
        Read::Nearest { partition, vector, limit, reply } => {
            give(reply, || shared.read(|shards| shards.nearest(&partition, &vector, limit)));
        }
        Read::Count(selector, reply) => {
            give(reply, || shared.read(|shards| shards.count(&selector)));
        }
        Read::Holdings(selector, from, reply) => {
            let dimension = shared.layout.dimension;
            give(reply, || shared.read(|shards| shards.holdings(&selector, from, dimension)));
        }
        Read::Answers(selector, reply) => {
            give(reply, || shared.read(|shards| shards.answers(&selector)));
        }
    }
}

/// Works only for who still waits: past its deadline a lookup must not delay the next one.
fn give<T>(reply: Reply<T>, work: impl FnOnce() -> Result<T, StoreFault>) {
    if !reply.is_closed() {
        // The caller may leave while we work; then nobody misses the result.
        reply.send(work()).ok();
    }
}
