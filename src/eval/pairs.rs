//! Labelled pairs.
//!
//! A file with both labels is asked pair by pair: one question stored, the other asked, nothing
//! else near. A file in which every pair may share an answer could not show an error that way;
//! there all first questions are stored at once and each second one is asked among them, which is
//! how GPTCache measures itself.

use std::{collections::HashSet, sync::Arc};

use super::dataset::Pair;
use super::knn::Vectors;
use super::random::Random;
use super::replay::{NEIGHBOURS, Phase, Plan, Progress, Run};
use super::report::{KindRow, Row};
use crate::cache::guards::{Reading, alone};
use crate::cache::verdict::{Agreement, AnswerId, Namespace, Neighbour, Ruling, Settings, Wording};

pub(super) fn evaluate(
    pairs: &[Pair],
    vectors: &Vectors,
    readings: &[Arc<Reading>],
    plan: &Plan,
    progress: &mut impl FnMut(Progress),
) -> Vec<Row> {
    let board = Board { pairs, vectors, readings };
    let pooled = pairs.iter().all(|p| p.same).then(|| board.pool());
    let mut rows = vec![];
    for (n, settings) in plan.settings.iter().enumerate() {
        let mut sum = Run::default();
        let mut kinds = Kinds::default();
        for order in 0..plan.orders {
            let mut space = Namespace::new(settings.clone(), plan.prior.clone());
            sum.add(&board.replay(&mut space, order as u64, pooled.as_ref(), &mut kinds));
            progress(Progress {
                stage: Phase::Replay,
                done: n * plan.orders + order + 1,
                total: plan.settings.len() * plan.orders,
            });
        }
        let row = Row::new(&plan.file, settings, plan.orders, &sum);
        rows.push(row.with_kinds(kinds.rows(settings, plan.orders)));
    }
    rows
}

/// One pass over pairs on their own, for a fit.
pub(super) fn replay(
    pairs: &[Pair],
    vectors: &Vectors,
    readings: &[Arc<Reading>],
    space: &mut Namespace,
    order: u64,
) -> Run {
    Board { pairs, vectors, readings }.replay(space, order, None, &mut Kinds::default())
}

struct Board<'a> {
    pairs: &'a [Pair],
    vectors: &'a Vectors,
    readings: &'a [Arc<Reading>],
}

/// All first questions at once.
struct Pool {
    stored: Vec<usize>,
    share: HashSet<(usize, usize)>,
}

impl Board<'_> {
    fn pool(&self) -> Pool {
        let mut seen = HashSet::new();
        Pool {
            stored: self.pairs.iter().map(|p| p.stored).filter(|r| seen.insert(*r)).collect(),
            share: self.pairs.iter().map(|p| (p.stored, p.asked)).collect(),
        }
    }

    fn near(&self, pair: &Pair, pool: Option<&Pool>) -> Vec<(usize, f32)> {
        let Some(pool) = pool else {
            return vec![(pair.stored, self.vectors.similarity(pair.stored, pair.asked))];
        };
        let mut near: Vec<(usize, f32)> =
            pool.stored.iter().map(|r| (*r, self.vectors.similarity(*r, pair.asked))).collect();
        near.sort_unstable_by(|a, b| b.1.total_cmp(&a.1));
        near.truncate(NEIGHBOURS);
        near
    }

    fn replay(
        &self,
        space: &mut Namespace,
        order: u64,
        pool: Option<&Pool>,
        kinds: &mut Kinds,
    ) -> Run {
        let mut random = Random::seeded(order.wrapping_mul(7919).wrapping_add(1));
        let mut run = Run::default();
        for at in random.order(self.pairs.len()) {
            let pair = &self.pairs[at];
            let lone = |row: usize| alone(&self.readings[row]).is_some();
            if lone(pair.asked) || lone(pair.stored) {
                run.pass_by();
                kinds.pass_by(pair);
                continue;
            }
            let near = self.near(pair, pool);
            let neighbours: Vec<Neighbour<'_>> = near
                .iter()
                .map(|(r, similarity)| Neighbour {
                    answer: AnswerId(*r as u128),
                    similarity: *similarity,
                    text: Wording::Read(&self.readings[*r]),
                })
                .collect();
            let decision = space.decide(&self.readings[pair.asked], &neighbours, random.unit());
            let agrees = |row: usize| match pool {
                Some(pool) => row == pair.asked || pool.share.contains(&(row, pair.asked)),
                None => pair.same,
            };
            let right = decision.chosen.map(|n| agrees(near[n].0));
            run.count(decision.ruling, right, space.trust());
            kinds.count(pair, decision.ruling);
            if decision.ruling != Ruling::Serve {
                let judge = |answer: AnswerId| {
                    if agrees(answer.0 as usize) { Agreement::Same } else { Agreement::Different }
                };
                let judged: Vec<_> =
                    decision.contenders.iter().map(|c| (c.answer, judge(c.answer))).collect();
                space.learn(&decision, &judged);
            }
        }
        run
    }
}

/// Counts by kind of pair, in the order in which kinds appear.
#[derive(Default)]
struct Kinds {
    order: Vec<(String, bool)>,
    counts: Vec<Counts>,
}

#[derive(Default)]
struct Counts {
    asked: u64,
    served: u64,
    guarded: u64,
    alone: u64,
}

impl Kinds {
    fn count(&mut self, pair: &Pair, ruling: Ruling) {
        if let Some(counts) = self.of(pair) {
            counts.asked += 1;
            counts.served += u64::from(ruling.would_serve());
            counts.guarded += u64::from(ruling == Ruling::Guarded);
        }
    }

    /// One of the two is only repeated exactly.
    fn pass_by(&mut self, pair: &Pair) {
        if let Some(counts) = self.of(pair) {
            counts.asked += 1;
            counts.alone += 1;
        }
    }

    fn of(&mut self, pair: &Pair) -> Option<&mut Counts> {
        if pair.kind.is_empty() {
            return None;
        }
        let known =
            self.order.iter().position(|(kind, same)| *kind == pair.kind && *same == pair.same);
        let at = known.unwrap_or_else(|| {
            self.order.push((pair.kind.clone(), pair.same));
            self.counts.push(Counts::default());
            self.order.len() - 1
        });
        self.counts.get_mut(at)
    }

    fn rows(self, settings: &Settings, orders: usize) -> Vec<KindRow> {
        let guards_on = !settings.guards.is_empty();
        let kinds = self.order.into_iter().zip(self.counts);
        let mut rows: Vec<KindRow> = kinds
            .map(|((kind, same), counts)| {
                let Counts { asked, served, guarded, alone } = counts;
                let similar = (served + guarded).max(1) as f64;
                KindRow {
                    kind,
                    same,
                    pairs: asked / orders.max(1) as u64,
                    served: served as f64 / asked.max(1) as f64,
                    lost_to_guards: if guards_on { guarded as f64 / similar } else { 0.0 },
                    alone: alone as f64 / asked.max(1) as f64,
                }
            })
            .collect();
        rows.sort_by(|a, b| (a.same, &a.kind).cmp(&(b.same, &b.kind)));
        rows
    }
}
