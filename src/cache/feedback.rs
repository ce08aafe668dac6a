//! What people say of hits: a mark on an entry, or a request for a fresh answer right after a hit.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache as Recents;

use super::{
    Cache,
    namespaces::Shared,
    verdict::{AnswerId, Decision},
};
use crate::store::{EntryId, Selector, StoreFault};

/// How long after a hit asking again says something about it.
const RETRY_WITHIN: Duration = Duration::from_secs(120);
/// How long after a hit a mark still finds what was decided.
const MARKED_WITHIN: Duration = Duration::from_secs(24 * 3600);
/// Decisions remembered of each kind, a few hundred bytes each.
const REMEMBERED: u64 = 10_000;

/// What somebody says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It answered its question.
    Right,
    /// It did not: it must not be served any more.
    Wrong,
}

/// The last semantic hits, by the request that was answered and by the answer that was served.
#[derive(Debug)]
pub(super) struct Served {
    by_request: Recents<EntryId, Arc<Decision>>,
    by_answer: Recents<EntryId, Arc<Decision>>,
}

impl Default for Served {
    fn default() -> Self {
        let recents = |life| Recents::builder().max_capacity(REMEMBERED).time_to_live(life).build();
        Self { by_request: recents(RETRY_WITHIN), by_answer: recents(MARKED_WITHIN) }
    }
}

impl Served {
    /// `answer` was served to `request`.
    pub(super) fn remember(&self, request: EntryId, answer: EntryId, decision: &Decision) {
        let mut decision = decision.clone();
        // Of all that was near, what was served is what people speak about.
        decision.contenders.retain(|contender| EntryId::from(contender.answer) == answer);
        let decision = Arc::new(decision);
        self.by_request.insert(request, decision.clone());
        self.by_answer.insert(answer, decision);
    }

    /// What was decided for this very request a moment ago, once.
    pub(super) fn retried(&self, request: EntryId) -> Option<Arc<Decision>> {
        self.by_request.remove(&request)
    }
}

impl Cache {
    /// Somebody says that an entry was right or wrong. A wrong one is deleted with all its keys and
    /// kin from every tier, and they are never again shared by meaning, restarts included; replicas on
    /// one store follow within two seconds. Says how many records went, or `None` where there is no such entry.
    ///
    /// # Errors
    /// The store's; memory has forgotten it all the same.
    pub async fn mark(&self, id: EntryId, mark: Mark) -> Result<Option<u64>, StoreFault> {
        let entry = self.entry(id).await;
        let entry = entry.map_err(|reason| StoreFault::Unavailable(reason.name().into()))?;
        let Some((entry, _)) = entry else { return Ok(None) };
        let answer = match &self.store {
            // A key that leads to an elder answer stands for it.
            Some(store) => store.get(id).await?.map_or(id, |record| record.answer),
            None => id,
        };
        let namespace = self.namespaces.of(&entry.tenant, &entry.model);
        if mark == Mark::Right {
            if let Some(decision) = self.served.by_answer.get(&answer) {
                let mut space = namespace.lock();
                space.hear(&decision, true);
                let lessons = space.untold();
                drop(space);
                self.teach_others(&entry.tenant, &entry.model, lessons);
            }
            return Ok(Some(0));
        }
        let kin = barred(&mut namespace.lock(), &[answer, id]);
        self.persist().await;
        if let Some(replicas) = &self.replicas {
            replicas.tell(&entry.tenant, &entry.model, &kin).await?;
        }
        let mut gone = 0;
        for answer in kin {
            gone += self.purge(Selector::Answer(answer)).await?;
        }
        Ok(Some(gone))
    }

    /// A mark must not be lost with the process; what is on disk is whole at all times.
    async fn persist(&self) {
        let namespaces = self.namespaces.clone();
        match tokio::task::spawn_blocking(move || namespaces.save()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a mark could not be written down"),
            Err(error) => tracing::error!(%error, "a mark could not be written down"),
        }
    }
}

/// Bars these answers and everything that was judged to say the same; all of their names.
pub(super) fn barred(space: &mut Shared<'_>, answers: &[EntryId]) -> Vec<EntryId> {
    let mut kin = Vec::new();
    for answer in answers {
        space.reject(AnswerId(answer.0));
        kin.extend(space.kin(AnswerId(answer.0)).into_iter().map(EntryId::from));
    }
    kin.sort_unstable();
    kin.dedup();
    kin
}
