//! One file, one policy, some orders.

use std::sync::Arc;

use super::dataset::{Dataset, EvalError, Truth};
use super::knn::{Graph, Vectors};
use super::pairs;
use super::random::Random;
use super::report::Row;
use super::truth::Judging;
use crate::cache::guards::{Reading, alone};
use crate::cache::verdict::controller::Trust;
use crate::cache::verdict::posterior::Belief;
use crate::cache::verdict::{
    Agreement, AnswerId, Decision, Namespace, Neighbour, Placement, Policy, Ruling, Settings,
    Wording,
};

/// Keys that a lookup fetches: enough for the soft margin, and what the live search asks for.
pub(super) const NEIGHBOURS: usize = 16;

/// What to replay a file with.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name for the report.
    pub file: String,
    /// Settings, one replay each.
    pub settings: Vec<Settings>,
    /// Orders of the file, each from an empty cache.
    pub orders: usize,
    /// Every order is the file's own, and only what is audited differs; otherwise they are random.
    pub recorded: bool,
    /// First prior of the model that embedded the texts.
    pub prior: Belief,
}

/// What takes its time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Texts become vectors: once a file, whatever the number of orders and settings.
    Embed,
    /// Every text is compared with every other: once a file too.
    Compare,
    /// One order under one setting.
    Replay,
}

impl Phase {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::Compare => "compare",
            Self::Replay => "replay",
        }
    }
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// What is being done.
    pub stage: Phase,
    /// Units done.
    pub done: usize,
    /// Units in all.
    pub total: usize,
}

/// Counts of one replay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// Questions asked.
    pub requests: u64,
    /// Questions answered from the cache.
    pub hits: u64,
    /// Hits whose answer was of another class.
    pub wrong: u64,
    /// Hits of which the judge cannot tell whether they were right: part of no rate.
    pub unjudged: u64,
    /// Would-be hits forwarded to be checked, and those found wrong.
    pub audits: u64,
    /// See `audits`.
    pub audits_wrong: u64,
    /// Questions that a guard kept from being answered.
    pub guarded: u64,
    /// Questions that are only repeated exactly whatever is near: too short, or moving with the
    /// clock.
    pub alone: u64,
    /// Questions asked while the namespace served exact matches only.
    pub exact_only: u64,
    /// Orders in which it came to that.
    pub fallen_orders: u64,
    /// Highest share of wrong hits in any one order.
    pub worst_order: f64,
}

impl Run {
    /// Adds one order's counts.
    pub fn add(&mut self, order: &Self) {
        self.requests += order.requests;
        self.hits += order.hits;
        self.wrong += order.wrong;
        self.unjudged += order.unjudged;
        self.audits += order.audits;
        self.audits_wrong += order.audits_wrong;
        self.guarded += order.guarded;
        self.alone += order.alone;
        self.exact_only += order.exact_only;
        self.fallen_orders += u64::from(order.exact_only > 0);
        let share = order.wrong as f64 / (order.hits - order.unjudged).max(1) as f64;
        self.worst_order = self.worst_order.max(share);
    }

    /// A question that is never matched by meaning.
    pub(super) fn pass_by(&mut self) {
        self.requests += 1;
        self.alone += 1;
    }

    /// What was decided about a question, and whether its answer would have been right.
    pub(super) fn count(&mut self, ruling: Ruling, right: Option<bool>, trust: Trust) {
        self.requests += 1;
        self.exact_only += u64::from(trust == Trust::ExactOnly);
        let wrong = u64::from(right == Some(false));
        match ruling {
            Ruling::Serve => {
                self.hits += 1;
                self.wrong += wrong;
                self.unjudged += u64::from(right.is_none());
            }
            Ruling::Audit | Ruling::Explore => {
                self.audits += 1;
                self.audits_wrong += wrong;
            }
            Ruling::Guarded => self.guarded += 1,
            Ruling::Suspended
            | Ruling::Unconfirmed
            | Ruling::Doubtful
            | Ruling::NoNeighbour
            | Ruling::Off => {}
        }
    }
}

/// Replays a file under every setting of a plan. `embed` turns a batch of texts into unit vectors,
/// all of one width, in one block.
pub fn evaluate(
    dataset: &Dataset,
    plan: &Plan,
    mut embed: impl FnMut(&[String]) -> Result<Vectors, EvalError>,
    mut progress: impl FnMut(Progress),
) -> Result<Vec<Row>, EvalError> {
    let vectors = embed_all(&dataset.texts, &mut embed, &mut progress)?;
    let readings: Vec<_> = dataset.texts.iter().map(|t| Arc::new(Reading::of(t))).collect();
    if let Truth::Pairs(list) = &dataset.truth {
        return Ok(pairs::evaluate(list, &vectors, &readings, plan, &mut progress));
    }
    let answers = match &dataset.truth {
        Truth::Answers(answers) => embed_all(answers, &mut embed, &mut progress)?,
        Truth::Classes(_) | Truth::Pairs(_) => Vectors::default(),
    };
    let total = vectors.len();
    let graph =
        Graph::build(&vectors, |done| progress(Progress { stage: Phase::Compare, done, total }));
    let stream = Stream {
        texts: &dataset.texts,
        readings: &readings,
        vectors: &vectors,
        graph: &graph,
        judging: Judging::of(&dataset.truth, &answers),
        recorded: plan.recorded,
    };
    let total = plan.settings.len() * plan.orders;
    let mut rows = vec![];
    for (n, settings) in plan.settings.iter().enumerate() {
        let mut sum = Run::default();
        for order in 0..plan.orders {
            let mut space = Namespace::new(settings.clone(), plan.prior.clone());
            sum.add(&stream.replay(&mut space, order as u64));
            let done = n * plan.orders + order + 1;
            progress(Progress { stage: Phase::Replay, done, total });
        }
        rows.push(Row::new(&plan.file, settings, plan.orders, &sum));
    }
    Ok(rows)
}

/// Vectors of all texts, in batches.
pub(super) fn embed_all(
    texts: &[String],
    embed: &mut impl FnMut(&[String]) -> Result<Vectors, EvalError>,
    progress: &mut impl FnMut(Progress),
) -> Result<Vectors, EvalError> {
    const BATCH: usize = 64;
    let (mut flat, mut width) = (vec![], 0);
    for (n, batch) in texts.chunks(BATCH).enumerate() {
        let block = embed(batch)?;
        if block.len() != batch.len() {
            return Err(EvalError::Embed(format!(
                "{} vectors for {} texts",
                block.len(),
                batch.len()
            )));
        }
        width = block.row(0).len();
        (0..block.len()).for_each(|at| flat.extend_from_slice(block.row(at)));
        progress(Progress {
            stage: Phase::Embed,
            done: (n * BATCH + batch.len()).min(texts.len()),
            total: texts.len(),
        });
    }
    Vectors::new(flat, width)
        .ok_or_else(|| EvalError::Embed("vectors of different widths".to_owned()))
}

/// A stream with everything that does not depend on order or policy.
pub(super) struct Stream<'a> {
    pub(super) texts: &'a [String],
    pub(super) readings: &'a [Arc<Reading>],
    pub(super) vectors: &'a Vectors,
    pub(super) graph: &'a Graph,
    pub(super) judging: Judging<'a>,
    /// Rows come as the file has them.
    pub(super) recorded: bool,
}

/// What a cache holds during a replay: an answer is named after the row that it was generated for.
struct Store {
    /// Answer that each stored row is a key of.
    owner: Vec<Option<usize>>,
    rows: Vec<usize>,
}

impl Stream<'_> {
    /// One order from an empty cache. The truth reaches the namespace only through questions that
    /// were forwarded.
    pub(super) fn replay(&self, space: &mut Namespace, order: u64) -> Run {
        let mut random = Random::seeded(order.wrapping_mul(7919).wrapping_add(1));
        let mut store = Store { owner: vec![None; self.texts.len()], rows: vec![] };
        let mut run = Run::default();
        let rows = if self.recorded {
            (0..self.texts.len()).collect()
        } else {
            random.order(self.texts.len())
        };
        for row in rows {
            // The live path neither looks such a question up by meaning nor stores its vector.
            if alone(&self.readings[row]).is_some() {
                run.pass_by();
                continue;
            }
            let near = self.graph.nearest(
                self.vectors,
                row,
                &store.rows,
                |r| store.owner[r].is_some(),
                NEIGHBOURS,
            );
            let neighbours: Vec<Neighbour<'_>> = near
                .iter()
                .filter_map(|(r, similarity)| {
                    let answer = AnswerId(store.owner[*r]? as u128);
                    Some(Neighbour {
                        answer,
                        similarity: *similarity,
                        text: Wording::Read(&self.readings[*r]),
                    })
                })
                .collect();
            let decision = space.decide(&self.readings[row], &neighbours, random.unit());
            let said = decision.chosen.map(|at| self.compare(neighbours[at].answer, row));
            let right = said.flatten().map(|said| said == Agreement::Same);
            run.count(decision.ruling, right, space.trust());
            if decision.ruling != Ruling::Serve {
                self.forwarded(space, &mut store, &decision, row);
            }
        }
        run
    }

    fn compare(&self, answer: AnswerId, row: usize) -> Option<Agreement> {
        self.judging.compare(answer.0 as usize, row)
    }

    fn forwarded(&self, space: &mut Namespace, store: &mut Store, decision: &Decision, row: usize) {
        let contenders = decision.contenders.iter();
        let judged: Vec<(AnswerId, Agreement)> = contenders
            .filter_map(|c| self.compare(c.answer, row).map(|said| (c.answer, said)))
            .collect();
        let owner = match space.learn(decision, &judged) {
            Placement::Alias(answer) => answer.0 as usize,
            Placement::Kin(elder) => {
                space.join(elder, AnswerId(row as u128));
                row
            }
            Placement::Own => row,
            Placement::Redundant(_) => return,
        };
        store.owner[row] = Some(owner);
        store.rows.push(row);
    }
}

/// A number that names a setting in reports: the bound, or the similarity.
pub(super) fn level(settings: &Settings) -> f64 {
    match settings.policy {
        Policy::Verified | Policy::Vcache => settings.max_wrong_hits,
        Policy::Threshold => (f64::from(settings.min_similarity) * 1e6).round() / 1e6,
        Policy::Off => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::guards::GuardSet;

    /// The third of three questions alike is of another class: a shuffle that asks it first makes two
    /// wrong hits of one.
    fn wrong_hits(recorded: bool) -> u64 {
        let rows = ["a", "a", "b"].iter().enumerate().map(|(at, class)| {
            format!("{{\"prompt\":\"paint the kitchen walls {at}\",\"class\":\"{class}\"}}\n")
        });
        let dataset = Dataset::read(&rows.collect::<String>()).unwrap();
        let settings = Settings {
            policy: Policy::Threshold,
            min_similarity: 0.9,
            audit: 0.0,
            guards: GuardSet::NONE,
            ..Settings::default()
        };
        let plan = Plan {
            file: "alike.jsonl".into(),
            settings: vec![settings],
            orders: 20,
            recorded,
            prior: Belief::flat(),
        };
        let embed = |texts: &[String]| Ok(Vectors::new([1.0, 0.0].repeat(texts.len()), 2).unwrap());
        let rows = evaluate(&dataset, &plan, embed, |_| {}).unwrap();
        assert_eq!(rows[0].counts.hits, 40);
        rows[0].counts.wrong
    }

    #[test]
    fn a_recorded_order_is_the_file_s_own() {
        assert_eq!(wrong_hits(true), 20);
        assert!(wrong_hits(false) > 20);
    }
}
