//! A judge errs too; what it reports is corrected for it.

use crate::cache::interval::Interval;

/// How often a judge is wrong, as measured on pairs whose truth is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JudgeError {
    /// Share of agreeing answers that it calls different.
    pub false_rejections: f64,
    /// Share of differing answers that it calls the same.
    pub false_acceptances: f64,
}

/// The true rate of disagreement behind an observed one: `(observed - f_r) / (1 - f_a - f_r)`,
/// Rogan and Gladen 1978.
///
/// `None` for a judge no better than chance, whose reports carry nothing: always yes and always no
/// are two of them.
pub fn corrected(observed: Interval, error: JudgeError) -> Option<Interval> {
    let power = 1.0 - error.false_acceptances - error.false_rejections;
    if power <= 0.05 {
        return None;
    }
    let undo = |rate: f64| ((rate - error.false_rejections) / power).clamp(0.0, 1.0);
    Some(Interval {
        low: undo(observed.low),
        point: undo(observed.point),
        high: undo(observed.high),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_taken_out() {
        let seen = Interval { low: 0.02, point: 0.03, high: 0.05 };
        let truth =
            corrected(seen, JudgeError { false_rejections: 0.02, false_acceptances: 0.1 }).unwrap();
        assert!((truth.point - 0.01 / 0.88).abs() < 1e-9);
        assert_eq!(truth.low, 0.0);
        assert_eq!(corrected(seen, JudgeError::default()), Some(seen));
    }

    #[test]
    fn a_judge_without_power_proves_nothing() {
        let seen = Interval { low: 0.0, point: 0.0, high: 0.1 };
        assert_eq!(
            corrected(seen, JudgeError { false_rejections: 0.0, false_acceptances: 1.0 }),
            None
        );
        assert_eq!(
            corrected(seen, JudgeError { false_rejections: 1.0, false_acceptances: 0.0 }),
            None
        );
    }
}
