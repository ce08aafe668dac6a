//! The latest trace behind each bucket of a histogram: what leads from a metric to a request.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;

/// A measured value and the trace that it came from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Exemplar {
    pub(super) trace: u128,
    pub(super) seconds: f64,
    pub(super) at: SystemTime,
}

/// A histogram's name, and the value of its one label.
type Series = (&'static str, &'static str);

/// One for each bucket, by its upper bound's place; the last is `+Inf`. Only kept requests write
/// here, a share of all, so one lock will do.
pub(super) struct Exemplars {
    bounds: &'static [f64],
    latest: Mutex<BTreeMap<Series, Vec<Option<Exemplar>>>>,
}

impl Exemplars {
    /// For histograms with these upper bounds.
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, latest: Mutex::default() }
    }

    /// Notes a value of the series `name{label}`.
    pub(super) fn note(&self, series: Series, span: Duration, trace: u128) {
        let seconds = span.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        let exemplar = Exemplar { trace, seconds, at: SystemTime::now() };
        let mut latest = self.latest.lock();
        let buckets = latest.entry(series).or_insert_with(|| vec![None; self.bounds.len() + 1]);
        if let Some(slot) = buckets.get_mut(bucket) {
            *slot = Some(exemplar);
        }
    }

    /// The latest value in a bucket of a series.
    pub(super) fn of(&self, name: &str, label: &str, bucket: usize) -> Option<Exemplar> {
        let latest = self.latest.lock();
        let buckets = latest.iter().find(|((one, of), _)| *one == name && *of == label)?.1;
        buckets.get(bucket).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_belongs_to_the_first_bucket_that_holds_it() {
        let exemplars = Exemplars::new(&[0.1, 1.0]);
        let note = |ms, trace| exemplars.note(("a", "b"), Duration::from_millis(ms), trace);
        note(100, 1);
        note(500, 2);
        note(600, 3);
        note(2000, 4);
        let trace = |bucket| exemplars.of("a", "b", bucket).map(|one| one.trace);
        assert_eq!([trace(0), trace(1), trace(2), trace(3)], [Some(1), Some(3), Some(4), None]);
        assert_eq!(exemplars.of("a", "c", 0), None);
    }
}
