//! Deleting answers in every tier.

use super::{Cache, entry::Entry};
use crate::store::{EntryId, Selector, StoreFault};

impl Cache {
    /// How many a purge would find: records of the store, or answers in memory where those are more
    /// (there is no store, or they wait to be written).
    ///
    /// # Errors
    /// The store's.
    pub async fn count(&self, selector: Selector) -> Result<u64, StoreFault> {
        let here = self.exact.count_if(|entry| means(&selector, entry));
        match &self.store {
            Some(store) => Ok(store.count(selector).await?.max(here)),
            None => Ok(here),
        }
    }

    /// Deletes what a selector means, as counted by [`Cache::count`], here and, within two seconds, on
    /// every replica that shares the store.
    ///
    /// # Errors
    /// The store's; the memory tier has forgotten it all the same.
    pub async fn purge(&self, selector: Selector) -> Result<u64, StoreFault> {
        let here = self.exact.remove_if(|entry| means(&selector, entry));
        // They do not know whose they are, and each costs no more than to be made again.
        self.vectors.clear();
        self.readings.clear();
        let Some(writer) = &self.writer else { return Ok(here) };
        if let Some(fences) = &self.fences {
            fences.announce(selector.clone()).await?;
        }
        let stored = writer.delete(selector.clone()).await;
        // A lookup may have carried answers from the store into memory meanwhile, and questions.
        self.exact.remove_if(|entry| means(&selector, entry));
        self.readings.clear();
        Ok(stored?.max(here))
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
}

/// The store's own meaning of a selector, for an answer in memory.
pub(super) fn means(selector: &Selector, entry: &Entry) -> bool {
    match selector {
        Selector::All => true,
        Selector::Answer(id) => entry.id == *id,
        Selector::Model(model) => *entry.model == **model,
        Selector::Route(route) => *entry.route == **route,
        Selector::Tenant(tenant) => *entry.tenant == **tenant,
        Selector::Tag(tag) => entry.tags.contains(tag),
        Selector::Both(both) => means(&both.0, entry) && means(&both.1, entry),
        Selector::Before(ms) => entry.generated_ms < *ms,
        Selector::ExpiredAt(ms) => entry.expires_ms <= *ms,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::{
        cache::{Parts, Prompts, entry, entry::now_ms, guards::Veil, quota::Quota},
        config::{self, Overrides},
    };

    fn cache() -> Cache {
        let overrides =
            Overrides { upstream: Some("http://127.0.0.1:1".into()), ..Default::default() };
        let config = config::load(None, &BTreeMap::new(), &overrides).unwrap();
        let parts = Parts {
            embedder: None,
            store: None,
            queue: 1,
            quota: Quota::default(),
            prompts: Prompts::Kept,
            veil: Arc::new(Veil::new(&[7; 32])),
            learned: None,
        };
        let cache = Cache::new(config.cache, parts, &TaskTracker::new());
        for (id, model) in [(1, "small"), (2, "large"), (3, "large")] {
            let mut entry = entry::tests::entry(id);
            entry.model = model.into();
            entry.expires_ms = now_ms() + 60_000;
            cache.remember(Arc::new(entry));
        }
        cache
    }

    #[tokio::test]
    async fn a_purge_removes_what_was_counted_and_nothing_else() {
        let cases = [
            (Selector::Model("large".into()), 2),
            (Selector::Model("larg".into()), 0),
            (Selector::Answer(EntryId(1)), 1),
            (Selector::Route("r".into()), 3),
            (Selector::Tenant("t".into()), 3),
            (Selector::Tag("a".into()), 3),
            (Selector::Tag("b".into()), 0),
            (Selector::Before(1_000), 0),
            (Selector::Before(1_001), 3),
            (Selector::ExpiredAt(now_ms()), 0),
            (Selector::All, 3),
        ];
        for (selector, meant) in cases {
            let cache = cache();
            assert_eq!(cache.count(selector.clone()).await, Ok(meant), "{selector:?}");
            assert_eq!(cache.purge(selector.clone()).await, Ok(meant), "{selector:?}");
            assert_eq!(cache.count(Selector::All).await, Ok(3 - meant), "{selector:?}");
            assert_eq!(cache.memory().0, 3 - meant, "{selector:?}");
        }
    }
}
