//! The lookup past the memory tier: the store by id, then by meaning, under one hard deadline.
//!
//! The cache must never make things worse: whatever is late, full or broken here ends in a
//! [`Reason`] and the request is forwarded.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{sync::Notify, time::Instant};

use super::{
    Cache, Hit, HitKind,
    entry::Entry,
    guards::{Alone, Reading},
    key::Key,
    namespaces,
    policy::Plan,
    probing::NEAR,
    reason::Reason,
    verdict::{Decision, Ruling},
    wording::Compared,
};
use crate::{
    embed::{EmbedFault, Embedded, Vector},
    store::{Neighbour, VectorStore},
    wire::Prompt,
};

/// What a lookup found, and what it leaves behind.
pub struct Search<'c> {
    /// The answer, or why there is none.
    pub outcome: Result<Hit, Reason>,
    /// In shadow mode: the hit that was not served.
    pub shadow: Option<Hit>,
    /// What was decided about the near questions, to be learned from.
    pub decision: Option<Decision>,
    /// The client wants a fresh answer to what was answered by this decision a moment ago.
    pub retried: Option<Arc<Decision>>,
    /// Its truth moves with the clock.
    pub volatile: bool,
    /// Where the question's vector stands: a miss stores it with its answer.
    pub embedding: Embedding<'c>,
    /// How long each step took; zero for a step that did not happen.
    pub times: Times,
}

/// How long each step of a lookup took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// The store asked by id.
    pub by_id: Duration,
    /// The embedding.
    pub embed: Duration,
    /// The nearest-neighbour search.
    pub search: Duration,
    /// The verdict and its guards.
    pub verdict: Duration,
}

/// The question of one lookup.
struct Asked<'p> {
    model: &'p str,
    reading: Option<Arc<Reading>>,
    alone: Option<Alone>,
    begun: &'p Notify,
    decision: Option<Decision>,
}

/// Where a question's vector stands.
pub enum Embedding<'c> {
    /// The question is never matched by meaning.
    None,
    /// Here it is.
    Ready(Vector),
    /// Still being computed when the deadline passed (or not yet begun).
    Pending(BoxFuture<'c, Result<Embedded, EmbedFault>>),
}

impl Embedding<'_> {
    /// The vector, waited for up to `patience`: off the request's path.
    pub async fn settle(self, patience: Duration) -> Option<Vector> {
        match self {
            Self::None => None,
            Self::Ready(vector) => Some(vector),
            Self::Pending(running) => match tokio::time::timeout(patience, running).await {
                Ok(Ok(Embedded::Vector(vector))) => Some(vector),
                Ok(Ok(Embedded::BeyondWindow { .. } | Embedded::UnknownWords { .. }) | Err(_))
                | Err(_) => None,
            },
        }
    }
}

impl Cache {
    /// Looks for an answer in the store, by id and by meaning. `begun` is told before the first,
    /// where the second may follow.
    pub async fn search(
        &self,
        key: &Key,
        prompt: &Prompt,
        plan: &Plan,
        begun: &Notify,
    ) -> Search<'_> {
        let mut times = Times::default();
        let question = prompt.question.as_ref().ok();
        let reading = question.map(|question| Arc::new(Reading::of(question)));
        let alone = reading.as_ref().and_then(|reading| self.class(reading));
        let volatile = alone == Some(Alone::Volatile);
        let mut asked = Asked { model: &prompt.model, reading, alone, begun, decision: None };
        let mut embedding = self.embedding(key, question, alone);
        if let (Some(question), Some(reading)) = (question, &asked.reading)
            && !matches!(embedding, Embedding::None)
        {
            self.readings.keep(question, reading);
        }
        if let Err(reason) = plan.read {
            let asked_anew = reason == Reason::NoCache;
            return Search {
                outcome: Err(reason),
                shadow: None,
                decision: None,
                retried: asked_anew.then(|| self.served.retried(key.id)).flatten(),
                volatile,
                embedding,
                times,
            };
        }
        let deadline = self.config().semantic.lookup_deadline.get();
        let steps = self.steps(key, &mut asked, plan, &mut embedding, &mut times);
        let found = tokio::time::timeout(deadline, steps).await;
        let mut outcome = found.unwrap_or(Err(Reason::LookupDeadline));
        let mut shadow = None;
        if let Ok(hit) = &outcome
            && matches!(hit.kind, HitKind::Semantic { .. })
        {
            if self.is_shadow() {
                shadow = Some(hit.clone());
                outcome = Err(Reason::Shadow);
            } else if let Some(decision) = &asked.decision {
                self.served.remember(key.id, hit.entry.id, decision);
                self.worth(&hit.entry, decision.alpha);
            }
        }
        let decision = asked.decision;
        Search { outcome, shadow, decision, retried: None, volatile, embedding, times }
    }

    /// Begins to embed a question, where its vector is of use.
    pub fn embedding(
        &self,
        key: &Key,
        question: Option<&Arc<str>>,
        alone: Option<Alone>,
    ) -> Embedding<'_> {
        let embeds = question.filter(|_| self.store.is_some() && alone.is_none());
        let (Some(question), Some(embedder)) = (embeds, &self.embedder) else {
            return Embedding::None;
        };
        let name = self.vectors.name(&key.tenant, question);
        match self.vectors.get(&name) {
            Some(vector) => Embedding::Ready(vector),
            None => {
                let answered = embedder.embed(question.clone());
                Embedding::Pending(Box::pin(self.vectors.keep(name, answered)))
            }
        }
    }

    async fn steps(
        &self,
        key: &Key,
        asked: &mut Asked<'_>,
        plan: &Plan,
        embedding: &mut Embedding<'_>,
        times: &mut Times,
    ) -> Result<Hit, Reason> {
        // Another flight of this request may have landed between the caller's look into memory and
        // its boarding.
        if let Ok(hit) = self.exact(key, plan) {
            return Ok(hit);
        }
        let Some(store) = &self.store else { return Err(Reason::SemanticOff) };
        let by_meaning = match asked.alone {
            None => plan.semantic,
            Some(class) => plan.semantic.and(Err(Reason::Alone(class))),
        };
        if by_meaning.is_ok() {
            asked.begun.notify_one();
        }
        let begun = Instant::now();
        let stored = self.stored(store.as_ref(), key).await;
        times.by_id = begun.elapsed();
        if let Some(entry) = stored? {
            let hit = self.by_age(entry);
            if self.acceptable(&hit, plan).is_ok() {
                self.worth(&hit.entry, 1.0);
                return Ok(hit);
            }
        }
        by_meaning?;
        let begun = Instant::now();
        let vector = vector(embedding).await;
        times.embed = begun.elapsed();
        let vector = vector?;
        let begun = Instant::now();
        let limit = self.config().semantic.neighbours;
        let near = store.nearest(key.partition.clone(), vector, limit).await;
        times.search = begun.elapsed();
        let mut near = near.map_err(|fault| Reason::from(&fault))?;
        if let Some(replicas) = &self.replicas {
            replicas.begun().await.map_err(|fault| Reason::from(&fault))?;
        }
        let now = super::entry::now_ms();
        // The partition was a filter of the search; it is checked again because another scope's
        // answer must not depend on a database's filter being right.
        near.retain(|one| *one.partition == *key.partition && now < one.expires_ms);
        let nearest = near.first().map_or(0.0, |one| one.similarity);
        if nearest >= NEAR && self.probing.is_too_much(key.principal) {
            return Err(Reason::Probing);
        }
        let begun = Instant::now();
        let chosen = self.verdict(key, asked, &mut near, plan);
        times.verdict = begun.elapsed();
        let chosen = chosen?;
        let entry = match self.exact.by_id(chosen.answer) {
            Some(entry) => entry,
            None => self.fetch(store.as_ref(), chosen.answer).await?.ok_or(Reason::NoNeighbour)?,
        };
        if *entry.partition != *key.partition || *entry.tenant != *key.tenant {
            return Err(Reason::NoNeighbour);
        }
        let hit = Hit { entry, kind: HitKind::Semantic { similarity: chosen.similarity } };
        self.acceptable(&hit, plan)?;
        Ok(hit)
    }

    /// The neighbour whose answer may be served.
    fn verdict<'n>(
        &self,
        key: &Key,
        asked: &mut Asked<'_>,
        near: &'n mut Vec<Neighbour>,
        plan: &Plan,
    ) -> Result<&'n Neighbour, Reason> {
        let Some(reading) = &asked.reading else { return Err(Reason::SemanticOff) };
        let namespace = self.namespaces.of(&key.tenant, asked.model);
        let compared = Compared::of(&self.veil, &self.readings, reading, near);
        let (question, told) = (compared.question(), compared.told(near));
        let mut decision = namespaces::decide(&namespace, question, &told, key.principal);
        self.beside_the_judge(&mut decision);
        let policy = self.config().semantic.policy;
        let ruled = namespaces::ruled(policy, &decision, near, plan.min_similarity);
        asked.decision = Some(decision);
        ruled
    }

    /// Takes a would-be hit back while the judge, where one is configured and needed, is not fit to be
    /// served beside.
    pub(super) fn beside_the_judge(&self, decision: &mut Decision) {
        let judge = self.judge.as_ref().filter(|_| self.namespaces.learns());
        let unfit = judge.is_some_and(|judge| !judge.state().lets_serve());
        if unfit && decision.ruling.would_serve() {
            decision.ruling = Ruling::Suspended;
        }
    }

    /// The store's answer to exactly this request; it moves into the memory tier.
    async fn stored(
        &self,
        store: &dyn VectorStore,
        key: &Key,
    ) -> Result<Option<Arc<Entry>>, Reason> {
        let entry = self.fetch(store, key.id).await?;
        Ok(entry.filter(|entry| entry.answers(key)))
    }

    /// The stored answer of this name.
    pub(super) async fn fetch(
        &self,
        store: &dyn VectorStore,
        id: crate::store::EntryId,
    ) -> Result<Option<Arc<Entry>>, Reason> {
        let record = store.get(id).await.map_err(|fault| Reason::from(&fault))?;
        let elder = record.as_ref().map_or(id, |record| record.answer);
        let max_bytes = self.config().max_entry.bytes();
        let entry = record.and_then(|record| Entry::from_record(record, max_bytes));
        // Purged, but still on its way out of the store.
        let entry = entry.filter(|entry| self.fences.as_ref().is_none_or(|all| !all.stop(entry)));
        Ok(entry.map(|entry| {
            let entry = Arc::new(entry);
            if elder != id {
                // Another replica learned that it says the same: a mark on either is one on both.
                let space = self.namespaces.of(&entry.tenant, &entry.model);
                space.lock().join(elder.into(), id.into());
            }
            self.exact.put(entry.clone());
            entry
        }))
    }
}

/// Waits for the question's vector and leaves it where a later store can take it.
async fn vector(embedding: &mut Embedding<'_>) -> Result<Vector, Reason> {
    match embedding {
        Embedding::None => Err(Reason::SemanticOff),
        Embedding::Ready(vector) => Ok(vector.clone()),
        Embedding::Pending(running) => {
            let embedded = running.await;
            // A finished future must not be polled again.
            *embedding = Embedding::None;
            match embedded? {
                Embedded::Vector(vector) => {
                    *embedding = Embedding::Ready(vector.clone());
                    Ok(vector)
                }
                Embedded::BeyondWindow { .. } => Err(Reason::BeyondWindow),
                Embedded::UnknownWords { .. } => Err(Reason::UnknownWords),
            }
        }
    }
}
