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
    guards::Veil,
    quota::{Accounts, Exceeded},
    wording::covered,
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
    over_quota: AtomicU64,
    evicted_entries: AtomicU64,
    evicted_bytes: AtomicU64,
    expired: AtomicU64,
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
    /// Answers larger than all that their tenant may have.
    pub over_quota: u64,
    /// Answers that went since their tenant had too many.
    pub evicted_entries: u64,
    /// Answers that went since their tenant's took too many bytes.
    pub evicted_bytes: u64,
    /// Keys that were swept past their life.
    pub expired: u64,
}

/// What is written, and within which bounds.
pub(super) struct Terms {
    /// What tenants have, where that is bounded.
    pub(super) accounts: Option<Accounts>,
    /// In whose form questions are stored; `None`: as they are.
    pub(super) veil: Option<Arc<Veil>>,
}

impl WriteBehind {
    /// Starts the writer as one of `tasks`; it ends when all its handles are gone.
    pub(super) fn start(
        store: Arc<dyn VectorStore>,
        fences: Option<Arc<Fences>>,
        terms: Terms,
        queue: usize,
        tasks: &TaskTracker,
    ) -> Self {
        let (jobs, work) = mpsc::channel(queue);
        let counts = Arc::new(Counts::default());
        let writer = Writer { store, fences, terms, counts: counts.clone() };
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
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        WriteReport {
            queued: (self.jobs.max_capacity() - self.jobs.capacity()) as u64,
            written: read(&self.counts.written),
            dropped: read(&self.counts.dropped),
            failed: read(&self.counts.failed),
            too_large: read(&self.counts.too_large),
            purged: read(&self.counts.purged),
            over_quota: read(&self.counts.over_quota),
            evicted_entries: read(&self.counts.evicted_entries),
            evicted_bytes: read(&self.counts.evicted_bytes),
            expired: read(&self.counts.expired),
        }
    }
}

/// The queue's far end.
struct Writer {
    store: Arc<dyn VectorStore>,
    fences: Option<Arc<Fences>>,
    terms: Terms,
    counts: Arc<Counts>,
}

impl Writer {
    async fn run(mut self, mut work: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(BATCH);
        while work.recv_many(&mut jobs, BATCH).await > 0 {
            let mut entries = Vec::new();
            for job in jobs.drain(..) {
                match job {
                    Job::Put(keep) => entries.push(keep),
                    Job::Delete(selector, reply) => {
                        self.write(std::mem::take(&mut entries)).await;
                        // Nobody waits any more: the deletion stands all the same.
                        let _ = reply.send(self.delete(selector).await);
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

    async fn delete(&mut self, selector: Selector) -> Result<u64, StoreFault> {
        let deleted = self.store.delete(selector.clone()).await;
        if let Some(accounts) = &mut self.terms.accounts {
            match &deleted {
                Ok(0) => {}
                Ok(_) => accounts.deleted(&selector),
                Err(_) => accounts.forget_all(),
            }
        }
        if let (Selector::ExpiredAt(_), Ok(swept)) = (&selector, &deleted) {
            self.counts.expired.fetch_add(*swept, Ordering::Relaxed);
        }
        deleted
    }

    async fn write(&mut self, entries: Vec<Keep>) {
        if entries.is_empty() {
            return;
        }
        let asked = entries.len() as u64;
        // Compression is CPU work: not on the threads that carry requests.
        let veil = self.terms.veil.clone();
        let encoded = tokio::task::spawn_blocking(move || encode(entries, veil.as_deref()));
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
    async fn put(
        &mut self,
        mut records: Vec<(Record, Arc<Entry>)>,
    ) -> Result<(), (u64, StoreFault)> {
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
    async fn put_once(
        &mut self,
        records: &mut Vec<(Record, Arc<Entry>)>,
    ) -> Result<(), StoreFault> {
        if let Some(fences) = self.fences.clone() {
            for purge in fences.refresh(FRESH).await? {
                self.delete(purge.again()).await?;
            }
            let waiting = records.len();
            records.retain(|(_, entry)| !fences.stop(entry));
            self.counts.purged.fetch_add((waiting - records.len()) as u64, Ordering::Relaxed);
        }
        self.make_room(records).await?;
        if records.is_empty() {
            return Ok(());
        }
        let put = self.store.put(records.iter().map(|(record, _)| record.clone()).collect()).await;
        if let (Err(_), Some(accounts)) = (&put, &mut self.terms.accounts) {
            // They are booked and may not be there.
            accounts.forget_all();
        }
        put?;
        self.counts.written.fetch_add(records.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// What is worth least goes first, so that no tenant ever has more than its quota.
    async fn make_room(
        &mut self,
        records: &mut Vec<(Record, Arc<Entry>)>,
    ) -> Result<(), StoreFault> {
        let Some(accounts) = &mut self.terms.accounts else { return Ok(()) };
        let wanted: Vec<_> = records.iter().map(|(record, _)| record).collect();
        let room = accounts.make_room(&wanted).await?;
        for (answer, exceeded) in room.evicted {
            if let Err(fault) = self.store.delete(Selector::Answer(answer)).await {
                accounts.forget_all();
                return Err(fault);
            }
            let count = match exceeded {
                Exceeded::Entries => &self.counts.evicted_entries,
                Exceeded::Bytes => &self.counts.evicted_bytes,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.counts.over_quota.fetch_add(room.refused.len() as u64, Ordering::Relaxed);
        let stays = |id| !room.refused.contains(&id) && !room.replaced.contains(&id);
        records.retain(|(record, _)| stays(record.id));
        Ok(())
    }

    /// One of them is too large; the others need not suffer for it.
    async fn put_singly(
        &mut self,
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

fn encode(entries: Vec<Keep>, veil: Option<&Veil>) -> Vec<(Record, Arc<Entry>)> {
    entries
        .into_iter()
        .filter_map(|(entry, vector, answer)| {
            let record = Record { answer, ..entry.to_record(vector).ok()? };
            let record = match veil {
                Some(veil) => covered(veil, record),
                None => record,
            };
            Some((record, entry))
        })
        .collect()
}
