//! Where several principals share a scope: whose answers may be shared, and who may teach how much.
//!
//! Similarity is no authorization: a question planted near somebody else's would otherwise have its
//! answer handed to him. So an answer is shared by meaning only among those whose own fresh answers
//! agreed with it, until enough of them did; and nobody's labels outweigh those of all others.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Lesson, Namespace};
use crate::cache::verdict::{AnswerId, Decision, Principal, Ruling};

/// Answers whose backers are remembered; those beyond are shared with nobody by meaning.
const MOST_ANSWERS: usize = 100_000;
/// Principals whose labels are counted; those beyond teach nothing.
const MOST_TEACHERS: usize = 10_000;
/// Labels that anybody may give.
const FREE_LABELS: f64 = 20.0;
/// Share of all labels that one principal may give where others teach too.
const MOST_SHARE: f64 = 0.25;
/// Counts are halved when they reach this, so that what counts is who teaches of late.
const WINDOW: f64 = 2000.0;

/// Who stands behind which answer: first whoever it was generated for, then those whose fresh answers
/// agreed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct Backers(HashMap<AnswerId, Vec<Principal>>);

impl Backers {
    /// `who` stands behind an answer; more than `most` are not remembered.
    fn add(&mut self, answer: AnswerId, who: Principal, most: usize) {
        if self.0.len() >= MOST_ANSWERS && !self.0.contains_key(&answer) {
            return;
        }
        let backers = self.0.entry(answer).or_default();
        if backers.len() < most && !backers.contains(&who) {
            backers.push(who);
        }
    }

    fn of(&self, answer: AnswerId) -> &[Principal] {
        self.0.get(&answer).map_or(&[], Vec::as_slice)
    }

    pub(super) fn forget(&mut self, answer: AnswerId) {
        self.0.remove(&answer);
    }
}

/// How many labels each principal gave of late.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct Teachers {
    labels: HashMap<Principal, f64>,
    total: f64,
}

impl Teachers {
    /// Counts a label, if its giver may still give one.
    fn admit(&mut self, who: Principal) -> bool {
        let full = self.labels.len() >= MOST_TEACHERS;
        let alone = self.labels.len() <= 1;
        let own = match self.labels.get_mut(&who) {
            Some(own) => own,
            None if full => return false,
            None => self.labels.entry(who).or_insert(0.0),
        };
        if *own >= FREE_LABELS.max(MOST_SHARE * self.total) && !alone {
            return false;
        }
        *own += 1.0;
        self.total += 1.0;
        if self.total >= WINDOW {
            self.labels.values_mut().for_each(|own| *own /= 2.0);
            self.labels.retain(|_, own| *own >= 0.5);
            self.total = self.labels.values().sum();
        }
        true
    }
}

impl Namespace {
    /// Takes a would-be hit back that `asker` may not have yet.
    pub fn hold_back(&self, decision: &mut Decision, asker: Principal) {
        let Some(family) = decision.family else { return };
        if decision.ruling.would_serve() && !self.is_shared_with(family, asker) {
            decision.ruling = Ruling::Unconfirmed;
        }
    }

    fn is_shared_with(&self, family: AnswerId, asker: Principal) -> bool {
        let needed = self.settings.confirmations;
        let backers = self.memory.backers.of(family);
        needed == 0 || backers.contains(&asker) || backers.len() > needed
    }

    /// `who` was given this answer by the upstream, or one that agrees with it.
    pub fn back(&mut self, answer: AnswerId, who: Principal) {
        if self.settings.confirmations > 0 {
            self.stand_behind(answer, who);
            self.tell(Lesson::Backed { answer, by: who });
        }
    }

    pub(super) fn stand_behind(&mut self, answer: AnswerId, who: Principal) {
        let needed = self.settings.confirmations;
        let family = self.memory.families.eldest(answer);
        self.memory.backers.add(family, who, needed + 1);
    }

    /// Whether a label of `who` may count: where one principal is all there is, it may.
    pub fn hears(&mut self, who: Principal) -> bool {
        self.settings.confirmations == 0 || self.memory.teachers.admit(who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(n: u64) -> Principal {
        Principal(n)
    }

    #[test]
    fn nobody_teaches_more_than_a_quarter_where_others_do() {
        let mut teachers = Teachers::default();
        let flood = |teachers: &mut Teachers| (0..1000).filter(|_| teachers.admit(who(1))).count();
        assert!((0..30).all(|n| teachers.admit(who(2 + n % 3))));
        assert_eq!(flood(&mut teachers), 20);
        (0..600).for_each(|n| assert!(teachers.admit(who(100 + n))));
        flood(&mut teachers);
        assert!(teachers.labels[&who(1)] <= 0.26 * teachers.total);
    }

    #[test]
    fn who_is_alone_teaches_freely() {
        let mut teachers = Teachers::default();
        assert!((0..5000).all(|_| teachers.admit(who(1))));
        assert!(teachers.total <= WINDOW);
    }

    #[test]
    fn backers_are_counted_once_and_no_more_than_needed() {
        let mut backers = Backers::default();
        for n in [1, 1, 2, 3, 4] {
            backers.add(AnswerId(7), who(n), 3);
        }
        assert_eq!(backers.of(AnswerId(7)), [who(1), who(2), who(3)]);
        backers.forget(AnswerId(7));
        assert!(backers.of(AnswerId(7)).is_empty());
    }
}
