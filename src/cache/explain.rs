//! What would happen to a request, and why: a lookup that leaves no trace.
//!
//! It walks the steps of [`super::semantic`] with the same parts and stores, counts and teaches
//! nothing: no entry moves into memory, no namespace begins, no budget is spent. It is not drawn
//! for an audit either, so what it says is what all but the audited share would get.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use super::{
    Cache, HitKind, Tier,
    entry::{Entry, now_ms},
    guards::{GuardSet, Reading, differences},
    key::Key,
    namespaces,
    policy::Plan,
    reason::Reason,
    semantic::Times,
    verdict::{self, Decision, Policy, controller::Trust},
    wording::Compared,
};
use crate::{
    cache::interval::Interval,
    embed::Embedded,
    store::{EntryId, Neighbour, VectorStore},
    wire::Prompt,
};

/// How long one explanation may take: a person waits, and the lookup's own deadline would hide what
/// a busy moment cut short.
const PATIENCE: Duration = Duration::from_secs(10);

/// What would happen, and what it hangs on.
#[derive(Default)]
pub struct Explanation {
    /// The answer that would be served, or why none.
    pub outcome: Option<Result<HitKind, Reason>>,
    /// The stored answer to exactly this request, and why it would not be served if not.
    pub exact: Option<(Arc<Entry>, Tier, Result<(), Reason>)>,
    /// The answer that would be served by meaning.
    pub answer: Option<EntryId>,
    /// The nearest keys of the partition, nearest first.
    pub near: Vec<Near>,
    /// What the policy makes of them.
    pub verdict: Option<Standing>,
    /// How long each step took.
    pub times: Times,
}

/// A key near the question.
pub struct Near {
    /// The key, as the store found it.
    pub key: Neighbour,
    /// Differences between its question and this one, whatever guards are on.
    pub differences: GuardSet,
}

/// A decision with what it was measured against.
pub struct Standing {
    /// What was decided.
    pub decision: Decision,
    /// By which rule.
    pub policy: Policy,
    /// Whether the namespace serves by meaning at all at present.
    pub trust: Trust,
    /// What the decision had to reach: `alpha` for `verified`, a similarity for `threshold`; none for
    /// `vcache`, which draws.
    pub line: Option<f64>,
    /// The namespace's share of wrong hits, as its audits show it.
    pub wrong_hits: Interval,
    /// Guards that are on.
    pub guards: GuardSet,
}

impl Cache {
    /// Explains what a lookup of this request would do.
    pub async fn explain(&self, key: &Key, prompt: &Prompt, plan: &Plan) -> Explanation {
        let mut told = Explanation::default();
        let walked = timeout(PATIENCE, self.walk(key, prompt, plan, &mut told)).await;
        let mut outcome = walked.unwrap_or(Err(Reason::LookupDeadline));
        if self.is_shadow() && matches!(outcome, Ok(HitKind::Semantic { .. })) {
            outcome = Err(Reason::Shadow);
        }
        told.outcome = Some(outcome);
        told
    }

    async fn walk(
        &self,
        key: &Key,
        prompt: &Prompt,
        plan: &Plan,
        told: &mut Explanation,
    ) -> Result<HitKind, Reason> {
        let known = self.known(key, told).await?;
        plan.read?;
        if let Some((entry, tier)) = known {
            let hit = self.by_age(entry.clone());
            let acceptable = self.acceptable(&hit, plan);
            told.exact = Some((entry, tier, acceptable));
            if acceptable.is_ok() {
                return Ok(hit.kind);
            }
        }
        let Some(store) = &self.store else { return Err(Reason::SemanticOff) };
        plan.semantic?;
        let Ok(question) = &prompt.question else { return Err(Reason::SemanticOff) };
        let reading = Arc::new(Reading::of(question));
        if let Some(class) = self.class(&reading) {
            return Err(Reason::Alone(class));
        }
        let mut near = self.near(store.as_ref(), key, question, &mut told.times).await?;
        let compared = Compared::of(&self.veil, &self.readings, &reading, &mut near);
        let (question, worded) = (compared.question(), compared.told(&near));
        let differing = near.iter().zip(&worded).map(|(one, told)| Near {
            key: one.clone(),
            differences: differences(question, &told.text.reading()),
        });
        told.near = differing.collect();
        let begun = Instant::now();
        let standing = self.standing(key, prompt, question, &worded, plan);
        told.times.verdict = begun.elapsed();
        let policy = self.config().semantic.policy;
        let ruled = namespaces::ruled(policy, &standing.decision, &near, plan.min_similarity);
        told.verdict = Some(standing);
        let chosen = ruled?;
        told.answer = Some(chosen.answer);
        Ok(HitKind::Semantic { similarity: chosen.similarity })
    }

    /// The stored answer to exactly this request, left where it is.
    async fn known(
        &self,
        key: &Key,
        told: &mut Explanation,
    ) -> Result<Option<(Arc<Entry>, Tier)>, Reason> {
        if let Some(entry) = self.exact.get(key) {
            return Ok(Some((entry, Tier::Memory)));
        }
        let Some(store) = &self.store else { return Ok(None) };
        let begun = Instant::now();
        let record = store.get(key.id).await;
        told.times.by_id = begun.elapsed();
        let max_bytes = self.config().max_entry.bytes();
        let entry = record
            .map_err(|fault| Reason::from(&fault))?
            .and_then(|record| Entry::from_record(record, max_bytes));
        Ok(entry.filter(|entry| entry.answers(key)).map(|entry| (Arc::new(entry), Tier::Store)))
    }

    async fn near(
        &self,
        store: &dyn VectorStore,
        key: &Key,
        question: &Arc<str>,
        times: &mut Times,
    ) -> Result<Vec<Neighbour>, Reason> {
        let Some(embedder) = &self.embedder else { return Err(Reason::SemanticOff) };
        let begun = Instant::now();
        let embedded = embedder.embed(question.clone()).await;
        times.embed = begun.elapsed();
        let vector = match embedded? {
            Embedded::Vector(vector) => vector,
            Embedded::BeyondWindow { .. } => return Err(Reason::BeyondWindow),
            Embedded::UnknownWords { .. } => return Err(Reason::UnknownWords),
        };
        let begun = Instant::now();
        let limit = self.config().semantic.neighbours;
        let near = store.nearest(key.partition.clone(), vector, limit).await;
        times.search = begun.elapsed();
        let mut near = near.map_err(|fault| Reason::from(&fault))?;
        let now = now_ms();
        near.retain(|one| *one.partition == *key.partition && now < one.expires_ms);
        Ok(near)
    }

    fn standing(
        &self,
        key: &Key,
        prompt: &Prompt,
        reading: &Reading,
        near: &[verdict::Neighbour<'_>],
        plan: &Plan,
    ) -> Standing {
        let namespace = self.namespaces.peek(&key.tenant, &prompt.model);
        let namespace = namespace.lock();
        let settings = namespace.settings();
        let line = match settings.policy {
            Policy::Verified => namespace.level().map(|level| 1.0 - level),
            Policy::Threshold => Some(f64::from(plan.min_similarity)),
            Policy::Vcache | Policy::Off => None,
        };
        let mut decision = namespaces::assess(&namespace, reading, near, key.principal);
        self.beside_the_judge(&mut decision);
        Standing {
            decision,
            policy: settings.policy,
            trust: namespace.trust(),
            line,
            wrong_hits: namespace.wrong_hits(),
            guards: settings.guards,
        }
    }
}
