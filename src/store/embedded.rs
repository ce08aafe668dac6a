//! The default store: Qdrant Edge, the engine of a Qdrant server, inside this process and on its disk.
//!
//! Edge blocks and computes, so it has threads of its own: one that writes, two that look up, one
//! that optimizes in the background. Queues between them and the async side are bounded, and a full
//! one is an answer ([`StoreFault::Busy`]). What `put` has acknowledged is in a journal before it is
//! in Edge, and survives the death of the process at any moment.
//!
//! It does not replicate, and one folder belongs to one process: who needs more runs a server.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::AtomicUsize,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::{
    collection::{Collection, Loaded},
    reader::{Read, Reply},
    shard::Layout,
    shared::Shared,
    writer::{Habits, Weight, Write, Writer},
};
use super::{
    EntryId, Holding, Neighbour, Quantization, Record, Selector, StoreFault, StoreReport,
    VectorStore,
};
use crate::embed::{Identity, Vector};

mod change;
mod collection;
mod compactor;
mod journal;
mod logs;
mod points;
mod reader;
mod room;
mod shard;
mod shards;
mod shared;
mod writer;

#[cfg(test)]
mod tests;

pub use collection::OpenError;

/// Lookups at a time. A search is one core's work; more threads than this would only take the cores
/// from the embedder.
const READERS: usize = 2;

/// Below this an empty store would already be over its quota: Edge preallocates.
const QUOTA_MIN_BYTES: u64 = 256 << 20;

/// An optimization cannot be interrupted. Closing waits so long for it, then leaves it to the end of
/// the process, which loses nothing: the journal has what Edge has not flushed.
const CLOSE_PATIENCE: Duration = Duration::from_secs(3);

/// Where the store is and how large it may get.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// The folder of all collections.
    pub path: PathBuf,
    /// Whose vectors are kept: each embedder has a collection of its own.
    pub identity: Identity,
    /// How many lookups, and how many changes, may wait.
    pub queue: usize,
    /// After so many changed records the store is optimized in the background.
    pub compact_after: usize,
    /// Disk bytes above which the records generated first are evicted (at least 256 MiB).
    pub max_bytes: u64,
    /// Bytes of a number while candidates are looked for. A store that was kept otherwise is
    /// rebuilt at its next optimization.
    pub quantization: Quantization,
}

/// An open store. Dropping it writes out what waits and blocks for that long, a few seconds at most:
/// not on a thread of the runtime.
pub struct Embedded {
    shared: Arc<Shared>,
    /// Of the records that wait to be written.
    queued_bytes: Arc<AtomicUsize>,
    /// `None` only while closing: threads end when their queue's last sender is gone.
    queues: Option<Queues>,
    threads: Vec<JoinHandle<()>>,
    /// Disconnected once the optimizing thread has ended.
    compactor_ended: Mutex<Receiver<()>>,
}

struct Queues {
    reads: SyncSender<Read>,
    writes: SyncSender<Write>,
}

impl Embedded {
    /// Opens the collection of `options.identity`, or makes it. Blocks: reads files, replays the
    /// journal.
    pub fn open(options: EmbeddedOptions) -> Result<Self, OpenError> {
        let habits = Habits {
            flush_every: Duration::from_secs(5),
            journal_max_bytes: 32 << 20,
            compact_after: options.compact_after.max(1),
            max_bytes: options.max_bytes.max(QUOTA_MIN_BYTES),
        };
        let layout = Layout::new(options.identity.dimension, options.quantization);
        Self::open_with(&options, layout, habits)
    }

    fn open_with(
        options: &EmbeddedOptions,
        layout: Layout,
        habits: Habits,
    ) -> Result<Self, OpenError> {
        let collection = Collection::claim(&options.path, &options.identity)?;
        let (Loaded { shards, journal }, notice) = collection.open(layout)?;
        let shared = Arc::new(Shared::new(collection, layout, shards, notice));
        let changed = shared.report().unindexed as usize;

        let (reads, read_jobs) = mpsc::sync_channel(options.queue.max(1));
        let (writes, write_jobs) = mpsc::sync_channel(options.queue.max(1));
        // One wish is enough: an optimization covers all that came before it.
        let (compactor, wishes) = mpsc::sync_channel(1);
        let (alive, compactor_ended) = mpsc::sync_channel(0);
        let mut store = Self {
            shared: Arc::clone(&shared),
            queued_bytes: Arc::default(),
            queues: Some(Queues { reads, writes }),
            threads: Vec::new(),
            compactor_ended: Mutex::new(compactor_ended),
        };
        let writer = Writer {
            shared: Arc::clone(&shared),
            jobs: write_jobs,
            journal,
            compactor,
            habits,
            changed,
            flushed_at: Instant::now(),
            broken: false,
            evicted_at: None,
        };
        store.start("store-write", move || writer.run())?;
        let read_jobs = Arc::new(Mutex::new(read_jobs));
        for _ in 0..READERS {
            let (shared, jobs) = (Arc::clone(&shared), Arc::clone(&read_jobs));
            store.start("store-read", move || reader::run(&shared, &jobs))?;
        }
        let compact = move || {
            compactor::run(&shared, &wishes);
            // In this order: who waits for the end wants the files closed and the lock free.
            drop(shared);
            drop(alive);
        };
        spawn("store-optimize", &store.shared, compact)?;
        Ok(store)
    }

    fn start(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
        let thread = spawn(name, &self.shared, work)?;
        self.threads.push(thread);
        Ok(())
    }

    async fn read<T>(&self, job: impl FnOnce(Reply<T>) -> Read) -> Result<T, StoreFault> {
        let (reply, answer) = oneshot::channel();
        let queues = self.queues.as_ref().ok_or_else(closing)?;
        queues.reads.try_send(job(reply)).map_err(|error| refusal(&error))?;
        answer.await.unwrap_or_else(|_| Err(closing()))
    }

    async fn write<T>(&self, job: impl FnOnce(Reply<T>) -> Write) -> Result<T, StoreFault> {
        let (reply, answer) = oneshot::channel();
        let queues = self.queues.as_ref().ok_or_else(closing)?;
        queues.writes.try_send(job(reply)).map_err(|error| refusal(&error))?;
        answer.await.unwrap_or_else(|_| Err(closing()))
    }

    async fn put_all(&self, records: Vec<Record>) -> Result<(), StoreFault> {
        for vector in records.iter().filter_map(|record| record.vector.as_ref()) {
            self.check_vector(vector)?;
        }
        let bytes = records.iter().map(size).sum();
        let weight = Weight::take(&self.queued_bytes, bytes)?;
        self.write(move |reply| Write::Put { records, weight, reply }).await
    }

    fn check_vector(&self, vector: &[f32]) -> Result<(), StoreFault> {
        let dimension = self.shared.layout.dimension;
        if vector.len() != dimension {
            let message =
                format!("a vector of {} numbers in a collection of {dimension}", vector.len());
            return Err(StoreFault::Failed(message));
        }
        if vector.iter().any(|number| !number.is_finite()) {
            return Err(StoreFault::Failed("a vector with a number that is not finite".to_owned()));
        }
        Ok(())
    }
}

impl VectorStore for Embedded {
    fn get(&self, id: EntryId) -> BoxFuture<'_, Result<Option<Record>, StoreFault>> {
        Box::pin(self.read(move |reply| Read::Get(id, reply)))
    }

    fn nearest(
        &self,
        partition: Arc<str>,
        vector: Vector,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Neighbour>, StoreFault>> {
        Box::pin(async move {
            self.check_vector(&vector)?;
            self.read(move |reply| Read::Nearest { partition, vector, limit, reply }).await
        })
    }

    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(self.put_all(records))
    }

    fn count(&self, selector: Selector) -> BoxFuture<'_, Result<u64, StoreFault>> {
        Box::pin(self.read(move |reply| Read::Count(selector, reply)))
    }

    fn delete(&self, selector: Selector) -> BoxFuture<'_, Result<u64, StoreFault>> {
        Box::pin(self.write(move |reply| Write::Delete(selector, reply)))
    }

    fn answers(&self, selector: Selector) -> BoxFuture<'_, Result<Vec<EntryId>, StoreFault>> {
        Box::pin(self.read(move |reply| Read::Answers(selector, reply)))
    }

    fn holdings(&self, selector: Selector) -> BoxFuture<'_, Result<Vec<Holding>, StoreFault>> {
        Box::pin(async move {
            let (mut held, mut from) = (Vec::new(), None);
            loop {
                let selector = selector.clone();
                let (page, next) = self.read(|reply| Read::Holdings(selector, from, reply)).await?;
                held.extend(page);
                from = next;
                if from.is_none() {
                    return Ok(held);
                }
            }
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(self.write(Write::Flush))
    }

    fn report(&self) -> StoreReport {
        self.shared.report()
    }

    fn others(&self) -> BoxFuture<'_, Result<Vec<String>, StoreFault>> {
        let own = &self.shared.collection;
        let path = own.dir.parent().unwrap_or(&own.dir).to_owned();
        let name = own.name.clone();
        Box::pin(async move {
            let listed =
                tokio::task::spawn_blocking(move || collection::others(&path, &name)).await;
            listed.map_err(|error| StoreFault::Failed(error.to_string()))
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Readers end at once: whoever asked borrowed us, so nobody waits for an answer. The writer
        // writes what is queued, flushes, and with it goes the optimizer's queue.
        self.queues = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
        let ended = self.compactor_ended.get_mut().recv_timeout(CLOSE_PATIENCE);
        if ended == Err(RecvTimeoutError::Timeout) {
            tracing::info!("closed the store while it is being optimized; the journal is kept");
        }
    }
}

fn spawn(
    name: &str,
    shared: &Shared,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|source| OpenError::Folder { path: shared.collection.dir.clone(), source })
}

/// About what a record takes in the queue.
fn size(record: &Record) -> usize {
    let vector = record.vector.as_ref().map_or(0, |vector| vector.len() * 4);
    record.payload.len() + record.question.len() + vector + 256
}

fn refusal<T>(error: &TrySendError<T>) -> StoreFault {
    match error {
        TrySendError::Full(_) => StoreFault::Busy,
        TrySendError::Disconnected(_) => closing(),
    }
}

fn closing() -> StoreFault {
    StoreFault::Unavailable("it is closing".to_owned())
}
