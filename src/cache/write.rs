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

use super::{
    entry::Entry,
    fences::{FRESH, Fences},
};
use crate::{
    embed::Vector,
    store::{EntryId, Record, Selector, StoreFault, VectorStore},
};

/// The most answers of one write.
const BATCH: usize = 64;
/// How often a write is tried before it is dropped: over 25 s, the restart of a server.
const TRIES: u32 = 9;
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
    too_large: AtomicU64,
    purged: AtomicU64,
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
    /// Answers larger than what the store takes: they stay in memory.
    pub too_large: u64,
    /// Answers that were purged while they waited.
    pub purged: u64,
}

impl WriteBehind {
    /// Starts the writer as one of `tasks`; it ends when all its handles are gone.
    pub(super) fn start(
        store: Arc<dyn VectorStore>,
        fences: Option<Arc<Fences>>,
        queue: usize,
        tasks: &TaskTracker,
    ) -> Self {
        let (jobs, work) = mpsc::channel(queue);
        let counts = Arc::new(Counts::default());
        let writer = Writer { store, fences, counts: counts.clone() };
        tasks.spawn(writer.run(work));
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
            too_large: self.counts.too_large.load(Ordering::Relaxed),
            purged: self.counts.purged.load(Ordering::Relaxed),
        }
    }
}

/// The queue's far end.
struct Writer {
    store: Arc<dyn VectorStore>,
    fences: Option<Arc<Fences>>,
    counts: Arc<Counts>,
}

impl Writer {
    async fn run(self, mut work: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(BATCH);
        while work.recv_many(&mut jobs, BATCH).await > 0 {
            let mut entries = Vec::new();
            for job in jobs.drain(..) {
                match job {
                    Job::Put(keep) => entries.push(keep),
                    Job::Delete(selector, reply) => {
                        self.write(std::mem::take(&mut entries)).await;
                        // Nobody waits any more: the deletion stands all the same.
                        let _ = reply.send(self.store.delete(selector).await);
                    }
                    Job::Flush(reply) => {
                        self.write(std::mem::take(&mut entries)).await;
                        let _ = reply.send(self.store.flush().await);
                    }
                }
            }
            self.write(entries).await;
        }
    }

    async fn write(&self, entries: Vec<Keep>) {
        if entries.is_empty() {
            return;
        }
        let asked = entries.len() as u64;
        // Compression is CPU work: not on the threads that carry requests.
        let encoded = tokio::task::spawn_blocking(move || encode(entries));
        let mut records = encoded.await.unwrap_or_default();
        self.counts.failed.fetch_add(asked - records.len() as u64, Ordering::Relaxed);
        let limit = self.store.payload_max_bytes();
        let small = records.len();
        records.retain(|(record, _)| record.payload.len() <= limit);
        self.counts.too_large.fetch_add((small - records.len()) as u64, Ordering::Relaxed);
        if let Err((answers, fault)) = self.put(records).await {
            tracing::warn!(answers, %fault, "the store refuses answers: dropped");
            self.counts.failed.fetch_add(answers, Ordering::Relaxed);
        }
    }

    /// Tries until they are written, or for too long; the error says how many were lost.
    async fn put(&self, mut records: Vec<(Record, Arc<Entry>)>) -> Result<(), (u64, StoreFault)> {
        let mut pause = BACKOFF;
        for left in (0..TRIES).rev() {
            let lost = |fault, records: &Vec<_>| (records.len() as u64, fault);
            match self.put_once(&mut records).await {
                Ok(()) => return Ok(()),
                Err(StoreFault::TooLarge) => return self.put_singly(records).await,
                // A full disk does not empty itself within the backoff.
                Err(fault @ StoreFault::Full(_)) => return Err(lost(fault, &records)),
                Err(fault) if left == 0 => return Err(lost(fault, &records)),
                Err(StoreFault::Busy | StoreFault::Unavailable(_) | StoreFault::Failed(_)) => {}
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(())
    }

    /// What was purged meanwhile, here or elsewhere, is not written.
    async fn put_once(&self, records: &mut Vec<(Record, Arc<Entry>)>) -> Result<(), StoreFault> {
        if let Some(fences) = &self.fences {
            for selector in fences.refresh(FRESH).await? {
                self.store.delete(selector).await?;
            }
            let waiting = records.len();
            records.retain(|(_, entry)| !fences.stop(entry));
            self.counts.purged.fetch_add((waiting - records.len()) as u64, Ordering::Relaxed);
        }
        if records.is_empty() {
            return Ok(());
        }
        self.store.put(records.iter().map(|(record, _)| record.clone()).collect()).await?;
        self.counts.written.fetch_add(records.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// One of them is too large; the others need not suffer for it.
    async fn put_singly(
        &self,
        records: Vec<(Record, Arc<Entry>)>,
    ) -> Result<(), (u64, StoreFault)> {
        let mut lost = (0, StoreFault::TooLarge);
        for record in records {
            match self.put_once(&mut vec![record]).await {
                Ok(()) => {}
                Err(StoreFault::TooLarge) => {
                    self.counts.too_large.fetch_add(1, Ordering::Relaxed);
                }
                Err(fault) => lost = (lost.0 + 1, fault),
            }
        }
        if lost.0 == 0 { Ok(()) } else { Err(lost) }
    }
}

fn encode(entries: Vec<Keep>) -> Vec<(Record, Arc<Entry>)> {
    entries
        .into_iter()
        .filter_map(|(entry, vector, answer)| {
            let record = entry.to_record(vector).ok()?;
            Some((Record { answer, ..record }, entry))
        })
        .collect()
}
