//! Policy `vcache`: the rule of arXiv 2502.03771, with its own promise: wrong answers per REQUEST
//! stay below a bound.
//!
//! Each answer learns P(right | s) = 1/(1 + exp(-g (s - t))) from verified outcomes and forwards
//! with a probability that shrinks as certainty grows. Kept faithful for comparison; `verified`
//! bounds what users feel, wrong answers per hit.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::AnswerId;

/// Outcomes kept per answer.
const MEMORY: usize = 64;
/// Outcomes before a fit is trusted at all; until then every request is forwarded.
const FEWEST: usize = 6;
/// Answers with a record.
const MOST_RECORDS: usize = 100_000;

/// What one namespace has learned under this policy.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Vcache {
    bound: f64,
    records: HashMap<AnswerId, Vec<(f32, bool)>>,
}

impl Vcache {
    /// For a bound on wrong answers per request.
    pub fn new(bound: f64) -> Self {
        Self { bound, records: HashMap::new() }
    }

    /// Probability with which the question is to be forwarded although this answer is near.
    pub fn forward_share(&self, answer: AnswerId, similarity: f32) -> f64 {
        let Some(record) = self.records.get(&answer).filter(|r| r.len() >= FEWEST) else {
            return 1.0;
        };
        let curve = Curve::fit(record);
        forward_share(curve, f64::from(similarity), self.bound)
    }

    /// An outcome at a similarity.
    pub fn observe(&mut self, answer: AnswerId, similarity: f32, right: bool) {
        if self.records.len() >= MOST_RECORDS && !self.records.contains_key(&answer) {
            return;
        }
        let record = self.records.entry(answer).or_default();
        if record.len() == MEMORY {
            record.remove(0);
        }
        record.push((similarity, right));
    }

    /// Takes over what was learned before, under the bound of today.
    pub fn adopt(&mut self, before: Self) {
        self.records = before.records;
    }

    /// The answer has left the store.
    pub fn forget(&mut self, answer: AnswerId) {
        self.records.remove(&answer);
    }
}

/// A fitted logistic curve and how sure its middle is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Curve {
    /// Similarity at which right and wrong are equally likely.
    pub threshold: f64,
    /// Steepness.
    pub slope: f64,
    /// Variance of the threshold's estimate.
    pub variance: f64,
}

impl Curve {
    /// Penalised maximum likelihood by Newton's method on `intercept + slope s`.
    ///
    /// The penalty is a weak Gaussian around slope 20: separable outcomes have no finite maximum,
    /// and what a solver then returns depends on when it gives up. Variance of the threshold by the
    /// delta method from the inverse of the Hessian.
    pub fn fit(record: &[(f32, bool)]) -> Self {
        const SLOPE: f64 = 20.0;
        const LOOSENESS: f64 = 1.0 / 400.0;
        let (mut intercept, mut slope) = (-SLOPE * 0.85, SLOPE);
        let mut hessian = (1.0, 0.0, 1.0);
        for _ in 0..30 {
            let (mut g0, mut g1) =
                (-LOOSENESS * (intercept + SLOPE * 0.85), -LOOSENESS * (slope - SLOPE));
            hessian = (LOOSENESS, 0.0, LOOSENESS);
            for (s, right) in record {
                let s = f64::from(*s);
                let p = logistic(intercept + slope * s);
                let error = f64::from(u8::from(*right)) - p;
                g0 += error;
                g1 += error * s;
                let w = p * (1.0 - p);
                hessian = (hessian.0 + w, hessian.1 + w * s, hessian.2 + w * s * s);
            }
            let det = (hessian.0 * hessian.2 - hessian.1 * hessian.1).max(1e-12);
            let (d0, d1) =
                ((hessian.2 * g0 - hessian.1 * g1) / det, (hessian.0 * g1 - hessian.1 * g0) / det);
            intercept += d0.clamp(-20.0, 20.0);
            slope += d1.clamp(-20.0, 20.0);
            if d0.abs() + d1.abs() < 1e-8 {
                break;
            }
        }
        let slope = slope.max(0.5);
        let threshold = -intercept / slope;
        let det = (hessian.0 * hessian.2 - hessian.1 * hessian.1).max(1e-12);
        let (v0, v01, v1) = (hessian.2 / det, -hessian.1 / det, hessian.0 / det);
        let variance = (v0 + 2.0 * threshold * v01 + threshold * threshold * v1) / (slope * slope);
        Self { threshold, slope, variance: variance.max(0.0) }
    }
}

/// `max(0, min over e of 1 - bound / (1 - a(e)))` with `a(e) = (1 - e) L(s; clip(t + z(1-e) sd(t),
/// 0, 1), g)`.
pub fn forward_share(curve: Curve, similarity: f64, bound: f64) -> f64 {
    let sd = curve.variance.sqrt();
    let mut least = f64::INFINITY;
    for (e, z) in QUANTILES.iter() {
        let threshold = (curve.threshold + z * sd).clamp(0.0, 1.0);
        let sure = (1.0 - e) * logistic(curve.slope * (similarity - threshold));
        least = least.min(1.0 - bound / (1.0 - sure));
    }
    least.max(0.0)
}

/// Confidence levels tried, with `z(1 - e)` of each: the fifty that the paper's own code tries, so
/// that shares agree with it.
static QUANTILES: LazyLock<Vec<(f64, f64)>> = LazyLock::new(|| {
    const EDGE: f64 = 1e-6;
    let level = |n: i32| EDGE + (1.0 - 2.0 * EDGE) * f64::from(n) / 49.0;
    (0..50).map(level).map(|e| (e, normal_quantile(1.0 - e))).collect()
});

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Quantile of the standard normal distribution: Acklam's rational approximation, relative error
/// below 1.2e-9.
fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
    ];
    let tail = |q: f64| {
        (((((C[0] * q + C[1]) * q + C[2]) * q + C[3]) * q + C[4]) * q + C[5])
            / ((((D[0] * q + D[1]) * q + D[2]) * q + D[3]) * q + 1.0)
    };
    if p < 0.02425 {
        tail((-2.0 * p.ln()).sqrt())
    } else if p > 1.0 - 0.02425 {
        -tail((-2.0 * (1.0 - p).ln()).sqrt())
    } else {
        let q = p - 0.5;
        let r = q * q;
        (((((A[0] * r + A[1]) * r + A[2]) * r + A[3]) * r + A[4]) * r + A[5]) * q
            / (((((B[0] * r + B[1]) * r + B[2]) * r + B[3]) * r + B[4]) * r + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_values_of_the_published_rule() {
        for (threshold, slope, variance, s, bound, share) in [
            (0.80, 50.0, 0.01, 0.95, 0.02, 0.909_674),
            (0.80, 50.0, 0.001, 0.95, 0.02, 0.411_250),
            (0.85, 100.0, 1e-4, 0.90, 0.01, 0.854_897),
            (0.90, 40.0, 5e-4, 0.92, 0.05, 0.914_985),
            (0.50, 20.0, 0.035_445, 0.99, 0.02, 0.739_744),
            (0.70, 30.0, 0.002, 0.99, 0.05, 0.0),
        ] {
            let got = forward_share(Curve { threshold, slope, variance }, s, bound);
            assert!(
                (got - share).abs() < 1e-5,
                "{threshold} {slope} {variance} {s} {bound}: {got} is not {share}"
            );
        }
    }

    #[test]
    fn normal_quantiles() {
        assert!((normal_quantile(0.975) - 1.959_964).abs() < 1e-5);
        assert!((normal_quantile(0.01) + 2.326_348).abs() < 1e-5);
        assert!(normal_quantile(0.5).abs() < 1e-12);
    }

    #[test]
    fn separable_outcomes_have_a_finite_fit() {
        let record: Vec<(f32, bool)> = (0..20).map(|n| (0.8 + n as f32 / 100.0, n >= 10)).collect();
        let curve = Curve::fit(&record);
        assert!(
            (0.85..0.95).contains(&curve.threshold)
                && curve.slope.is_finite()
                && curve.variance.is_finite(),
            "{curve:?}"
        );
    }

    #[test]
    fn few_outcomes_forward_everything() {
        let mut state = Vcache::new(0.02);
        for _ in 0..FEWEST - 1 {
            state.observe(AnswerId(1), 0.99, true);
        }
        assert_eq!(state.forward_share(AnswerId(1), 0.99), 1.0);
        for _ in 0..60 {
            state.observe(AnswerId(1), 0.95, true);
        }
        assert!(state.forward_share(AnswerId(1), 0.99) < 1.0);
    }
}
