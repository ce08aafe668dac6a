//! What is believed about one answer: a distribution over "how similar must a question be to share
//! it".
//!
//! A belief is a set of weights over a small grid of curves `L(f) = (1 - l) / (1 + exp(-g (f -
//! t)))`: `t` where the curve is half way up, `g` how steep it is, `l` what stays wrong at any
//! similarity. An outcome multiplies each cell by its likelihood, so there is no optimiser that
//! could fail on separable data. The likelihoods are looked up: a feature is one of [`LEVELS`]
//! steps, and a row of the table holds the logarithms for all cells.

use std::{
    f32::consts::{LN_2, LOG2_E},
    sync::LazyLock,
};

use serde::{Deserialize, Serialize};

use super::burst::Halvings;

/// Steps of a feature, each [`STEP`] wide: `-0.3..1.748`.
const LEVELS: usize = 256;
const STEP: f32 = 0.008;
const LOWEST: f32 = -0.3;

const THRESHOLDS: usize = 32;
const SLOPES: usize = 5;
/// Shares of questions that go wrong however similar they are. Without them a namespace whose truth
/// is noisy looks, from below, as if enough similarity made it safe.
const LAPSES: [f32; 3] = [0.0, 0.006, 0.05];
/// What each of them is believed in at first.
const LAPSE_WEIGHTS: [f32; 3] = [0.95, 0.03, 0.02];
/// Cells of the grid.
pub const CELLS: usize = THRESHOLDS * SLOPES * LAPSES.len();

/// Outcomes kept per answer; older ones leave, so that an answer whose truth changed is not bound
/// by its past for ever.
const MEMORY: usize = 32;

/// A feature rounded to the grid, in one byte.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Level(u8);

impl Level {
    /// Rounds down, so that a borderline question is judged by the weaker side of its step.
    pub fn of(feature: f32) -> Self {
        if !feature.is_finite() {
            return Self(0);
        }
        Self(((feature - LOWEST) / STEP).floor().clamp(0.0, (LEVELS - 1) as f32) as u8)
    }
}

/// The outcomes that an answer has collected: 2 to 80 bytes, nothing at all for an answer never
/// judged.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Outcomes {
    /// Oldest first; each a [`Level`], with the halvings of its weight in the upper byte.
    levels: Vec<u16>,
    /// Bit `i` tells whether outcome `i` was right.
    right: u32,
}

impl Outcomes {
    /// Adds an outcome; the oldest leaves when [`MEMORY`] are held.
    pub fn push(&mut self, level: Level, right: bool, halvings: Halvings) {
        if self.levels.len() == MEMORY {
            self.levels.remove(0);
            self.right >>= 1;
        }
        self.right |= u32::from(right) << self.levels.len();
        self.levels.push(u16::from_le_bytes([level.0, halvings.0]));
    }

    /// Outcomes held.
    pub fn len(&self) -> usize {
        self.levels.len()
    }

    /// Whether the answer was never judged.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = (Level, bool, Halvings)> + '_ {
        self.levels.iter().enumerate().map(|(i, outcome)| {
            let [level, halvings] = outcome.to_le_bytes();
            (Level(level), self.right >> i & 1 == 1, Halvings(halvings))
        })
    }
}

/// Weights of the cells, summing to one.
#[derive(Clone, Debug, PartialEq)]
pub struct Belief {
    weights: Box<Cells>,
    /// Logarithms of the weights: every verdict on a judged answer needs them all, and they change
    /// only with learning.
    ln: Box<Cells>,
}

/// A number for each cell. Its length is known to the compiler, which then adds several at once.
type Cells = [f32; CELLS];

impl Belief {
    /// Every threshold and slope as likely as any other; a lapse is the exception until outcomes
    /// show it.
    pub fn flat() -> Self {
        let share = |lapse: usize| LAPSE_WEIGHTS[lapse] / (THRESHOLDS * SLOPES) as f32;
        Self::of(Box::new(std::array::from_fn(|cell| share(cell / (THRESHOLDS * SLOPES)))))
    }

    /// From stored weights; `None` when they are not a distribution over this grid.
    pub fn from_weights(weights: Vec<f32>) -> Option<Self> {
        let weights: Box<Cells> = weights.try_into().ok()?;
        let whole =
            weights.iter().all(|w| w.is_finite() && *w >= 0.0) && weights.iter().sum::<f32>() > 0.0;
        whole.then(|| Self::normalized(weights))
    }

    fn of(weights: Box<Cells>) -> Self {
        let ln = Box::new(weights.map(|w| w.max(1e-30).ln()));
        Self { weights, ln }
    }

    fn normalized(mut weights: Box<Cells>) -> Self {
        let sum: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= sum);
        Self::of(weights)
    }

    /// The weights, by lapse, slope and threshold.
    pub fn weights(&self) -> &[f32] {
        &self.weights[..]
    }

    /// Expected probability that the answer is right at a feature.
    pub fn alpha(&self, level: Level) -> f32 {
        let row = CURVES.right(level);
        self.weights.iter().zip(row).map(|(w, l)| w * l).sum()
    }

    /// The same for an answer with outcomes of its own: what [`Self::given`] and [`Self::alpha`]
    /// say, without building the former.
    pub fn alpha_given(&self, outcomes: &Outcomes, level: Level) -> f32 {
        let weights = self.likelihoods(outcomes);
        let (mut right, mut all) = (0.0, 0.0);
        for (w, l) in weights.iter().zip(CURVES.right(level)) {
            right += w * l;
            all += w;
        }
        right / all
    }

    /// This belief after an answer's outcomes.
    pub fn given(&self, outcomes: &Outcomes) -> Self {
        Self::normalized(self.likelihoods(outcomes))
    }

    /// Weights times likelihood of the outcomes, each to the power of what it counts, up to a common
    /// factor.
    fn likelihoods(&self, outcomes: &Outcomes) -> Box<Cells> {
        /// `e^-17` is below what a sum of single-precision numbers near one can hold.
        const NEGLIGIBLE: f32 = -17.0;
        let mut log = self.ln.clone();
        for (level, right, halvings) in outcomes.iter() {
            let row = if right { CURVES.ln_right(level) } else { CURVES.ln_wrong(level) };
            // Most count in full; for those a multiplication a cell is saved.
            if halvings == Halvings::default() {
                log.iter_mut().zip(row).for_each(|(cell, likelihood)| *cell += likelihood);
            } else {
                let weight = halvings.weight();
                log.iter_mut().zip(row).for_each(|(cell, likelihood)| *cell += weight * likelihood);
            }
        }
        // Subtracting the largest first keeps 32 unlikely outcomes from underflowing every cell at
        // once.
        let top = log.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for cell in log.iter_mut() {
            let below = *cell - top;
            let weight = exp(below.max(NEGLIGIBLE));
            *cell = if below > NEGLIGIBLE { weight } else { 0.0 };
        }
        log
    }

    /// Moves a share of this belief towards another.
    pub fn lean(&mut self, towards: &Self, share: f32) {
        for (mine, other) in self.weights.iter_mut().zip(towards.weights.iter()) {
            *mine += share * (other - *mine);
        }
        *self.ln = self.weights.map(|w| w.max(1e-30).ln());
    }
}

/// `e^x` for `-17 <= x <= 0` to six digits, in steps that the compiler does for several cells at once:
/// the library's is most of the cost of a verdict. `2^n` is made from bits, the rest is the power
/// series of `2^r` for `|r| <= 1/2`, whose first term left out is below `3e-6`.
fn exp(x: f32) -> f32 {
    /// Adding it leaves a small number's nearest integer in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const SERIES: [f32; 5] = [0.001_333_356, 0.009_618_13, 0.055_504_11, 0.240_226_5, LN_2];
    let power = x * LOG2_E;
    let rounded = power + ROUND;
    let rest = power - (rounded - ROUND);
    let series = SERIES.iter().fold(0.0, |sum, factor| (sum + factor) * rest) + 1.0;
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    series * f32::from_bits(exponent << 23)
}

/// The grid's curves at every level, and their logarithms: three tables of 480 KiB built once, a row
/// a level.
struct Curves {
    right: Vec<Cells>,
    ln_right: Vec<Cells>,
    ln_wrong: Vec<Cells>,
}

static CURVES: LazyLock<Curves> = LazyLock::new(Curves::build);

/// Builds the tables now: some 4 ms that the first question would wait for otherwise.
pub fn warm() {
    LazyLock::force(&CURVES);
}

impl Curves {
    fn build() -> Self {
        let table = |of: fn(&Cell, f32) -> f32| {
            let cells: Vec<Cell> = cells().collect();
            (0..LEVELS)
                .map(|level| {
                    let feature = LOWEST + STEP * level as f32;
                    std::array::from_fn(|cell| of(&cells[cell], feature))
                })
                .collect()
        };
        Self {
            right: table(Cell::right),
            ln_right: table(Cell::ln_right),
            ln_wrong: table(Cell::ln_wrong),
        }
    }

    fn right(&self, level: Level) -> &Cells {
        &self.right[usize::from(level.0)]
    }

    fn ln_right(&self, level: Level) -> &Cells {
        &self.ln_right[usize::from(level.0)]
    }

    fn ln_wrong(&self, level: Level) -> &Cells {
        &self.ln_wrong[usize::from(level.0)]
    }
}

/// One curve.
struct Cell {
    threshold: f32,
    slope: f32,
    lapse: f32,
}

impl Cell {
    /// Probability that an answer is right at a feature.
    fn right(&self, feature: f32) -> f32 {
        (1.0 - self.lapse) / (1.0 + (-self.above(feature)).exp())
    }

    fn ln_right(&self, feature: f32) -> f32 {
        (1.0 - self.lapse).ln() - ln_1p_exp(-self.above(feature))
    }

    fn ln_wrong(&self, feature: f32) -> f32 {
        let x = self.above(feature);
        // Near one the difference loses its digits; the sum of its two parts does not.
        (1.0 / (1.0 + x.exp()) + self.lapse / (1.0 + (-x).exp())).max(1e-30).ln()
    }

    fn above(&self, feature: f32) -> f32 {
        self.slope * (feature - self.threshold)
    }
}

/// Thresholds 0.2..2.06 apart by 0.06, so that "never" is on the grid; slopes 4..60 in even ratios;
/// each with every lapse.
fn cells() -> impl Iterator<Item = Cell> {
    LAPSES.into_iter().flat_map(|lapse| {
        (0..SLOPES).flat_map(move |slope| {
            let slope = 4.0 * (60.0_f32 / 4.0).powf(slope as f32 / (SLOPES - 1) as f32);
            (0..THRESHOLDS).map(move |t| Cell { threshold: 0.2 + 0.06 * t as f32, slope, lapse })
        })
    })
}

/// `ln(1 + e^x)` without overflow.
fn ln_1p_exp(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_quick_exponential_is_the_library_s_to_five_digits() {
        for step in 0..=17_000 {
            let x = step as f32 / -1000.0;
            let (quick, exact) = (exp(x), x.exp());
            assert!((quick / exact - 1.0).abs() < 1e-5, "{x}: {quick} {exact}");
        }
        assert!((exp(0.0) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn outcomes_move_the_belief_their_way() {
        let flat = Belief::flat();
        let (mut good, mut bad) = (Outcomes::default(), Outcomes::default());
        for _ in 0..10 {
            good.push(Level::of(0.8), true, Halvings(0));
            bad.push(Level::of(0.8), false, Halvings(0));
        }
        let at = Level::of(0.9);
        assert!(flat.given(&good).alpha(at) > 0.95);
        assert!(flat.given(&bad).alpha(at) < 0.3);
    }

    #[test]
    fn an_outcome_of_half_the_weight_moves_it_half_as_far() {
        let belief = |halvings: &[u8]| {
            let mut outcomes = Outcomes::default();
            halvings.iter().for_each(|n| outcomes.push(Level::of(0.8), false, Halvings(*n)));
            Belief::flat().given(&outcomes).alpha(Level::of(0.9))
        };
        assert!((belief(&[1, 1]) - belief(&[0])).abs() < 1e-5);
        assert!(belief(&[6]) > belief(&[0]));
    }

    #[test]
    fn outcomes_of_an_older_version_count_in_full() {
        let old: Outcomes = serde_json::from_str(r#"{"levels":[137,200],"right":1}"#).unwrap();
        let full = Halvings(0);
        assert_eq!(
            old.iter().collect::<Vec<_>>(),
            [(Level(137), true, full), (Level(200), false, full)]
        );
    }

    #[test]
    fn only_the_last_outcomes_count() {
        let mut outcomes = Outcomes::default();
        for _ in 0..40 {
            outcomes.push(Level::of(0.9), false, Halvings(0));
        }
        for _ in 0..MEMORY {
            outcomes.push(Level::of(0.9), true, Halvings(0));
        }
        assert_eq!(outcomes.len(), MEMORY);
        assert!(outcomes.iter().all(|(_, right, _)| right));
    }

    #[test]
    fn a_full_record_is_small() {
        let mut outcomes = Outcomes::default();
        for i in 0..100 {
            outcomes.push(Level::of(1.5), i % 2 == 0, Halvings(6));
        }
        assert!(serde_json::to_string(&outcomes).unwrap().len() <= 300);
    }

    #[test]
    fn weights_from_elsewhere_are_checked() {
        assert!(Belief::from_weights(vec![1.0; CELLS - 1]).is_none());
        assert!(Belief::from_weights(vec![0.0; CELLS]).is_none());
        assert!(Belief::from_weights(vec![f32::NAN; CELLS]).is_none());
        assert!(Belief::from_weights(vec![2.0; CELLS]).is_some());
    }

    proptest! {
        #[test]
        fn alpha_is_a_rising_probability(outcomes in proptest::collection::vec((0.0f32..1.7, any::<bool>(), 0u8..7), 0..60)) {
            let mut held = Outcomes::default();
            for (f, right, halvings) in outcomes {
                held.push(Level::of(f), right, Halvings(halvings));
            }
            let belief = Belief::flat().given(&held);
            prop_assert!((belief.weights().iter().sum::<f32>() - 1.0).abs() < 1e-3);
            let mut before = 0.0;
            for step in 0..=255u8 {
                let alpha = belief.alpha(Level(step));
                prop_assert!((-1e-6..=1.0 + 1e-4).contains(&alpha) && alpha >= before - 1e-4);
                before = alpha;
            }
        }
    }
}
