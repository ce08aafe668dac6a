//! Learning from a forwarded question: does its fresh answer agree with the near ones?
//!
//! Off the path: the client has its answer already. What agrees becomes one more key of the older
//! answer, what does not becomes an answer of its own; either way the namespace hears of it.

use std::{sync::Arc, time::Duration};

use super::{
    Cache,
    entry::Entry,
    judge::{Answer, Bands, JudgeError, agreement, llm},
    key::Key,
    namespaces::Shared,
    verdict::{Agreement, AnswerId, Contender, Decision, Lesson, Placement, controller::Trust},
};
use crate::embed::{Embedded, Vector};

/// The most near answers that a fresh one is compared with.
const CONTENDERS_MAX: usize = 4;
/// Below this similarity of the questions an answer is not worth an embedding.
const WORTH_A_VECTOR: f32 = 0.6;
/// Below this it is not worth asking a language model.
const WORTH_A_MODEL: f32 = 0.8;
/// How long the next question has to come before a fresh answer is embedded to be compared. That takes several
/// times as long as a question and cannot be interrupted, and whoever asks one thing after another (an agent, a
/// script) asks within milliseconds of an answer's end.
const GRACE: Duration = Duration::from_millis(20);
/// A text longer than the embedder's window is compared by the mean of its pieces' vectors: words of a
/// piece, and the most pieces that are looked at.
const PIECE_WORDS: usize = 120;
const PIECES_MAX: usize = 8;

/// A fresh answer and what it was given to.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// The request's key.
    pub key: &'a Key,
    /// The model's name as requested.
    pub model: &'a str,
    /// The last user turn.
    pub question: &'a str,
    /// The answer's text.
    pub fresh: &'a str,
}

/// Why there is a fresh answer to learn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// The cache did not serve the question.
    Forwarded,
    /// It did, and the client asked again for a fresh answer: unless that agrees with what it was
    /// given, it was right to.
    Retried,
}

impl Cache {
    /// Compares the fresh answer's text with those of the decision's contenders, teaches the
    /// namespace, and says how to store the fresh answer. `text_of` reads a stored answer.
    pub async fn learn(
        &self,
        heard: Heard<'_>,
        lesson: Option<(&Decision, Occasion)>,
        text_of: impl Fn(&Entry) -> Option<String>,
    ) -> Placement {
        if !self.namespaces.compares() {
            return Placement::Own;
        }
        let found = match lesson {
            Some((decision, _)) => self.found(heard, decision, text_of).await,
            None => Vec::new(),
        };
        let namespace = self.namespaces.of(&heard.key.tenant, heard.model);
        let mut space = namespace.lock();
        space.judged_by(self.judge_error());
        let before = space.trust();
        let placement = match lesson {
            Some((decision, occasion)) if space.hears(heard.key.principal) => {
                taught(&mut space, decision, occasion, &found)
            }
            _ => Placement::Own,
        };
        let (own, who) = (AnswerId(heard.key.id.0), heard.key.principal);
        match placement {
            // Its exact copy goes when the elder's answer is found to be wrong.
            Placement::Alias(elder) | Placement::Kin(elder) | Placement::Redundant(elder) => {
                space.join(elder, own);
            }
            Placement::Own => {}
        }
        space.back(own, who);
        let agreeing = found.iter().filter(|(_, said)| *said == Agreement::Same);
        agreeing.for_each(|(answer, _)| space.back(*answer, who));
        let (after, lessons) = (space.trust(), space.untold());
        drop(space);
        self.teach_others(&heard.key.tenant, heard.model, lessons);
        if before != after {
            told(after, heard);
        }
        placement
    }

    /// What the judges say of the contenders.
    async fn found(
        &self,
        heard: Heard<'_>,
        decision: &Decision,
        text_of: impl Fn(&Entry) -> Option<String>,
    ) -> Vec<(AnswerId, Agreement)> {
        let mut found = Vec::new();
        let mut fresh_vector = None;
        // One question to a language model a fresh answer: about what would be served.
        let mut model = self.judge.as_ref();
        for contender in decision.contenders.iter().take(CONTENDERS_MAX) {
            let Ok(Some((entry, _))) = self.entry(contender.answer.into()).await else { continue };
            let Some(stored) = text_of(&entry) else { continue };
            let mut said = self.compare(heard, contender, &stored, &mut fresh_vector).await;
            if said.is_none()
                && contender.similarity >= WORTH_A_MODEL
                && let Some(judge) = model.take()
            {
                let (question, fresh) = (heard.question, heard.fresh);
                said = judge.compare(llm::Case { question, fresh, stored: &stored }).await;
            }
            found.extend(said.map(|said| (contender.answer, said)));
        }
        found
    }

    async fn compare(
        &self,
        heard: Heard<'_>,
        contender: &Contender,
        stored: &str,
        fresh_vector: &mut Option<Vector>,
    ) -> Option<Agreement> {
        let bands = Bands::default();
        let (tenant, fresh) = (&heard.key.tenant, heard.fresh);
        let plain = |text| Answer { text, vector: None };
        if let Some(said) = agreement(&plain(fresh), &plain(stored), bands) {
            return Some(said);
        }
        if contender.similarity < WORTH_A_VECTOR {
            return None;
        }
        if fresh_vector.is_none() {
            tokio::time::sleep(GRACE).await;
            *fresh_vector = self.vector_of(tenant, fresh).await;
        }
        let stored_vector = self.vector_of(tenant, stored).await?;
        let fresh = Answer { text: fresh, vector: Some(fresh_vector.as_deref()?) };
        agreement(&fresh, &Answer { text: stored, vector: Some(&stored_vector) }, bands)
    }

    /// The vector of an answer; of a long one, the mean of its pieces.
    async fn vector_of(&self, tenant: &str, text: &str) -> Option<Vector> {
        match self.embed_later(tenant, text.into()).await? {
            Embedded::Vector(vector) => return Some(vector),
            Embedded::UnknownWords { .. } => return None,
            Embedded::BeyondWindow { .. } => {}
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut sum = Vec::new();
        for piece in words.chunks(PIECE_WORDS).take(PIECES_MAX) {
            let Embedded::Vector(vector) = self.embed_later(tenant, piece.join(" ").into()).await?
            else {
                return None;
            };
            sum.resize(vector.len(), 0.0);
            sum.iter_mut().zip(vector.iter()).for_each(|(sum, x)| *sum += x);
        }
        let norm = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
        (norm > 0.0).then(|| sum.iter().map(|x| x / norm).collect())
    }

    /// Behind the questions that clients wait for, and remembered like those: an answer that was near
    /// once is near again.
    async fn embed_later(&self, tenant: &str, text: Arc<str>) -> Option<Embedded> {
        let name = self.vectors.name(tenant, &text);
        if let Some(vector) = self.vectors.get(&name) {
            return Some(Embedded::Vector(vector));
        }
        let answered = self.embedder.as_ref()?.embed_later(text);
        self.vectors.keep(name, answered).await.ok()
    }

    /// Replicas on the same store are to hear what was taught here.
    pub(super) fn teach_others(&self, tenant: &str, model: &str, lessons: Vec<Lesson>) {
        if let Some(replicas) = &self.replicas {
            replicas.teach(tenant, model, lessons);
        }
    }

    /// How often the judges err whose labels are learned from.
    pub(super) fn judge_error(&self) -> JudgeError {
        self.judge.as_ref().map(llm::LlmJudge::error).unwrap_or_default()
    }
}

fn taught(
    space: &mut Shared<'_>,
    decision: &Decision,
    occasion: Occasion,
    found: &[(AnswerId, Agreement)],
) -> Placement {
    match occasion {
        Occasion::Forwarded => space.learn(decision, found),
        Occasion::Retried => {
            let served = decision.contenders.first().map(|contender| contender.answer);
            let agrees = |(answer, said): &(AnswerId, Agreement)| {
                Some(*answer) == served && *said == Agreement::Same
            };
            space.hear(decision, found.iter().any(agrees));
            Placement::Own
        }
    }
}

fn told(trust: Trust, heard: Heard<'_>) {
    let (tenant, model) = (&*heard.key.tenant, heard.model);
    match trust {
        Trust::ExactOnly => tracing::warn!(
            tenant,
            model,
            "near questions are not served any more: too many audited hits were wrong, or none could \
             be judged"
        ),
        Trust::Serving => tracing::info!(tenant, model, "near questions are served again"),
    }
}
