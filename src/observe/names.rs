//! Counters by a closed name, found without hashing.

use prometheus::{IntCounter, IntCounterVec};

/// A counter for each name of a closed list. Names are `&'static str`: the program's own words, so
/// a client cannot make new series.
pub(super) struct NamedCounters {
    vec: IntCounterVec,
    known: Vec<(&'static str, IntCounter)>,
}

impl NamedCounters {
    /// Makes the counters of all known names, at zero.
    pub(super) fn new(vec: IntCounterVec, names: &[&'static str]) -> Self {
        let known = names.iter().map(|name| (*name, vec.with_label_values(&[*name]))).collect();
        Self { vec, known }
    }

    pub(super) fn add(&self, name: &'static str) {
        // A word that is missing from the list is counted all the same.
        match self.known.iter().find(|(known, _)| *known == name) {
            Some((_, counter)) => counter.inc(),
            None => self.vec.with_label_values(&[name]).inc(),
        }
    }

    /// Every name with its count.
    pub(super) fn counts(&self) -> Vec<(String, u64)> {
        let mut counts: Vec<_> = prometheus::core::Collector::collect(&self.vec)
            .iter()
            .flat_map(|family| family.get_metric())
            .map(|metric| {
                let name = metric.get_label().first().map_or("", |label| label.value());
                (name.to_owned(), metric.get_counter().get_value() as u64)
            })
            .collect();
        counts.sort();
        counts
    }
}
