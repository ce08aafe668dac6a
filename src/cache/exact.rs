//! The memory tier: exact repeats, weighed in bytes, each with its own end of life.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use moka::{Expiry, sync::Cache};

use super::{entry::Entry, entry::now_ms, key::Key};
use crate::store::EntryId;

/// Answers in this process's memory.
#[derive(Clone, Debug)]
pub struct ExactTier {
    entries: Cache<EntryId, Arc<Entry>>,
}

/// An entry leaves when its life, counted from generation, and the grace after it are over. A hit
/// never prolongs it.
struct FromGeneration {
    grace: Duration,
}

impl FromGeneration {
    fn left(&self, entry: &Entry) -> Duration {
        // Not `left of the life + grace`: an entry that comes from the store may be past both.
        let end_ms = u128::from(entry.expires_ms) + self.grace.as_millis();
        let left_ms = end_ms.saturating_sub(u128::from(now_ms()));
        Duration::from_millis(u64::try_from(left_ms).unwrap_or(u64::MAX))
    }
}

impl Expiry<EntryId, Arc<Entry>> for FromGeneration {
    fn expire_after_create(&self, _: &EntryId, entry: &Arc<Entry>, _: Instant) -> Option<Duration> {
        Some(self.left(entry))
    }

    fn expire_after_update(
        &self,
        _: &EntryId,
        entry: &Arc<Entry>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(self.left(entry))
    }
}

impl ExactTier {
    /// A tier of at most `max_bytes`; entries stay `grace` beyond their life, for stale service.
    pub fn new(max_bytes: u64, grace: Duration) -> Self {
        let entries = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, entry: &Arc<Entry>| u32::try_from(entry.weight()).unwrap_or(u32::MAX))
            .expire_after(FromGeneration { grace })
            .build();
        Self { entries }
    }

    /// The answer to exactly this request, fresh or stale within grace.
    pub fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.entries.get(&key.id).filter(|entry| entry.answers(key))
    }

    /// The answer of this name.
    pub fn by_id(&self, id: EntryId) -> Option<Arc<Entry>> {
        self.entries.get(&id)
    }

    /// Keeps an answer.
    pub fn put(&self, entry: Arc<Entry>) {
        self.entries.insert(entry.id, entry);
    }

    /// Forgets an answer; true if it was there.
    pub fn remove(&self, id: EntryId) -> bool {
        self.entries.remove(&id).is_some()
    }

    /// Forgets every answer that this holds of, and says how many.
    pub fn remove_if(&self, mut gone: impl FnMut(&Entry) -> bool) -> u64 {
        let ids: Vec<_> =
            self.entries.iter().filter(|(_, entry)| gone(entry)).map(|(id, _)| *id).collect();
        ids.iter().filter(|id| self.remove(**id)).count() as u64
    }

    /// How many answers this holds of.
    pub fn count_if(&self, meant: impl Fn(&Entry) -> bool) -> u64 {
        self.entries.iter().filter(|(_, entry)| meant(entry)).count() as u64
    }

    /// Entries and bytes in it. For who looks now and then: what moka has put off is done first, or
    /// without traffic it would not be counted.
    pub fn size(&self) -> (u64, u64) {
        self.entries.run_pending_tasks();
        (self.entries.entry_count(), self.entries.weighted_size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::tests::entry;

    fn key(entry: &Entry) -> Key {
        Key {
            fingerprint: entry.fingerprint,
            partition: entry.partition.clone(),
            id: entry.id,
            tenant: entry.tenant.clone(),
            principal: Default::default(),
        }
    }

    fn living(id: u128, life_ms: u64) -> Arc<Entry> {
        let mut entry = entry(id);
        entry.generated_ms = now_ms();
        entry.expires_ms = entry.generated_ms + life_ms;
        Arc::new(entry)
    }

    #[test]
    fn only_the_very_fingerprint_hits() {
        let tier = ExactTier::new(1 << 20, Duration::ZERO);
        let entry = living(1, 60_000);
        tier.put(entry.clone());
        let mut key = key(&entry);
        assert!(tier.get(&key).is_some());
        key.fingerprint[31] ^= 1; // same 128-bit name, other request
        assert!(tier.get(&key).is_none());
    }

    #[test]
    fn a_dead_entry_is_gone_and_grace_keeps_it() {
        let dead = living(2, 0);
        let strict = ExactTier::new(1 << 20, Duration::ZERO);
        strict.put(dead.clone());
        assert!(strict.get(&key(&dead)).is_none());
        let graceful = ExactTier::new(1 << 20, Duration::from_secs(60));
        graceful.put(dead.clone());
        assert!(graceful.get(&key(&dead)).is_some());
    }

    #[test]
    fn grace_runs_from_the_end_of_life_and_not_from_when_memory_got_the_entry() {
        let tier = ExactTier::new(1 << 20, Duration::from_secs(60));
        let mut old = entry(3);
        old.expires_ms = now_ms() - 61_000;
        let old = Arc::new(old);
        tier.put(old.clone());
        assert!(tier.get(&key(&old)).is_none());
    }

    #[test]
    fn it_is_weighed_in_bytes() {
        let tier = ExactTier::new(64 << 10, Duration::ZERO);
        for id in 0..1_000 {
            tier.put(living(id, 60_000));
        }
        tier.entries.run_pending_tasks();
        let (entries, bytes) = tier.size();
        assert!(bytes <= 64 << 10, "{bytes}");
        assert!(entries < 200, "{entries}");
        assert_eq!(tier.remove_if(|_| true), entries);
    }
}
