//! Write-behind: answers go to the store after the client has them, in one bounded queue.
//!
//! Everything that changes the store passes through this queue in order, deletions too, so that an
//! answer that was still waiting to be written cannot come back after its deletion.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::entry::Entry;
use crate::{
    embed::Vector,
    store::{EntryId, Record, Selector, StoreFault, VectorStore},
};

/// The most answers of one write.
const BATCH: usize = 64;
/// How often a write is tried before it is dropped.
const TRIES: u32 = 4;
/// The first pause between tries; doubled each time.
const BACKOFF: Duration = Duration::from_millis(100);

enum Job {
    Put(Keep),
    Delete(Selector, oneshot::Sender<Result<u64, StoreFault>>),
    Flush(oneshot::Sender<Result<(), StoreFault>>),
}

/// An answer to be written, its question's vector, and the answer that the vector leads to.
type Keep = (Arc<Entry>, Option<Vector>, EntryId);

/// The queue's near end.
#[derive(Clone, Debug)]
pub struct WriteBehind {
    jobs: mpsc::Sender<Job>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// How writing goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteReport {
    /// Answers waiting.
    pub queued: u64,
    /// Answers written.
    pub written: u64,
    /// Answers that found the queue full.
    pub dropped: u64,
    /// Answers that the store refused for too long, or that could not be encoded.
    pub failed: u64,
}

impl WriteBehind {
    /// Starts the writer as one of `tasks`; it ends when all its handles are gone.
    pub fn start(store: Arc<dyn VectorStore>, queue: usize, tasks: &TaskTracker) -> Self {
        let (jobs, work) = mpsc::channel(queue);
        let counts = Arc::new(Counts::default());
        tasks.spawn(run(store, work, counts.clone()));
        Self { jobs, counts }
    }

    /// Queues an answer; dropped and counted when the queue is full.
    pub fn put(&self, entry: Arc<Entry>, vector: Option<Vector>, answer: EntryId) {
        if self.jobs.try_send(Job::Put((entry, vector, answer))).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Deletes what a selector means, after everything queued before it.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete(&self, selector: Selector) -> Result<u64, StoreFault> {
        self.ask(|reply| Job::Delete(selector, reply)).await
    }

    /// Makes everything queued before it durable.
    ///
    /// # Errors
    /// The store's.
    pub async fn flush(&self) -> Result<(), StoreFault> {
        self.ask(Job::Flush).await
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreFault>>) -> Job,
    ) -> Result<T, StoreFault> {
        let gone = || StoreFault::Unavailable("its writer has ended".into());
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Counts for metrics.
    pub fn report(&self) -> WriteReport {
        WriteReport {
            queued: (self.jobs.max_capacity() - self.jobs.capacity()) as u64,
            written: self.counts.written.load(Ordering::Relaxed),
            dropped: self.counts.dropped.load(Ordering::Relaxed),
            failed: self.counts.failed.load(Ordering::Relaxed),
        }
    }
}

async fn run(store: Arc<dyn VectorStore>, mut work: mpsc::Receiver<Job>, counts: Arc<Counts>) {
    let mut jobs = Vec::with_capacity(BATCH);
    while work.recv_many(&mut jobs, BATCH).await > 0 {
        let mut entries = Vec::new();
        for job in jobs.drain(..) {
            match job {
                Job::Put(keep) => entries.push(keep),
                Job::Delete(selector, reply) => {
                    write(&store, std::mem::take(&mut entries), &counts).await;
                    // Nobody waits any more: the deletion stands all the same.
                    let _ = reply.send(store.delete(selector).await);
                }
                Job::Flush(reply) => {
                    write(&store, std::mem::take(&mut entries), &counts).await;
                    let _ = reply.send(store.flush().await);
                }
            }
        }
        write(&store, entries, &counts).await;
    }
}

async fn write(store: &Arc<dyn VectorStore>, entries: Vec<Keep>, counts: &Counts) {
    if entries.is_empty() {
        return;
    }
    let asked = entries.len() as u64;
    // Compression is CPU work: not on the threads that carry requests.
    let encoded = tokio::task::spawn_blocking(move || -> Vec<Record> {
        entries
            .into_iter()
            .filter_map(|(entry, vector, answer)| {
                let record = entry.to_record(vector).ok()?;
                Some(Record { answer, ..record })
            })
            .collect()
    });
    let records = encoded.await.unwrap_or_default();
    let written = records.len() as u64;
    counts.failed.fetch_add(asked - written, Ordering::Relaxed);
    match put(store, records).await {
        Ok(()) => counts.written.fetch_add(written, Ordering::Relaxed),
        Err(fault) => {
            tracing::warn!(answers = written, %fault, "the store refuses answers: dropped");
            counts.failed.fetch_add(written, Ordering::Relaxed)
        }
    };
}

async fn put(store: &Arc<dyn VectorStore>, records: Vec<Record>) -> Result<(), StoreFault> {
    let mut pause = BACKOFF;
    for _ in 1..TRIES {
        match store.put(records.clone()).await {
            Ok(()) => return Ok(()),
            // A full disk does not empty itself within the backoff.
            Err(fault @ StoreFault::Full(_)) => return Err(fault),
            Err(StoreFault::Busy | StoreFault::Unavailable(_) | StoreFault::Failed(_)) => {}
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    store.put(records).await
}
