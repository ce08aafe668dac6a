//! The one thread that changes the store: journal, apply, answer, and now and then flush.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant},
};

use super::{
    change::Change, collection::Loaded, journal::Journal, reader::Reply, room, shared::Shared,
};
use crate::store::{EntryId, Record, Selector, StoreFault};

/// One batch: enough to make the fixed cost of a write small, not so much that a caller waits long.
const BATCH_JOBS: usize = 256;
const BATCH_BYTES: usize = 8 << 20;

/// Records waiting to be written may take so much memory, whatever the queue's length.
const QUEUED_BYTES_MAX: usize = 64 << 20;

/// So many ids are deleted at once: bounds memory and a journal frame.
const DELETE_PAGE: usize = 4096;

/// What a byte of a record may become: the journal, Edge's log, the shard, its index.
const BYTES_PER_BYTE: u64 = 4;

/// Wanted changes of the store.
pub(super) enum Write {
    Put { records: Vec<Record>, weight: Weight, reply: Reply<()> },
    Delete(Selector, Reply<u64>),
    Flush(Reply<()>),
}

/// The share of one queued put in the memory that queued records may take.
pub(super) struct Weight {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Weight {
    /// Adds `bytes` to `all`, or refuses. A put that is over the limit alone is let in when nothing
    /// else waits.
    pub(super) fn take(all: &Arc<AtomicUsize>, bytes: usize) -> Result<Self, StoreFault> {
        let before = all.fetch_add(bytes, Ordering::Relaxed);
        let weight = Self { bytes, all: Arc::clone(all) };
        if before > 0 && before.saturating_add(bytes) > QUEUED_BYTES_MAX {
            return Err(StoreFault::Busy);
        }
        Ok(weight)
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// When the writer does what nobody asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// Flush at the latest so long after a change, and look around so often.
    pub(super) flush_every: Duration,
    /// Flush when a replay would be longer than this.
    pub(super) journal_max_bytes: u64,
    /// Optimize after so many changed records.
    pub(super) compact_after: usize,
    /// Evict the oldest records above this.
    pub(super) max_bytes: u64,
}

/// The writer thread's state.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: Receiver<Write>,
    pub(super) journal: Journal,
    pub(super) compactor: SyncSender<()>,
    pub(super) habits: Habits,
    /// Changed records since the last wish for an optimization.
    pub(super) changed: usize,
    pub(super) flushed_at: Instant,
    /// The shards failed at something and must be opened again.
    pub(super) broken: bool,
    /// How many optimizations had been finished at the last eviction.
    pub(super) evicted_at: Option<u64>,
}

impl Writer {
    /// Works until all senders are gone and the queue is empty, then flushes.
    pub(super) fn run(mut self) {
        loop {
            match self.jobs.recv_timeout(self.habits.flush_every) {
                Ok(job) => self.work(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.look_around();
        }
        self.flush();
    }

    /// Does one job and the puts that wait behind it.
    fn work(&mut self, first: Write) {
        let mut next = Some(first);
        let mut puts = Puts::default();
        while let Some(job) = next.take() {
            match job {
                Write::Put { records, weight, reply } => puts.add(records, weight, reply),
                Write::Delete(selector, reply) => {
                    self.put(std::mem::take(&mut puts));
                    if !reply.is_closed() {
                        reply.send(self.delete(&selector)).ok();
                    }
                }
                Write::Flush(reply) => {
                    self.put(std::mem::take(&mut puts));
                    reply.send(self.make_durable()).ok();
                }
            }
            if puts.replies.len() < BATCH_JOBS && puts.bytes < BATCH_BYTES {
                next = self.jobs.try_recv().ok();
            }
        }
        self.put(puts);
    }

    fn put(&mut self, puts: Puts) {
        if puts.replies.is_empty() {
            return;
        }
        let result = self.check_room(puts.bytes).and_then(|()| self.commit(&puts.changes));
        self.note(&result);
        for reply in puts.replies {
            reply.send(result.clone()).ok();
        }
    }

    /// Page by page, each durable before the next: dying in the middle leaves whole records.
    fn delete(&mut self, selector: &Selector) -> Result<u64, StoreFault> {
        let mut deleted = 0;
        loop {
            let page = self.shared.read(|shards| shards.some(selector, DELETE_PAGE))?;
            if page.is_empty() {
                return Ok(deleted);
            }
            self.delete_page(&page)?;
            deleted += page.len() as u64;
        }
    }

    fn delete_page(&mut self, page: &[EntryId]) -> Result<(), StoreFault> {
        let result = self.commit(&[Change::Delete(page.to_vec())]);
        self.note(&result);
        result
    }

    /// Journal first, shards second. After an error the journal holds none of it.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreFault> {
        if self.broken {
            return Err(StoreFault::Unavailable("it is being opened again".to_owned()));
        }
        let before = self.journal.len();
        self.journal.append(changes)?;
        let applied = match &*self.shared.shards.read() {
            Some(shards) => shards.apply(changes).map(|()| shards.len()),
            None => Err(StoreFault::Unavailable("it is being opened again".to_owned())),
        };
        match applied {
            Ok(records) => {
                self.shared.records.store(records, Ordering::Relaxed);
                let changed = changes.iter().map(Change::records).sum::<usize>();
                self.shared.unindexed.fetch_add(changed as u64, Ordering::Relaxed);
                self.changed += changed;
                Ok(())
            }
            Err(fault) => {
                // Nobody was promised these changes, and replaying what failed might fail again.
                self.journal.cut_to(before).ok();
                self.broken = true;
                Err(fault)
            }
        }
    }

    fn check_room(&self, bytes: usize) -> Result<(), StoreFault> {
        room::check(&self.shared.collection.dir, (bytes as u64).saturating_mul(BYTES_PER_BYTE))?;
        if self.is_over_quota() {
            let quota = self.habits.max_bytes >> 20;
            return Err(StoreFault::Full(format!("the quota of {quota} MiB is used up")));
        }
        Ok(())
    }

    fn is_over_quota(&self) -> bool {
        self.shared.disk_bytes.load(Ordering::Relaxed) > self.habits.max_bytes
    }

    /// What is not anybody's job: after each batch, and when there is none for a while.
    fn look_around(&mut self) {
        self.broken |= self.shared.lookups_keep_failing();
        if self.broken {
            self.reopen();
        }
        let due = self.flushed_at.elapsed() >= self.habits.flush_every;
        if due || self.journal.len() >= self.habits.journal_max_bytes {
            self.flush();
        }
        if self.changed >= self.habits.compact_after && self.compactor.try_send(()).is_ok() {
            self.changed = 0;
        }
    }

    /// The journal is enough to survive the process; the disk itself is asked for here.
    fn make_durable(&mut self) -> Result<(), StoreFault> {
        self.journal.sync()?;
        self.flush();
        Ok(())
    }

    /// Flushes the shards and forgets the journal, unless an optimization runs: then both wait.
    fn flush(&mut self) {
        let shared = Arc::clone(&self.shared);
        let Some(_alone) = shared.maintenance.try_lock() else { return };
        self.flushed_at = Instant::now();
        if self.journal.len() > 0 && !self.broken {
            let flushed = match &*shared.shards.read() {
                Some(shards) => shards.flush(),
                None => return,
            };
            if let Err(fault) = flushed.and_then(|()| self.journal.cut_to(0)) {
                // The journal still has all of it.
                tracing::warn!(%fault, "the store could not be flushed");
                self.note(&Err(fault));
                self.broken = true;
            }
        }
        self.measure();
    }

    fn measure(&mut self) {
        let taken = room::taken(&self.shared.collection.dir);
        self.shared.disk_bytes.store(taken, Ordering::Relaxed);
        self.shared.keep_unindexed();
        if self.is_over_quota() && !self.broken {
            self.evict();
        }
    }

    /// Deletes the oldest eighth, then has it vacuumed; not again before that has shown its effect.
    fn evict(&mut self) {
        let compactions = self.shared.compactions.load(Ordering::Relaxed);
        if self.evicted_at == Some(compactions) {
            return;
        }
        let wanted = (self.shared.records.load(Ordering::Relaxed) / 8).max(1) as usize;
        let oldest = self.shared.read(|shards| shards.oldest(wanted));
        let result = oldest.and_then(|ids| {
            for page in ids.chunks(DELETE_PAGE) {
                self.delete_page(page)?;
                self.shared.evicted.fetch_add(page.len() as u64, Ordering::Relaxed);
            }
            Ok(ids.len())
        });
        match result {
            Ok(evicted) => tracing::info!(evicted, "the store is over its quota: the oldest went"),
            Err(fault) => tracing::warn!(%fault, "the store is over its quota and cannot evict"),
        }
        if self.compactor.try_send(()).is_ok() {
            self.evicted_at = Some(compactions);
        }
    }

    /// Opens the shards again, which forgets a failed state inside Edge, and replays the journal.
    fn reopen(&mut self) {
        let shared = Arc::clone(&self.shared);
        // An optimization holds the shards for minutes; the next look around tries again.
        let Some(_alone) = shared.maintenance.try_lock() else { return };
        if let Err(fault) = room::check(&shared.collection.dir, 0) {
            self.note(&Err(fault));
            return;
        }
        let mut shards = shared.shards.write();
        if let Some(old) = shards.take() {
            old.close();
        }
        match shared.collection.load(shared.layout) {
            Ok(Loaded { shards: opened, journal }) => {
                *shards = Some(opened);
                self.journal = journal;
                self.broken = false;
                tracing::info!("the store was opened again after a fault");
            }
            Err(fault) => {
                tracing::warn!(%fault, "the store cannot be opened again yet");
                *shared.trouble.lock() = Some(fault.to_string());
            }
        }
    }

    fn note(&self, result: &Result<(), StoreFault>) {
        let trouble = result.as_ref().err().map(ToString::to_string);
        *self.shared.trouble.lock() = trouble;
    }
}

/// The puts of one batch.
#[derive(Default)]
struct Puts {
    changes: Vec<Change>,
    bytes: usize,
    replies: Vec<Reply<()>>,
}

impl Puts {
    /// A caller who no longer waits has given the put up.
    fn add(&mut self, records: Vec<Record>, weight: Weight, reply: Reply<()>) {
        if !reply.is_closed() {
            self.changes.extend(records.into_iter().map(Change::Put));
            self.bytes += weight.bytes;
            self.replies.push(reply);
        }
    }
}
