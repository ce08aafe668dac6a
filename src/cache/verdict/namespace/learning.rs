//! What a namespace hears after a question was forwarded.

use super::lesson::{Label, Lesson};
use super::{DECAY, Namespace, State};
use crate::cache::verdict::families::REDUNDANT;
use crate::cache::verdict::{Agreement, AnswerId, Decision, Placement, Ruling};

impl Namespace {
    /// The question was forwarded and its answer compared with contenders; missing comparisons are
    /// simply missing.
    ///
    /// Says how to store the fresh answer.
    pub fn learn(&mut self, decision: &Decision, found: &[(AnswerId, Agreement)]) -> Placement {
        let families = &self.memory.families;
        let of = |answer: AnswerId| {
            found
                .iter()
                .find(|(a, _)| *a == answer)
                .map(|(_, agreement)| *agreement == Agreement::Same)
        };
        let judged =
            decision.contenders.iter().filter_map(|c| of(c.answer).map(|right| (*c, right)));
        let agreeing = judged.clone().find(|(_, right)| *right).map(|(c, _)| c);
        let outcome = judged
            .clone()
            .find(|(c, _)| Some(families.eldest(c.answer)) == decision.family)
            .map(|(_, right)| right);
        if decision.ruling.would_serve() {
            self.memory.witness.audited(outcome);
        }
        if let Some(right) = outcome {
            self.record(decision, right);
        }
        let Some(contender) = agreeing else {
            return Placement::Own;
        };
        if contender.similarity > REDUNDANT {
            return Placement::Redundant(contender.answer);
        }
        if self.memory.families.add_alias(contender.answer) {
            Placement::Alias(contender.answer)
        } else {
            Placement::Kin(contender.answer)
        }
    }

    fn record(&mut self, decision: &Decision, right: bool) {
        let Some(label) = Label::of(decision, right) else { return };
        self.count(&label);
        self.tell(Lesson::Label(label));
    }

    pub(super) fn count(&mut self, label: &Label) {
        let Label { family, feature, similarity, alpha, unbiased, teaches, right } = *label;
        if unbiased {
            self.memory.audited = self.memory.audited * DECAY + 1.0;
            self.memory.wrong = self.memory.wrong * DECAY + f64::from(u8::from(!right));
        }
        match &mut self.memory.state {
            State::Verified(v) => {
                if unbiased {
                    v.controller_mut().audit(1.0 - alpha, right, self.judge);
                }
                // What a guard stopped would never be served: its outcome says nothing about what
                // similarity is worth.
                if teaches {
                    v.label(family, feature, 1.0 - alpha, right);
                }
            }
            State::Vcache(v) if teaches => v.observe(family, similarity, right),
            State::Vcache(_) | State::Threshold | State::Off => {}
        }
    }

    /// A new answer says the same as an older one.
    pub fn join(&mut self, elder: AnswerId, new: AnswerId) {
        self.memory.families.join(elder, new);
        self.tell(Lesson::Kin { elder, younger: new });
    }

    /// A user says that a served answer was wrong: its family is served no more, and counts as
    /// wrong however similar. Once: a mark is heard again from other replicas and after a restart.
    pub fn reject(&mut self, answer: AnswerId) {
        /// Above what any neighbourhood reaches.
        const SURE: f32 = 1.6;
        if self.is_quarantined(answer) {
            return;
        }
        let family = self.memory.families.eldest(answer);
        self.memory.families.quarantine(answer);
        match &mut self.memory.state {
            State::Verified(v) => v.refute(family, SURE),
            State::Vcache(v) => v.observe(family, 1.0, false),
            State::Threshold | State::Off => {}
        }
    }

    /// A user says that what was decided was right, or that it was not: it teaches like a label, but
    /// it is no audit, since users do not speak up at random.
    pub fn hear(&mut self, decision: &Decision, right: bool) {
        let volunteered = Decision { ruling: Ruling::Doubtful, ..decision.clone() };
        self.record(&volunteered, right);
    }

    /// Everybody of an answer's family.
    pub fn kin(&self, answer: AnswerId) -> Vec<AnswerId> {
        self.memory.families.members(answer)
    }

    /// Whether an answer's family may not be shared by meaning any more.
    pub fn is_quarantined(&self, answer: AnswerId) -> bool {
        self.memory.families.is_quarantined(answer)
    }

    /// An answer has left the store.
    pub fn forget(&mut self, answer: AnswerId) {
        self.memory.families.forget(answer);
        self.memory.backers.forget(answer);
        match &mut self.memory.state {
            State::Verified(v) => v.forget(answer),
            State::Vcache(v) => v.forget(answer),
            State::Threshold | State::Off => {}
        }
    }
}
