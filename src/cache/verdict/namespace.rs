//! The one object that a lookup asks and a recorder tells.

mod learning;
mod lesson;
mod report;
mod sharing;

use serde::{Deserialize, Serialize};

use super::controller::Trust;
use super::families::Families;
use super::feature::{Stand, Vote, feature};
use super::posterior::Belief;
use super::threshold;
use super::vcache::Vcache;
use super::verified::Verified;
use super::witness::Witness;
use super::{AnswerId, Contender, Decision, Neighbour, Policy, Ruling};
use crate::cache::guards::{GuardSet, Reading, differences};
use crate::cache::judge::JudgeError;
use crate::embed::shows_other;

pub use lesson::{Label, Lesson};
pub use report::NamespaceReport;
use sharing::{Backers, Teachers};

/// Keys that guards look at for one question. The first is clean almost always; four bound the cost
/// of the rest.
const MOST_CHECKS: usize = 4;
/// Probability below which a question is not worth a guard's microseconds.
const HOPELESS: f64 = 0.3;
/// Share of the very first would-be hits that is checked, and the number of checks after which it
/// is a quarter of that.
const EARLIEST_SHARE: f64 = 0.15;
const FIRST_AUDITS: f64 = 30.0;
/// Would-be hits of a new namespace that are never forwarded to be checked: who tries Reprise for the
/// first time sees a hit. Which ones are drawn does not bias a rate, and two prove nothing.
const UNCHECKED: u64 = 2;
/// A label's weight in the stated rate halves over about so many labels.
const DECAY: f64 = 1.0 - 1.0 / 1500.0;

/// What an operator sets.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How to decide.
    pub policy: Policy,
    /// For `threshold`: least cosine similarity, in (0, 1]. For the others an extra floor; 0 when
    /// unset.
    pub min_similarity: f32,
    /// For `verified`: bound on wrong answers per hit; for `vcache`: per request. In (0, 1).
    pub max_wrong_hits: f64,
    /// Share of would-be hits that are forwarded to be checked, in 0..=1.
    pub audit: f64,
    /// Guards in force.
    pub guards: GuardSet,
    /// How many other principals' fresh answers must agree with an answer before it is shared by
    /// meaning; 0 where all requests are one principal's.
    pub confirmations: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: Policy::Verified,
            min_similarity: 0.0,
            max_wrong_hits: 0.01,
            audit: 0.02,
            guards: GuardSet::DEFAULT,
            confirmations: 0,
        }
    }
}

/// Everything learned in one scope for one model.
#[derive(Clone, Debug)]
pub struct Namespace {
    settings: Settings,
    memory: Memory,
    /// How often the judge errs whose labels these are.
    judge: JudgeError,
    /// Taught here, and not told to other replicas yet.
    untold: Vec<Lesson>,
}

/// What survives a restart.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Memory {
    families: Families,
    state: State,
    witness: Witness,
    /// Decayed count of unbiased labels, and of those that were wrong.
    audited: f64,
    wrong: f64,
    /// Would-be hits so far.
    #[serde(default)]
    would_be: u64,
    #[serde(default)]
    backers: Backers,
    #[serde(default)]
    teachers: Teachers,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Verified(Verified),
    Threshold,
    Vcache(Vcache),
    Off,
}

/// A vote list and what the policy makes of it.
struct Choice {
    nearest: usize,
    rival: f32,
    feature: f32,
}

impl Namespace {
    /// With nothing learned but the first prior.
    pub fn new(settings: Settings, prior: Belief) -> Self {
        let state = match settings.policy {
            Policy::Verified => State::Verified(Verified::new(prior, settings.max_wrong_hits)),
            Policy::Threshold => State::Threshold,
            Policy::Vcache => State::Vcache(Vcache::new(settings.max_wrong_hits)),
            Policy::Off => State::Off,
        };
        Self {
            settings,
            memory: Memory {
                families: Families::default(),
                state,
                witness: Witness::default(),
                audited: 0.0,
                wrong: 0.0,
                would_be: 0,
                backers: Backers::default(),
                teachers: Teachers::default(),
            },
            judge: JudgeError::default(),
            untold: Vec::new(),
        }
    }

    /// What it learned before a restart, under the settings of today. Families, quarantine and
    /// confirmations always survive; the rest does if the policy is the same. A changed target takes effect at
    /// once.
    pub fn restore(
        settings: Settings,
        prior: Belief,
        snapshot: &str,
    ) -> Result<Self, serde_json::Error> {
        let stored: Memory = serde_json::from_str(snapshot)?;
        let mut fresh = Self::new(settings, prior);
        fresh.memory.families = stored.families;
        fresh.memory.backers = stored.backers;
        fresh.memory.teachers = stored.teachers;
        match (&mut fresh.memory.state, stored.state) {
            (State::Verified(now), State::Verified(mut before)) => {
                before.controller_mut().retarget(fresh.settings.max_wrong_hits);
                *now = before;
            }
            (State::Vcache(now), State::Vcache(before)) => now.adopt(before),
            (State::Threshold, State::Threshold) => {}
            _ => return Ok(fresh),
        }
        (fresh.memory.audited, fresh.memory.wrong) = (stored.audited, stored.wrong);
        fresh.memory.would_be = stored.would_be;
        Ok(fresh)
    }

    /// What is to be kept over a restart, as JSON.
    pub fn snapshot(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&self.memory)
    }

    /// What is set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Decides about a question and books it. `draw` is a fresh uniform number in 0..1: audits and
    /// exploration hang on it.
    pub fn decide(
        &mut self,
        question: &Reading,
        neighbours: &[Neighbour<'_>],
        draw: f64,
    ) -> Decision {
        let decision = self.assess(question, neighbours, draw);
        self.book(&decision);
        decision
    }

    /// A decision made by [`Self::assess`] is acted on.
    pub fn book(&mut self, decision: &Decision) {
        let would_serve = decision.ruling.would_serve();
        self.memory.would_be += u64::from(would_serve);
        if decision.chosen.is_some()
            && let State::Verified(v) = &mut self.memory.state
        {
            v.ruled(would_serve.then_some(1.0 - decision.alpha));
        }
    }

    /// The same without a trace, for explanations.
    pub fn assess(&self, question: &Reading, neighbours: &[Neighbour<'_>], draw: f64) -> Decision {
        let families = &self.memory.families;
        let mut votes: Vec<Vote> = neighbours
            .iter()
            .map(|n| Vote {
                family: families.eldest(n.answer),
                similarity: n.similarity,
                stand: if families.is_quarantined(n.answer)
                    || shows_other(&question.pictographs, &n.text.pictographs())
                {
                    Stand::Silent
                } else {
                    Stand::Full
                },
            })
            .collect();
        let mut decision = Decision {
            ruling: Ruling::NoNeighbour,
            chosen: None,
            family: None,
            similarity: 0.0,
            rival: 0.0,
            feature: 0.0,
            alpha: 0.0,
            guards: GuardSet::NONE,
            teaches: true,
            contenders: contenders(&votes, neighbours),
        };
        if matches!(self.memory.state, State::Off) {
            decision.ruling = Ruling::Off;
            return decision;
        }
        let Some(first) = self.choose(&votes) else {
            return decision;
        };
        self.describe(&mut decision, &votes, &first);
        let candidate = self.is_candidate(&decision);
        if !candidate && decision.alpha < HOPELESS {
            decision.ruling = Ruling::Doubtful;
            return decision;
        }
        // Guards look at doubtful questions too: an outcome that a guard foresaw must not teach
        // that similarity is worth less.
        decision.ruling = match self.past_guards(question, neighbours, &mut votes, &mut decision) {
            Some(clean) => {
                if !decision.guards.is_empty() {
                    self.describe(&mut decision, &votes, &clean);
                }
                self.rule(&decision, candidate, draw)
            }
            None => {
                decision.teaches = false;
                if candidate { Ruling::Guarded } else { Ruling::Doubtful }
            }
        };
        decision
    }

    fn choose(&self, votes: &[Vote]) -> Option<Choice> {
        let found = feature(votes)?;
        match &self.memory.state {
            State::Verified(_) => {
                Some(Choice { nearest: found.nearest, rival: found.rival, feature: found.value })
            }
            State::Threshold | State::Vcache(_) | State::Off => {
                let nearest = threshold::nearest(votes, f32::NEG_INFINITY)?;
                Some(Choice { nearest, rival: found.rival, feature: votes[nearest].similarity })
            }
        }
    }

    fn describe(&self, decision: &mut Decision, votes: &[Vote], choice: &Choice) {
        let vote = &votes[choice.nearest];
        let same = decision.family == Some(vote.family) && decision.feature == choice.feature;
        decision.chosen = Some(choice.nearest);
        decision.family = Some(vote.family);
        decision.similarity = vote.similarity;
        decision.rival = choice.rival;
        decision.feature = choice.feature;
        decision.alpha = match &self.memory.state {
            State::Verified(_) if same => decision.alpha,
            State::Verified(v) => v.alpha(vote.family, choice.feature),
            State::Threshold => {
                f64::from(u8::from(vote.similarity >= self.settings.min_similarity))
            }
            State::Vcache(v) => 1.0 - v.forward_share(vote.family, vote.similarity),
            State::Off => 0.0,
        };
    }

    /// Whether the policy would serve it, guards and chance aside.
    fn is_candidate(&self, decision: &Decision) -> bool {
        let similar = decision.similarity >= self.settings.min_similarity;
        similar
            && match &self.memory.state {
                State::Verified(v) => 1.0 - decision.alpha <= v.controller().level(),
                State::Threshold | State::Vcache(_) => true,
                State::Off => false,
            }
    }

    /// Sets the winner's nearest key aside while a guard objects to it, and chooses again.
    ///
    /// A family that has heard the same question without the difference may still win: one key that
    /// differs proves nothing about the others, but one that the question contradicts lends them no
    /// vote either. Another family may not step in: a guard makes a miss, never another answer.
    fn past_guards(
        &self,
        question: &Reading,
        neighbours: &[Neighbour<'_>],
        votes: &mut [Vote],
        decision: &mut Decision,
    ) -> Option<Choice> {
        for _ in 0..MOST_CHECKS {
            let choice =
                self.choose(votes).filter(|c| Some(votes[c.nearest].family) == decision.family)?;
            let found = differences(question, &neighbours[choice.nearest].text.reading())
                .and(self.settings.guards);
            if found.is_empty() {
                return Some(choice);
            }
            if decision.guards.is_empty() {
                decision.guards = found;
            }
            let contrary = !found.and(GuardSet::CONTRARY).is_empty();
            votes[choice.nearest].stand = if contrary { Stand::Silent } else { Stand::Votes };
        }
        None
    }

    fn rule(&self, decision: &Decision, was_candidate: bool, draw: f64) -> Ruling {
        if !self.is_candidate(decision) {
            // If it was one before, the guards silenced the keys that made it so.
            return if was_candidate { Ruling::Guarded } else { Ruling::Doubtful };
        }
        if self.trust() == Trust::ExactOnly {
            return Ruling::Suspended;
        }
        let audit = self.audit_share();
        if draw < audit {
            return Ruling::Audit;
        }
        let rest = (draw - audit) / (1.0 - audit);
        match &self.memory.state {
            State::Vcache(_) if rest < 1.0 - decision.alpha => Ruling::Explore,
            _ => Ruling::Serve,
        }
    }

    /// Share of would-be hits to check now: more while few have been, so that a namespace whose
    /// truth is not as it looks is found out within its first hundred hits and not its first five
    /// thousand.
    fn audit_share(&self) -> f64 {
        let audit = self.settings.audit;
        if audit == 0.0 || self.memory.would_be < UNCHECKED {
            0.0
        } else {
            audit
                .max((FIRST_AUDITS / (FIRST_AUDITS + self.memory.audited)).powi(2) * EARLIEST_SHARE)
        }
    }
}

/// Nearest answer of each family, nearest family first.
fn contenders(votes: &[Vote], neighbours: &[Neighbour<'_>]) -> Vec<Contender> {
    let mut order: Vec<usize> =
        (0..votes.len()).filter(|i| votes[*i].similarity.is_finite()).collect();
    order.sort_by(|a, b| votes[*b].similarity.total_cmp(&votes[*a].similarity));
    let mut seen: Vec<AnswerId> = vec![];
    let mut list = vec![];
    for at in order {
        if !seen.contains(&votes[at].family) {
            seen.push(votes[at].family);
            list.push(Contender {
                answer: neighbours[at].answer,
                similarity: votes[at].similarity,
            });
        }
    }
    list
}

#[cfg(test)]
mod tests;
