//! Neighbour lists of a whole file, computed once and walked in every order and under every policy.

use std::{
    num::NonZero,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::sync_channel,
    },
    thread,
};

/// Unit vectors, one a row, in one block.
#[derive(Clone, Debug, Default)]
pub struct Vectors {
    flat: Vec<f32>,
    width: usize,
}

impl Vectors {
    /// From a flat block of rows, `width` numbers each. `None` unless it divides evenly.
    pub fn new(flat: Vec<f32>, width: usize) -> Option<Self> {
        (width > 0 && flat.len().is_multiple_of(width)).then_some(Self { flat, width })
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.flat.len().checked_div(self.width).unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.flat.is_empty()
    }

    /// One row.
    pub fn row(&self, at: usize) -> &[f32] {
        &self.flat[at * self.width..(at + 1) * self.width]
    }

    /// One row, unless the embedder gave that text no vector.
    pub(super) fn whole(&self, at: usize) -> Option<&[f32]> {
        let row = self.row(at);
        row.iter().any(|x| *x != 0.0).then_some(row)
    }

    /// Cosine similarity of two rows.
    pub fn similarity(&self, a: usize, b: usize) -> f32 {
        dot(self.row(a), self.row(b))
    }
}

/// Dot product in sixteen lanes, so that the compiler can use vector registers: it may not reorder
/// a plain sum.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0_f32; LANES];
    let (left, right) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = left.remainder().iter().zip(right.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in left.zip(right) {
        for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += x * y;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// Rows listed per row. In a replay most are not stored yet; when a list runs out, the stored rows
/// are searched one by one.
const REACH: usize = 256;

/// The nearest rows of every row, nearest first.
#[derive(Debug, Default)]
pub struct Graph {
    near: Vec<Vec<(u32, f32)>>,
}

impl Graph {
    /// Compares every row with every other, on all cores: `n^2` products, 20 s of one core for 22,000
    /// rows of 384. `done` hears how many rows are finished.
    pub fn build(vectors: &Vectors, mut done: impl FnMut(usize)) -> Self {
        /// Lists that wait to be put in their place, a core.
        const WAITING: usize = 64;
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let (next, count) = (AtomicUsize::new(0), vectors.len());
        let mut near = vec![Vec::new(); count];
        let (sender, finished) = sync_channel(WAITING * cores);
        thread::scope(|scope| {
            for _ in 0..cores {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    loop {
                        let row = next.fetch_add(1, Ordering::Relaxed);
                        // Sending fails only where the receiver is gone: nobody wants the list.
                        if row >= count || sender.send((row, list(vectors, row))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for (finished, (row, list)) in finished.iter().enumerate() {
                near[row] = list;
                done(finished + 1);
            }
        });
        Self { near }
    }

    /// The `count` stored rows nearest to a row, nearest first.
    pub(super) fn nearest(
        &self,
        vectors: &Vectors,
        row: usize,
        stored: &[usize],
        is_stored: impl Fn(usize) -> bool,
        count: usize,
    ) -> Vec<(usize, f32)> {
        let listed = self.near[row].iter().map(|(other, s)| (*other as usize, *s));
        let mut found: Vec<(usize, f32)> =
            listed.filter(|(other, _)| is_stored(*other)).take(count).collect();
        if found.len() < count && found.len() < stored.len() {
            found = stored.iter().map(|other| (*other, vectors.similarity(row, *other))).collect();
            keep_nearest(&mut found, count);
        }
        found
    }
}

/// The nearest others of one row, nearest first.
fn list(vectors: &Vectors, row: usize) -> Vec<(u32, f32)> {
    let others = (0..vectors.len()).filter(|other| *other != row);
    let mut all: Vec<(u32, f32)> =
        others.map(|other| (other as u32, vectors.similarity(row, other))).collect();
    keep_nearest(&mut all, REACH);
    // What was compared is 60 times what is kept.
    all.shrink_to_fit();
    all
}

/// Sorts the `count` most similar and drops the rest.
fn keep_nearest<Row>(found: &mut Vec<(Row, f32)>, count: usize) {
    if found.len() > count && count > 0 {
        found.select_nth_unstable_by(count - 1, |a, b| b.1.total_cmp(&a.1));
    }
    found.truncate(count);
    found.sort_unstable_by(|a, b| b.1.total_cmp(&a.1));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::random::Random;

    #[test]
    fn lists_agree_with_a_plain_search() {
        let mut random = Random::seeded(1);
        let flat: Vec<f32> = (0..400 * 20).map(|_| random.unit() as f32 - 0.5).collect();
        let vectors = Vectors::new(flat, 20).unwrap();
        let graph = Graph::build(&vectors, |_| {});
        for stored in [&(0..400).step_by(3).collect::<Vec<_>>()[..], &[5, 9]] {
            let found = graph.nearest(&vectors, 7, stored, |r| stored.contains(&r), 16);
            let mut plain: Vec<(usize, f32)> =
                stored.iter().map(|r| (*r, vectors.similarity(7, *r))).collect();
            plain.sort_by(|a, b| b.1.total_cmp(&a.1));
            plain.truncate(16);
            assert_eq!(found, plain);
        }
    }

    #[test]
    fn ragged_blocks_are_refused() {
        assert!(Vectors::new(vec![1.0; 7], 3).is_none());
        assert!(Vectors::new(vec![], 0).is_none());
    }
}
