//! Intervals of a proportion: what every rate that Reprise states is printed with.
//!
//! Both are of the two-sided kind. [`wilson`] is close to nominal and cheap, and serves dashboards;
//! [`clopper_pearson`] never covers less than it says, and serves whatever makes a promise: a
//! fall-back, a bound in `reprise eval`.

use serde::{Deserialize, Serialize};

/// Normal quantile of a two-sided 95 % interval.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// A proportion with the limits of its interval, all in `0..=1`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Interval {
    /// Lower limit.
    pub low: f64,
    /// `events / trials`, or 0 when there was no trial.
    pub point: f64,
    /// Upper limit; 1 when there was no trial, since nothing is known.
    pub high: f64,
}

/// Score interval of Wilson (1927) for `events` out of `trials`, `z` being the normal quantile.
///
/// Takes real numbers because weighted counts (decayed windows, inverse sampling shares) have an
/// interval too.
pub fn wilson(events: f64, trials: f64, z: f64) -> Interval {
    if trials <= 0.0 {
        return Interval { low: 0.0, point: 0.0, high: 1.0 };
    }
    let point = (events / trials).clamp(0.0, 1.0);
    let z2 = z * z;
    let centre = point + z2 / (2.0 * trials);
    let spread = z * (point * (1.0 - point) / trials + z2 / (4.0 * trials * trials)).sqrt();
    let scale = 1.0 + z2 / trials;
    Interval {
        low: ((centre - spread) / scale).max(0.0),
        point,
        high: ((centre + spread) / scale).min(1.0),
    }
}

/// Exact interval of Clopper and Pearson (1934) at 95 %, by bisection on the incomplete beta
/// function.
pub fn clopper_pearson(events: u64, trials: u64) -> Interval {
    if trials == 0 {
        return Interval { low: 0.0, point: 0.0, high: 1.0 };
    }
    let events = events.min(trials);
    let (x, n) = (events as f64, trials as f64);
    let low = if events == 0 { 0.0 } else { beta_quantile(0.025, x, n - x + 1.0) };
    let high = if events == trials { 1.0 } else { beta_quantile(0.975, x + 1.0, n - x) };
    Interval { low, point: x / n, high }
}

/// Quantile of the beta distribution. Bisection: 60 halvings reach 1e-18, and no start value can
/// lead it astray.
fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if incomplete_beta(middle, a, b) < p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// Regularised incomplete beta function, by the continued fraction of DLMF 8.17.22 evaluated with
/// Lentz's method.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // The fraction converges fast only left of the mean; the other side follows by symmetry.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = (a * x.ln() + b * (1.0 - x).ln() - ln_beta(a, b)).exp() / a;
    const TINY: f64 = 1e-300;
    let keep = |v: f64| if v.abs() < TINY { TINY } else { v };
    let (mut c, mut d) = (1.0, 1.0 / keep(1.0 - (a + b) * x / (a + 1.0)));
    let mut sum = d;
    for m in 1..300 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / keep(1.0 + even * d);
        c = keep(1.0 + even / c);
        sum *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / keep(1.0 + odd * d);
        c = keep(1.0 + odd / c);
        let step = d * c;
        sum *= step;
        if (step - 1.0).abs() < 1e-13 {
            break;
        }
    }
    front * sum
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// Stirling's series after shifting the argument above 10, where eight terms give 1e-15.
fn ln_gamma(mut x: f64) -> f64 {
    let mut shift = 0.0;
    while x < 10.0 {
        shift -= x.ln();
        x += 1.0;
    }
    let r = 1.0 / (x * x);
    let series = (1.0 / 12.0
        + r * (-1.0 / 360.0 + r * (1.0 / 1260.0 + r * (-1.0 / 1680.0 + r * (1.0 / 1188.0)))))
        / x;
    shift + (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near(a: f64, b: f64, eps: f64) {
        assert!((a - b).abs() < eps, "{a} is not {b}");
    }

    #[test]
    fn wilson_matches_published_values() {
        // Newcombe (1998), table I: 81 of 263 and 15 of 148, method 3.
        let i = wilson(81.0, 263.0, Z_95);
        near(i.low, 0.2553, 5e-5);
        near(i.high, 0.3662, 5e-5);
        let i = wilson(15.0, 148.0, Z_95);
        near(i.low, 0.0624, 5e-5);
        near(i.high, 0.1605, 5e-5);
    }

    #[test]
    fn clopper_pearson_matches_published_values() {
        // Newcombe (1998), table I, method 5.
        let i = clopper_pearson(81, 263);
        near(i.low, 0.2527, 5e-5);
        near(i.high, 0.3676, 5e-5);
        let i = clopper_pearson(0, 20);
        near(i.low, 0.0, 1e-12);
        near(i.high, 0.1684, 5e-5);
        let i = clopper_pearson(1, 29);
        near(i.low, 0.0009, 5e-5);
        near(i.high, 0.1776, 5e-5);
    }

    #[test]
    fn nothing_tried_is_nothing_known() {
        assert_eq!(wilson(0.0, 0.0, Z_95).high, 1.0);
        assert_eq!(clopper_pearson(0, 0).high, 1.0);
        assert_eq!(clopper_pearson(3, 3).high, 1.0);
    }

    proptest! {
        #[test]
        fn limits_enclose_the_point(trials in 1u64..100_000, share in 0.0f64..1.0) {
            let events = (trials as f64 * share) as u64;
            let exact = clopper_pearson(events, trials);
            let score = wilson(events as f64, trials as f64, Z_95);
            for i in [exact, score] {
                prop_assert!(0.0 <= i.low && i.low <= i.point + 1e-12 && i.point <= i.high + 1e-12 && i.high <= 1.0);
            }
        }
    }
}
