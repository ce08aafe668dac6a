//! Learning from a forwarded question: does its fresh answer agree with the near ones?
//!
//! Off the path: the client has its answer already. What agrees becomes one more key of the older
//! answer, what does not becomes an answer of its own; either way the namespace hears of it.

use std::sync::Arc;

use super::{
    Cache,
    entry::Entry,
    judge::{Answer, Bands, agreement},
    key::Key,
    verdict::{Agreement, AnswerId, Contender, Decision, Placement},
};
use crate::embed::{Embedded, Vector};

/// The most near answers that a fresh one is compared with.
const CONTENDERS_MAX: usize = 4;
/// Below this similarity of the questions an answer is not worth an embedding.
const WORTH_A_VECTOR: f32 = 0.6;

impl Cache {
    /// Compares the fresh answer's text with those of the decision's contenders, teaches the
    /// namespace, and says how to store the fresh answer. `text_of` reads a stored answer.
    pub async fn learn(
        &self,
        key: &Key,
        model: &str,
        decision: &Decision,
        fresh: &str,
        text_of: impl Fn(&Entry) -> Option<String>,
    ) -> Placement {
        if !self.namespaces.learns() {
            return Placement::Own;
        }
        let mut found = Vec::new();
        let mut fresh_vector = None;
        for contender in decision.contenders.iter().take(CONTENDERS_MAX) {
            let Ok(Some((entry, _))) = self.entry(contender.answer.into()).await else { continue };
            let Some(stored) = text_of(&entry) else { continue };
            let said = self.compare(contender, fresh, &stored, &mut fresh_vector).await;
            found.extend(said.map(|said| (contender.answer, said)));
        }
        let namespace = self.namespaces.of(&key.tenant, model);
        let mut namespace = namespace.lock();
        let placement = namespace.learn(decision, &found);
        if let Placement::Kin(elder) = placement {
            namespace.join(elder, AnswerId(key.id.0));
        }
        placement
    }

    async fn compare(
        &self,
        contender: &Contender,
        fresh: &str,
        stored: &str,
        fresh_vector: &mut Option<Vector>,
    ) -> Option<Agreement> {
        let bands = Bands::default();
        let plain = |text| Answer { text, vector: None };
        if let Some(said) = agreement(&plain(fresh), &plain(stored), bands) {
            return Some(said);
        }
        if contender.similarity < WORTH_A_VECTOR {
            return None;
        }
        if fresh_vector.is_none() {
            *fresh_vector = self.vector_of(fresh).await;
        }
        let stored_vector = self.vector_of(stored).await?;
        let fresh = Answer { text: fresh, vector: Some(fresh_vector.as_deref()?) };
        agreement(&fresh, &Answer { text: stored, vector: Some(&stored_vector) }, bands)
    }

    async fn vector_of(&self, text: &str) -> Option<Vector> {
        match self.embedder.as_ref()?.embed(Arc::from(text)).await {
            Ok(Embedded::Vector(vector)) => Some(vector),
            Ok(Embedded::BeyondWindow { .. } | Embedded::UnknownWords { .. }) | Err(_) => None,
        }
    }
}
