//! One file, one policy, some orders.

use super::dataset::{Dataset, EvalError, Truth};
use super::knn::{Graph, Vectors};
use super::pairs;
use super::random::Random;
use super::report::Row;
use crate::cache::guards::Reading;
use crate::cache::verdict::posterior::Belief;
use crate::cache::verdict::{
    Agreement, AnswerId, Decision, Namespace, Neighbour, Placement, Policy, Ruling, Settings,
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
    /// Random orders of the file, each from an empty cache.
    pub orders: usize,
    /// First prior of the model that embedded the texts.
    pub prior: Belief,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// What is being done: `embed`, `compare` or `replay`.
    pub stage: &'static str,
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
    /// Would-be hits forwarded to be checked, and those found wrong.
    pub audits: u64,
    /// See `audits`.
    pub audits_wrong: u64,
    /// Questions that a guard kept from being answered.
    pub guarded: u64,
    /// Questions asked while the namespace served exact matches only.
    pub suspended: u64,
}

impl Run {
    /// Adds another run's counts.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.hits += other.hits;
        self.wrong += other.wrong;
        self.audits += other.audits;
        self.audits_wrong += other.audits_wrong;
        self.guarded += other.guarded;
        self.suspended += other.suspended;
    }

    pub(super) fn count(&mut self, ruling: Ruling, right: bool) {
        self.requests += 1;
        match ruling {
            Ruling::Serve => {
                self.hits += 1;
                self.wrong += u64::from(!right);
            }
            Ruling::Audit | Ruling::Explore => {
                self.audits += 1;
                self.audits_wrong += u64::from(!right);
            }
            Ruling::Suspended => self.suspended += 1,
            Ruling::Guarded => self.guarded += 1,
            Ruling::Unconfirmed | Ruling::Doubtful | Ruling::NoNeighbour | Ruling::Off => {}
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
    let readings: Vec<Reading> = dataset.texts.iter().map(|t| Reading::of(t)).collect();
    if let Truth::Pairs(list) = &dataset.truth {
        return Ok(pairs::evaluate(list, dataset, &vectors, &readings, plan, &mut progress));
    }
    let total = vectors.len();
    let graph = Graph::build(&vectors, |done| progress(Progress { stage: "compare", done, total }));
    let stream = Stream {
        texts: &dataset.texts,
        readings: &readings,
        vectors: &vectors,
        graph: &graph,
        classes: &dataset.classes(),
    };
    let total = plan.settings.len() * plan.orders;
    let mut rows = vec![];
    for (n, settings) in plan.settings.iter().enumerate() {
        let mut sum = Run::default();
        for order in 0..plan.orders {
            let mut space = Namespace::new(settings.clone(), plan.prior.clone());
            sum.add(&stream.replay(&mut space, order as u64));
            progress(Progress { stage: "replay", done: n * plan.orders + order + 1, total });
        }
        rows.push(Row::new(&plan.file, settings, plan.orders, &sum));
    }
    Ok(rows)
}

fn embed_all(
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
            stage: "embed",
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
    pub(super) readings: &'a [Reading],
    pub(super) vectors: &'a Vectors,
    pub(super) graph: &'a Graph,
    pub(super) classes: &'a [usize],
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
        for row in random.order(self.texts.len()) {
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
                    Some(Neighbour { answer, similarity: *similarity, text: &self.texts[*r] })
                })
                .collect();
            let decision = space.decide(&self.readings[row], &neighbours, random.unit());
            let right = decision.chosen.is_some_and(|at| self.agrees(neighbours[at].answer, row));
            run.count(decision.ruling, right);
            if decision.ruling != Ruling::Serve {
                self.forwarded(space, &mut store, &decision, row);
            }
        }
        run
    }

    fn agrees(&self, answer: AnswerId, row: usize) -> bool {
        self.classes[answer.0 as usize] == self.classes[row]
    }

    fn forwarded(&self, space: &mut Namespace, store: &mut Store, decision: &Decision, row: usize) {
        let judged: Vec<(AnswerId, Agreement)> = decision
            .contenders
            .iter()
            .map(|c| {
                (
                    c.answer,
                    if self.agrees(c.answer, row) { Agreement::Same } else { Agreement::Different },
                )
            })
            .collect();
        let owner = match space.learn(decision, &judged) {
            Placement::Alias(answer) => answer.0 as usize,
            Placement::Kin(elder) => {
                space.join(elder, AnswerId(row as u128));
                row
            }
            Placement::Own => row,
            Placement::Redundant => return,
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
