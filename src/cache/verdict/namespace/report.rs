//! What a namespace says of itself.

use super::{Namespace, State};
use crate::cache::{
    interval::{Interval, Z_95, wilson},
    judge::{JudgeError, corrected},
    verdict::{controller::Trust, posterior::Belief},
};

/// The counts behind the stated rate; those of several namespaces may be added up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NamespaceReport {
    /// Would-be hits so far: served, audited, suspended.
    pub would_be: u64,
    /// Decayed count of would-be hits that were judged.
    pub audited: f64,
    /// Those of them that were wrong, as the judge said.
    pub wrong: f64,
    /// Labels that what is believed rests on.
    pub labels: f64,
    /// Namespaces in this report.
    pub namespaces: u64,
    /// Those of them that serve exact repeats only.
    pub exact_only: u64,
}

impl NamespaceReport {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.would_be += other.would_be;
        self.audited += other.audited;
        self.wrong += other.wrong;
        self.labels += other.labels;
        self.namespaces += other.namespaces;
        self.exact_only += other.exact_only;
    }

    /// Wrong answers per hit with the 95 % interval, corrected for the judge's own errors. A judge
    /// without power proves nothing: anything is possible then.
    pub fn wrong_hits(&self, judge: JudgeError) -> Interval {
        let seen = wilson(self.wrong, self.audited, Z_95);
        corrected(seen, judge).unwrap_or(Interval { low: 0.0, point: seen.point, high: 1.0 })
    }
}

impl Namespace {
    /// The counts behind [`Self::wrong_hits`].
    pub fn report(&self) -> NamespaceReport {
        NamespaceReport {
            would_be: self.memory.would_be,
            audited: self.memory.audited,
            wrong: self.memory.wrong,
            labels: self.labels(),
            namespaces: 1,
            exact_only: u64::from(self.trust() == Trust::ExactOnly),
        }
    }

    /// Wrong answers per hit as unbiased labels show it, with its 95 % interval.
    pub fn wrong_hits(&self) -> Interval {
        self.report().wrong_hits(self.judge)
    }

    /// Labels that what it knows rests on.
    pub fn labels(&self) -> f64 {
        match &self.memory.state {
            State::Verified(v) => v.learned(),
            State::Threshold | State::Vcache(_) | State::Off => self.memory.audited,
        }
    }

    /// How often the judge errs whose labels are to come.
    pub fn judged_by(&mut self, judge: JudgeError) {
        self.judge = judge;
    }

    /// Whether similar questions are served at all. A judge that does not answer ends serving: there
    /// is no promise without it.
    pub fn trust(&self) -> Trust {
        let learns = matches!(self.memory.state, State::Verified(_) | State::Vcache(_));
        if learns && !self.memory.witness.is_alive() {
            return Trust::ExactOnly;
        }
        match &self.memory.state {
            State::Verified(v) => v.controller().trust(),
            State::Threshold | State::Vcache(_) => Trust::Serving,
            State::Off => Trust::ExactOnly,
        }
    }

    /// Highest predicted error of a hit at present, for `verified`.
    pub fn level(&self) -> Option<f64> {
        match &self.memory.state {
            State::Verified(v) => Some(v.controller().level()),
            _ => None,
        }
    }

    /// The learned prior, for `verified`: what a first prior is fitted from.
    pub fn prior(&self) -> Option<&Belief> {
        match &self.memory.state {
            State::Verified(v) => Some(v.prior()),
            _ => None,
        }
    }
}
