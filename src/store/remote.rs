//! What all stores on other machines share: deadlines, a breaker, and coming back by themselves.
//!
//! A [`Shield`] stands before a [`Remote`]. The first lookup that is late or fails closes the store;
//! from then on lookups are refused at once, and one task asks the store itself until it answers
//! again. So a store that is slow, gone, or of another schema costs requests one deadline, then
//! nothing, and no request is ever a trial.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{task::JoinHandle, time::timeout};

use self::breaker::{Breaker, Watch};
use super::{
    EntryId, Holding, Neighbour, Record, Selector, StoreFault, StoreReport, VectorStore, meta::Meta,
};
use crate::embed::Vector;

mod breaker;

/// For counting, deleting and writing, which nobody's answer waits for.
const WORK_TIME: Duration = Duration::from_secs(60);

/// For connecting and finding or making the collection.
const PREPARE_TIME: Duration = Duration::from_secs(60);

/// Where a server is and how we get in.
#[derive(Clone)]
pub struct Address {
    /// `http://host:port` or `https://host:port`.
    pub url: String,
    /// Whatever the server takes: an API key, `user:password`.
    pub api_key: Option<String>,
    /// For the connection alone.
    pub connect_timeout: Duration,
}

impl std::fmt::Debug for Address {
    /// Never prints the key.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.api_key.as_ref().map(|_| "***");
        out.debug_struct("Address").field("url", &self.url).field("api_key", &key).finish()
    }
}

/// A store behind a network.
pub trait Remote: VectorStore {
    /// Connects, finds or makes the collection, and checks that it is what we need.
    fn prepare(&self) -> BoxFuture<'_, Result<(), StoreFault>>;

    /// A lookup that finds nothing, as cheap as any.
    fn probe(&self) -> BoxFuture<'_, Result<(), StoreFault>>;
}

/// How long and how many.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For one lookup.
    pub lookup: Duration,
    /// Lookups at a time; more are refused.
    pub in_flight: usize,
}

/// A remote store that cannot make anything worse.
pub struct Shield<R> {
    inner: Arc<R>,
    breaker: Arc<Breaker>,
    limits: Limits,
    in_flight: AtomicUsize,
    meta: Option<Meta>,
    watch: JoinHandle<()>,
}

impl<R: Remote> Shield<R> {
    /// Starts to prepare the store; until that is done lookups are refused.
    pub fn new(inner: R, limits: Limits, meta: Option<Meta>) -> Self {
        let inner = Arc::new(inner);
        let breaker = Arc::new(Breaker::new());
        let watch = Watch { breaker: breaker.clone(), lookup: limits.lookup };
        let watched = inner.clone();
        let watch = tokio::spawn(async move { watch.run(watched.as_ref(), PREPARE_TIME).await });
        Self { inner, breaker, limits, in_flight: AtomicUsize::new(0), meta, watch }
    }

    /// Waits until the store is ready, at most so long; says whether it is.
    pub async fn ready(&self, patience: Duration) -> bool {
        timeout(patience, self.breaker.closed()).await.is_ok()
    }

    async fn look<T>(&self, lookup: BoxFuture<'_, Result<T, StoreFault>>) -> Result<T, StoreFault> {
        let _seat = self.seat()?;
        let mut attempt = self.breaker.attempt()?;
        let result = timeout(self.limits.lookup, lookup).await;
        let result = result.unwrap_or_else(|_| {
            Err(StoreFault::Unavailable(format!("no answer in {:?}", self.limits.lookup)))
        });
        attempt.ended(result.as_ref().err());
        result
    }

    async fn work<T>(&self, work: BoxFuture<'_, Result<T, StoreFault>>) -> Result<T, StoreFault> {
        self.breaker.pass()?;
        let result = timeout(WORK_TIME, work).await;
        let result = result.unwrap_or_else(|_| {
            Err(StoreFault::Unavailable(format!("no answer in {WORK_TIME:?}")))
        });
        // Reads may go on where writes fail: only a store that is gone is closed.
        if let Err(fault @ StoreFault::Unavailable(_)) = &result {
            self.breaker.open(fault);
        }
        self.breaker.wrote(result.as_ref().err());
        result
    }

    fn seat(&self) -> Result<Seat<'_>, StoreFault> {
        let seat = Seat(&self.in_flight);
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= self.limits.in_flight {
            return Err(StoreFault::Busy);
        }
        Ok(seat)
    }
}

/// One lookup's place; given back however it ends.
struct Seat<'s>(&'s AtomicUsize);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<R> Drop for Shield<R> {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl<R: Remote> VectorStore for Shield<R> {
    fn get(&self, id: EntryId) -> BoxFuture<'_, Result<Option<Record>, StoreFault>> {
        Box::pin(self.look(self.inner.get(id)))
    }

    fn nearest(
        &self,
        partition: Arc<str>,
        vector: Vector,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Neighbour>, StoreFault>> {
        Box::pin(self.look(self.inner.nearest(partition, vector, limit)))
    }

    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(self.work(self.inner.put(records)))
    }

    fn count(&self, selector: Selector) -> BoxFuture<'_, Result<u64, StoreFault>> {
        Box::pin(self.work(self.inner.count(selector)))
    }

    fn delete(&self, selector: Selector) -> BoxFuture<'_, Result<u64, StoreFault>> {
        Box::pin(self.work(self.inner.delete(selector)))
    }

    fn holdings(&self, selector: Selector) -> BoxFuture<'_, Result<Vec<Holding>, StoreFault>> {
        Box::pin(self.work(self.inner.holdings(selector)))
    }

    fn weight(&self, record: &Record) -> u64 {
        self.inner.weight(record)
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(self.work(self.inner.flush()))
    }

    fn report(&self) -> StoreReport {
        StoreReport { trouble: self.breaker.trouble(), ..self.inner.report() }
    }

    fn others(&self) -> BoxFuture<'_, Result<Vec<String>, StoreFault>> {
        Box::pin(self.work(self.inner.others()))
    }

    fn payload_max_bytes(&self) -> usize {
        self.inner.payload_max_bytes()
    }

    fn meta(&self) -> Option<&Meta> {
        self.meta.as_ref()
    }
}

/// Of several records of one id the last one: within one write some servers would keep them all.
pub(super) fn latest(records: Vec<Record>) -> Vec<Record> {
    let last: HashMap<_, _> =
        records.iter().enumerate().map(|(index, record)| (record.id, index)).collect();
    let kept = records.into_iter().enumerate().filter(|(index, record)| last[&record.id] == *index);
    kept.map(|(_, record)| record).collect()
}

/// Parts of about so many bytes that one message can hold.
pub(super) fn batches(records: Vec<Record>, bytes_max: usize) -> Vec<Vec<Record>> {
    let mut batches: Vec<Vec<Record>> = Vec::new();
    let mut room = 0;
    for record in records {
        // Base64, the vector, names.
        let bytes = record.payload.len() * 4 / 3 + record.question.len() + 4096;
        if bytes > room || batches.is_empty() {
            batches.push(Vec::new());
            room = bytes_max;
        }
        room = room.saturating_sub(bytes);
        if let Some(batch) = batches.last_mut() {
            batch.push(record);
        }
    }
    batches
}

#[cfg(test)]
mod tests;
