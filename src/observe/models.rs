//! Latency by route, model and outcome, with a bound on how many series clients can make.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use parking_lot::RwLock;
use prometheus::{Histogram, HistogramVec};

use super::{Outcome, Record};

/// Pairs of route and model with series of their own; what comes later is `other`. With 7 outcomes
/// of 24 lines each this is at most some 5,500 series.
pub(super) const MAX_MODELS: usize = 32;

/// The model of requests that have none of their own.
const OTHER: &str = "other";

type Series = [OnceLock<Histogram>; Outcome::ALL.len()];

/// `reprise_request_seconds{route,model,outcome}`.
pub(super) struct Models {
    vec: HistogramVec,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    /// By route, then by model: both are looked up without a copy.
    by_route: HashMap<Arc<str>, HashMap<Arc<str>, Arc<Series>>>,
    named: usize,
}

impl Models {
    pub(super) fn new(vec: HistogramVec) -> Self {
        Self { vec, known: RwLock::default() }
    }

    pub(super) fn count(&self, record: &Record, seconds: f64) {
        let (route, model) = (&record.route.name, record.model.as_deref().unwrap_or(OTHER));
        let known = self.find(route, model).or_else(|| self.admit(record));
        let (label, series) = match known {
            Some(series) => (model, series),
            None => match self.find(route, OTHER).or_else(|| self.insert(route, OTHER.into())) {
                Some(series) => (OTHER, series),
                None => return,
            },
        };
        let outcome = record.outcome;
        series[outcome as usize]
            .get_or_init(|| self.vec.with_label_values(&[&**route, label, outcome.name()]))
            .observe(seconds);
    }

    fn find(&self, route: &str, model: &str) -> Option<Arc<Series>> {
        self.known.read().by_route.get(route)?.get(model).cloned()
    }

    /// A model gets a name of its own once a 200 was given for it, while there is room: made-up
    /// names in failing requests do not crowd the real ones out.
    fn admit(&self, record: &Record) -> Option<Arc<Series>> {
        let model = record.model.as_ref()?;
        let answered = record.status.is_some_and(|status| status.is_success());
        let named = answered && record.clipped_model() == Some(&**model);
        if !named || self.known.read().named >= MAX_MODELS {
            return None;
        }
        self.insert(&record.route.name, Arc::clone(model))
    }

    fn insert(&self, route: &Arc<str>, model: Arc<str>) -> Option<Arc<Series>> {
        let mut known = self.known.write();
        let Known { by_route, named } = &mut *known;
        let models = by_route.entry(Arc::clone(route)).or_default();
        if let Some(series) = models.get(&model) {
            return Some(Arc::clone(series));
        }
        if &*model != OTHER {
            // Others may have come between the look and the lock.
            if *named >= MAX_MODELS {
                return None;
            }
            *named += 1;
        }
        let series = Arc::new(Series::default());
        models.insert(model, Arc::clone(&series));
        Some(series)
    }
}
