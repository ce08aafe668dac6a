//! Policy `verified`: serve when it is known how often such an answer is right.
//!
//! Each family of answers has a belief about its logistic curve, made of a prior that the namespace
//! shares and of its own outcomes. The prior learns: after each outcome it leans a little towards
//! that family's belief, which over many families is stochastic expectation-maximisation of the
//! mixing distribution. The controller turns the resulting probabilities into a promise about the
//! mean.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::AnswerId;
use super::burst::{Bursts, Halvings};
use super::controller::Controller;
use super::posterior::{Belief, Level, Outcomes};

/// Families with a record of their own; those beyond share the prior, which costs hits and no
/// error.
const MOST_RECORDS: usize = 100_000;
/// Outcomes that the first prior is worth.
const FIRST_PRIOR_WEIGHT: f64 = 100.0;
/// The prior never learns slower than one outcome in so many, so that it can follow drift.
const SLOWEST: f64 = 2000.0;

/// What one namespace has learned.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Verified {
    prior: Belief,
    /// Weight of the outcomes that have moved the prior.
    learned: f64,
    records: HashMap<AnswerId, Outcomes>,
    bursts: Bursts,
    controller: Controller,
}

impl Verified {
    /// From a first prior and a target on wrong answers per hit.
    pub fn new(prior: Belief, target: f64) -> Self {
        Self {
            prior,
            learned: 0.0,
            records: HashMap::new(),
            bursts: Bursts::default(),
            controller: Controller::new(target),
        }
    }

    /// Probability that an answer of this family is right at a feature.
    pub fn alpha(&self, family: AnswerId, feature: f32) -> f64 {
        let level = Level::of(feature);
        let alpha = match self.records.get(&family) {
            Some(outcomes) => self.prior.alpha_given(outcomes, level),
            None => self.prior.alpha(level),
        };
        f64::from(alpha).clamp(0.0, 1.0)
    }

    /// Working level, calibration and trust.
    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    /// The same, to tell it what happened.
    pub fn controller_mut(&mut self) -> &mut Controller {
        &mut self.controller
    }

    /// Weight of the outcomes that have moved the prior.
    pub fn learned(&self) -> f64 {
        self.learned
    }

    /// The shared prior.
    pub fn prior(&self) -> &Belief {
        &self.prior
    }

    /// A near question was ruled on: no hit, or one of this predicted error, served or not.
    pub fn ruled(&mut self, hit: Option<f64>) {
        self.controller.ruled(hit, self.learned);
    }

    /// A near question of this family was judged, whose predicted error was `error`.
    pub fn label(&mut self, family: AnswerId, feature: f32, error: f64, right: bool) {
        let halvings = self.bursts.weigh(family);
        self.controller.calibrate(error, right, f64::from(halvings.weight()));
        self.observe(family, feature, right, halvings);
    }

    /// An answer of this family was wrong, whatever the question.
    pub fn refute(&mut self, family: AnswerId, feature: f32) {
        self.observe(family, feature, false, Halvings::default());
    }

    /// An outcome of a family: its record grows and the shared prior leans towards its belief.
    fn observe(&mut self, family: AnswerId, feature: f32, right: bool, halvings: Halvings) {
        if self.records.len() >= MOST_RECORDS && !self.records.contains_key(&family) {
            return;
        }
        let record = self.records.entry(family).or_default();
        record.push(Level::of(feature), right, halvings);
        let belief = self.prior.given(record);
        let weight = halvings.weight();
        self.learned += f64::from(weight);
        let share = (1.0 / (FIRST_PRIOR_WEIGHT + self.learned)).max(1.0 / SLOWEST);
        self.prior.lean(&belief, weight * share as f32);
    }

    /// The answer has left the store.
    pub fn forget(&mut self, answer: AnswerId) {
        self.records.remove(&answer);
    }
}

/// The form on disk: the belief as plain weights, checked when read.
#[derive(Deserialize, Serialize)]
struct Stored {
    prior: Vec<f32>,
    learned: f64,
    records: HashMap<AnswerId, Outcomes>,
    #[serde(default)]
    bursts: Bursts,
    controller: Controller,
}

impl From<Verified> for Stored {
    fn from(v: Verified) -> Self {
        Self {
            prior: v.prior.weights().to_vec(),
            learned: v.learned,
            records: v.records,
            bursts: v.bursts,
            controller: v.controller,
        }
    }
}

impl TryFrom<Stored> for Verified {
    type Error = &'static str;

    fn try_from(s: Stored) -> Result<Self, Self::Error> {
        let prior = Belief::from_weights(s.prior)
            .ok_or("the stored prior is not a distribution over this version's grid")?;
        Ok(Self {
            prior,
            learned: s.learned,
            records: s.records,
            bursts: s.bursts,
            controller: s.controller,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_answers_rise_and_bad_ones_fall() {
        let mut state = Verified::new(Belief::flat(), 0.01);
        for family in (0..3).flat_map(|_| 0..200u128) {
            state.label(AnswerId(family), 1.2, 0.1, true);
            state.label(AnswerId(family), 0.5, 0.9, false);
        }
        state.label(AnswerId(0), 1.2, 0.1, false);
        assert!(state.alpha(AnswerId(7), 1.3) > 0.97, "{}", state.alpha(AnswerId(7), 1.3));
        assert!(state.alpha(AnswerId(7), 0.5) < 0.1);
        assert!(
            state.alpha(AnswerId(0), 1.2) < state.alpha(AnswerId(7), 1.2),
            "its own error counts against it"
        );
        assert!(state.alpha(AnswerId(9999), 1.3) > 0.9, "a newcomer profits from the others");
    }

    #[test]
    fn state_survives_a_restart() {
        let mut state = Verified::new(Belief::flat(), 0.02);
        for n in 0..50u128 {
            state.label(AnswerId(n % 7), 0.9 + n as f32 / 100.0, 0.1, n % 5 > 0);
        }
        let stored = serde_json::to_string(&state).unwrap();
        let back: Verified = serde_json::from_str(&stored).unwrap();
        assert!((back.alpha(AnswerId(3), 1.1) - state.alpha(AnswerId(3), 1.1)).abs() < 1e-5);
        let broken = stored.replacen("\"prior\":[", "\"prior\":[0.5,", 1);
        assert!(serde_json::from_str::<Verified>(&broken).is_err());
    }
}
