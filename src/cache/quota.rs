//! What each tenant may keep in the store, and what goes first when that is used up.
//!
//! The writer keeps an account of every tenant that writes: its keys, the answers that they lead to,
//! their bytes. The account is read from the store at the tenant's first write and kept along from
//! then on, so where one process has the store alone no quota is ever passed, restarts included. A
//! store that others write to as well is read again each minute: what they wrote meanwhile may come
//! on top.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::worth::Worth;
use crate::store::{EntryId, Holding, Record, Selector, StoreFault, VectorStore};

/// How long an account is trusted where others write to the store.
const TRUSTED: Duration = Duration::from_secs(60);
/// Who is over a quota loses this part of it at once: choosing costs a look at every answer.
const SLACK: u64 = 32;
/// What an answer of unknown size is taken for.
const TYPICAL_BYTES: u64 = 4096;

/// What one tenant may keep in the store; 0: any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Answers; an answer's alternative keys count with it.
    pub entries: u64,
    /// Their compressed payloads and vectors.
    pub bytes: u64,
}

impl Quota {
    /// Is anything bounded?
    pub const fn bounds(self) -> bool {
        self.entries > 0 || self.bytes > 0
    }

    fn exceeded(self, entries: u64, bytes: u64) -> Option<Exceeded> {
        if self.entries > 0 && entries > self.entries {
            return Some(Exceeded::Entries);
        }
        (self.bytes > 0 && bytes > self.bytes).then_some(Exceeded::Bytes)
    }
}

/// Which quota made an answer go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exceeded {
    Entries,
    Bytes,
}

/// What has to happen before a write.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Room {
    /// Answers to delete first.
    pub(super) evicted: Vec<(EntryId, Exceeded)>,
    /// Keys that cannot be written: larger than all that their tenant may have.
    pub(super) refused: HashSet<EntryId>,
    /// Keys of the same write that made room for later ones.
    pub(super) replaced: HashSet<EntryId>,
}

/// The accounts of all tenants that wrote.
pub(super) struct Accounts {
    store: Arc<dyn VectorStore>,
    worth: Arc<Worth>,
    quota: Quota,
    accounts: HashMap<Arc<str>, Account>,
    /// What the store had evicted by itself when the accounts were read.
    disk_evictions: u64,
}

impl Accounts {
    pub(super) fn new(store: Arc<dyn VectorStore>, worth: Arc<Worth>, quota: Quota) -> Self {
        Self { store, worth, quota, accounts: HashMap::new(), disk_evictions: 0 }
    }

    /// Books `records` and says what has to go for them.
    ///
    /// # Errors
    /// The store's, which was asked what a tenant has.
    pub(super) async fn make_room(&mut self, records: &[&Record]) -> Result<Room, StoreFault> {
        let evictions = self.store.report().evicted_total;
        if evictions != self.disk_evictions {
            self.disk_evictions = evictions;
            self.forget_all();
        }
        let (mut room, mut moved) = (Room::default(), HashMap::new());
        // Of what is written twice only the last is there in the end.
        let last: HashMap<_, _> =
            records.iter().enumerate().map(|(at, one)| (one.id, at)).collect();
        for (at, record) in records.iter().enumerate() {
            if last.get(&record.id) != Some(&at) {
                continue;
            }
            self.read(&record.tenant).await?;
            let Some(account) = self.accounts.get_mut(&record.tenant) else { continue };
            let bytes = self.store.weight(record);
            if self.quota.bytes > 0 && bytes > self.quota.bytes {
                room.refused.insert(record.id);
                continue;
            }
            let key = Key {
                answer: record.answer,
                bytes,
                generated_ms: record.generated_ms,
                expires_ms: record.expires_ms,
            };
            let before = account.keys.get(&record.id).map(|key| key.answer);
            if let Some(before) = before.filter(|before| *before != record.answer) {
                moved.entry(record.id).or_insert(before);
            }
            account.book(record.id, key);
            let exceeded = self.quota.exceeded(account.answers.len() as u64, account.bytes);
            // Written anew after it had to go.
            room.replaced.remove(&record.id);
            let Some(exceeded) = exceeded else { continue };
            let mut gone = account.least(record.answer, self.quota, &self.worth);
            let mut evict = |account: &mut Account, answer| {
                let mut going = vec![answer];
                while let Some(answer) = going.pop() {
                    for key in account.drop_answer(answer) {
                        // The store still has it under the answer that it led to before this write.
                        going.extend(moved.remove(&key));
                        room.replaced.insert(key);
                    }
                    self.worth.forget(answer);
                    room.evicted.push((answer, exceeded));
                }
            };
            gone.drain(..).for_each(|answer| evict(account, answer));
            // One answer with many keys can be more than everything.
            if self.quota.exceeded(account.answers.len() as u64, account.bytes).is_some() {
                evict(account, record.answer);
            }
        }
        Ok(room)
    }

    /// Keeps the accounts along with a deletion.
    pub(super) fn deleted(&mut self, selector: &Selector) {
        match selector {
            Selector::Answer(id) => {
                self.worth.forget(*id);
                self.accounts.values_mut().for_each(|account| drop(account.drop_answer(*id)));
            }
            Selector::ExpiredAt(ms) => {
                self.accounts.values_mut().for_each(|account| account.expire(*ms));
            }
            Selector::Before(ms) => {
                self.accounts
                    .values_mut()
                    .for_each(|account| account.keep(|key| key.generated_ms >= *ms));
            }
            Selector::Tenant(tenant) => drop(self.accounts.remove(tenant.as_str())),
            Selector::All
            | Selector::Model(_)
            | Selector::Route(_)
            | Selector::Tag(_)
            | Selector::Both(_) => {
                self.forget_all();
            }
        }
    }

    /// The store may have something else than was booked: it is read again.
    pub(super) fn forget_all(&mut self) {
        self.accounts.clear();
    }

    async fn read(&mut self, tenant: &Arc<str>) -> Result<(), StoreFault> {
        let shared = self.store.meta().is_some();
        let known = self.accounts.get(tenant);
        if known.is_some_and(|account| !shared || account.read_at.elapsed() < TRUSTED) {
            return Ok(());
        }
        let held = self.store.holdings(Selector::Tenant(tenant.to_string())).await?;
        self.accounts.insert(tenant.clone(), Account::of(held));
        Ok(())
    }
}

/// What one tenant has.
#[derive(Debug)]
struct Account {
    keys: HashMap<EntryId, Key>,
    answers: HashMap<EntryId, Vec<EntryId>>,
    bytes: u64,
    read_at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    answer: EntryId,
    bytes: u64,
    generated_ms: u64,
    expires_ms: u64,
}

impl Account {
    fn of(held: Vec<Holding>) -> Self {
        let (keys, answers) = (HashMap::new(), HashMap::new());
        let mut account = Self { keys, answers, bytes: 0, read_at: Instant::now() };
        for one in held {
            let Holding { id, answer, bytes, generated_ms, expires_ms } = one;
            let bytes = bytes.unwrap_or(TYPICAL_BYTES);
            account.book(id, Key { answer, bytes, generated_ms, expires_ms });
        }
        account
    }

    fn book(&mut self, id: EntryId, key: Key) {
        self.drop_key(id);
        self.bytes += key.bytes;
        self.keys.insert(id, key);
        self.answers.entry(key.answer).or_default().push(id);
    }

    fn drop_key(&mut self, id: EntryId) {
        let Some(old) = self.keys.remove(&id) else { return };
        self.bytes -= old.bytes;
        if let Some(keys) = self.answers.get_mut(&old.answer) {
            keys.retain(|key| *key != id);
            if keys.is_empty() {
                self.answers.remove(&old.answer);
            }
        }
    }

    /// Says which keys went with it.
    fn drop_answer(&mut self, answer: EntryId) -> Vec<EntryId> {
        let keys = self.answers.get(&answer).cloned().unwrap_or_default();
        keys.iter().for_each(|key| self.drop_key(*key));
        keys
    }

    fn expire(&mut self, ms: u64) {
        self.keep(|key| key.expires_ms > ms);
    }

    fn keep(&mut self, stays: impl Fn(&Key) -> bool) {
        let gone: Vec<_> =
            self.keys.iter().filter(|(_, key)| !stays(key)).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| self.drop_key(id));
    }

    /// The answers that are worth least a byte, enough of them to be some way below the quota; never
    /// `but`. Of those that are worth the same the oldest go first.
    fn least(&self, but: EntryId, quota: Quota, worth: &Worth) -> Vec<EntryId> {
        let below = |limit: u64| limit - limit / SLACK;
        let (entries_goal, bytes_goal) = (below(quota.entries), below(quota.bytes));
        let mut ranked: Vec<_> = self
            .answers
            .iter()
            .filter(|(answer, _)| **answer != but)
            .map(|(answer, keys)| {
                let held = || keys.iter().filter_map(|id| self.keys.get(id));
                let bytes: u64 = held().map(|key| key.bytes).sum();
                let generated = held().map(|key| key.generated_ms).max().unwrap_or(0);
                (worth.of(*answer) / bytes.max(1) as f64, generated, *answer, bytes)
            })
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        let (mut entries, mut bytes) = (self.answers.len() as u64, self.bytes);
        let mut chosen = Vec::new();
        for (_, _, answer, size) in ranked {
            let fits = (quota.entries == 0 || entries <= entries_goal)
                && (quota.bytes == 0 || bytes <= bytes_goal);
            if fits {
                break;
            }
            entries -= 1;
            bytes -= size;
            chosen.push(answer);
        }
        chosen
    }
}

#[cfg(test)]
mod tests;
