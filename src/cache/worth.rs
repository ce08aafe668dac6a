//! What stored answers were worth so far: time that their hits saved, times the probability that each
//! hit was right.
//!
//! Divided by an answer's bytes this says what goes first when its tenant's quota is used up: hits x
//! seconds saved x P(correct) / bytes. Answers that were never hit are worth nothing and cost no
//! memory here. What is known is kept over a restart.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, now_ms};
use crate::store::EntryId;

/// Locks, so that hits on several cores rarely meet.
const SHARDS: usize = 16;
/// Answers that are remembered a lock; hits of more are not counted until some expire.
const SHARD_MAX: usize = 1 << 16;
/// What asking would have cost where nobody knows: an answer that was given by a file.
const UNKNOWN_MS: u64 = 1_000;

/// Of one answer.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
struct Saved {
    /// Milliseconds, each hit weighed with the probability that it was right.
    ms: f64,
    /// The end of its life, Unix milliseconds.
    until_ms: u64,
}

/// What answers were worth.
#[derive(Debug)]
pub struct Worth {
    shards: [Mutex<HashMap<EntryId, Saved>>; SHARDS],
    path: Option<PathBuf>,
}

impl Worth {
    /// With what `path` knows of the time before; a file that cannot be read is begun anew.
    pub fn open(path: Option<PathBuf>) -> Self {
        let worth = Self { shards: Default::default(), path };
        let read = worth.path.as_deref().map_or_else(|| Ok(HashMap::new()), read);
        match read {
            Ok(known) => {
                for (id, saved) in known {
                    worth.shard(id).lock().insert(id, saved);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "what answers were worth cannot be read: it begins anew");
            }
        }
        worth
    }

    /// An answer was served, and was right with this probability.
    pub fn hit(&self, entry: &Entry, correct: f64) {
        let took = if entry.upstream_ms == 0 { UNKNOWN_MS } else { entry.upstream_ms };
        let gain = took as f64 * correct.clamp(0.0, 1.0);
        let mut shard = self.shard(entry.id).lock();
        if let Some(saved) = shard.get_mut(&entry.id) {
            saved.ms += gain;
            saved.until_ms = entry.expires_ms;
        } else if shard.len() < SHARD_MAX {
            shard.insert(entry.id, Saved { ms: gain, until_ms: entry.expires_ms });
        }
    }

    /// Milliseconds that an answer is believed to have saved.
    pub fn of(&self, id: EntryId) -> f64 {
        self.shard(id).lock().get(&id).map_or(0.0, |saved| saved.ms)
    }

    /// An answer is gone.
    pub fn forget(&self, id: EntryId) {
        self.shard(id).lock().remove(&id);
    }

    /// Writes it down, whole or not at all, without what is past its life.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&self) -> io::Result<()> {
        let now = now_ms();
        let mut all = HashMap::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.retain(|_, saved| saved.until_ms > now);
            all.extend(shard.iter().map(|(id, saved)| (*id, *saved)));
        }
        let Some(path) = &self.path else { return Ok(()) };
        let draft = path.with_extension("draft");
        std::fs::write(&draft, serde_json::to_vec(&all)?)?;
        std::fs::rename(draft, path)
    }

    fn shard(&self, id: EntryId) -> &Mutex<HashMap<EntryId, Saved>> {
        &self.shards[id.0 as usize % SHARDS]
    }
}

fn read(path: &Path) -> io::Result<HashMap<EntryId, Saved>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashMap::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::tests::entry;

    #[test]
    fn hits_add_up_by_their_probability_and_survive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worth.json");
        let worth = Worth::open(Some(path.clone()));
        let mut served = entry(7);
        served.expires_ms = now_ms() + 60_000;
        worth.hit(&served, 1.0);
        worth.hit(&served, 0.5);
        worth.hit(&entry(8), 1.0);
        assert_eq!(worth.of(EntryId(7)), 13.5, "9 ms each");
        worth.save().unwrap();
        let again = Worth::open(Some(path.clone()));
        assert_eq!((again.of(EntryId(7)), again.of(EntryId(8))), (13.5, 0.0), "8 is past its life");
        again.forget(EntryId(7));
        assert_eq!(again.of(EntryId(7)), 0.0);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(Worth::open(Some(path)).of(EntryId(7)), 0.0);
    }

    #[test]
    fn an_answer_of_unknown_cost_is_worth_something() {
        let worth = Worth::open(None);
        worth.hit(&Entry { upstream_ms: 0, ..entry(1) }, 1.0);
        assert_eq!(worth.of(EntryId(1)), 1_000.0);
    }
}
