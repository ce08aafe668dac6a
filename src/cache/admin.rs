//! What people and the end of the process ask of the cache: one entry by its name, what it holds and
//! how writing goes, and that nothing learned or kept is lost.

use std::sync::Arc;

use super::{
    Cache, Tier,
    entry::Entry,
    reason::Reason,
    write::{WriteBehind, WriteReport},
};
use crate::store::{EntryId, Selector, StoreFault, VectorStore};

impl Cache {
    /// Writes down what was learned about near questions, and what answers were worth.
    ///
    /// # Errors
    /// The file system's.
    pub fn save_learned(&self) -> std::io::Result<()> {
        let worth = self.worth.as_ref().map_or(Ok(()), |worth| worth.save());
        self.namespaces.save().and(worth)
    }

    /// The answer of this name and the tier that it was found in, for people.
    ///
    /// # Errors
    /// Why the store cannot say.
    pub async fn entry(&self, id: EntryId) -> Result<Option<(Arc<Entry>, Tier)>, Reason> {
        if let Some(entry) = self.exact.by_id(id) {
            return Ok(Some((entry, Tier::Memory)));
        }
        let Some(store) = &self.store else { return Ok(None) };
        Ok(self.fetch(store.as_ref(), id).await?.map(|entry| (entry, Tier::Store)))
    }

    /// Deletes one answer with all its keys in every tier, and says how many were found.
    ///
    /// # Errors
    /// The store's; the memory tier has forgotten it all the same.
    pub async fn delete(&self, id: EntryId) -> Result<u64, StoreFault> {
        let here = u64::from(self.exact.remove(id));
        let Some(store) = &self.store else { return Ok(here) };
        // A key that leads to an elder answer goes with that answer: they say the same.
        let answer = store.get(id).await?.map_or(id, |record| record.answer);
        Ok(self.purge(Selector::Answer(answer)).await?.max(here))
    }

    /// Makes every kept answer durable, and leaves what was learned to replicas that begin later.
    ///
    /// # Errors
    /// The store's.
    pub async fn flush(&self) -> Result<(), StoreFault> {
        if let Some(writer) = &self.writer {
            writer.flush().await?;
        }
        match &self.replicas {
            Some(replicas) => {
                replicas.tell_lessons().await?;
                replicas.publish().await
            }
            None => Ok(()),
        }
    }

    /// Questions whose vector was remembered, so far.
    pub fn vectors_found(&self) -> u64 {
        self.vectors.found()
    }

    /// Entries and bytes in memory.
    pub fn memory(&self) -> (u64, u64) {
        self.exact.size()
    }

    /// How writing goes.
    pub fn writes(&self) -> WriteReport {
        self.writer.as_ref().map(WriteBehind::report).unwrap_or_default()
    }

    /// The store, for reports.
    pub fn store(&self) -> Option<&Arc<dyn VectorStore>> {
        self.store.as_ref()
    }
}
