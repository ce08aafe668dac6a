//! A route's promise (`[[upstream]] budget`, `budget_share`): how much of its error budget is used
//! up, how fast, and by which stage.
//!
//! A request keeps the promise if the first piece of its answer came within the budget: that is
//! what a person waits for, whether the rest streams or not. Errors that the client made count for
//! neither side. The burn rate is that of Google's SRE workbook (chapter 5): the share of broken
//! ones over the share that may be; at 1 the budget lasts exactly its period.

use std::{collections::VecDeque, time::Duration};

use parking_lot::{Mutex, RwLock};
use prometheus::{IntCounter, IntCounterVec, proto::MetricFamily};
use serde::Serialize;

use super::{
    Record, STAGE_COUNT, Stage,
    sources::{Family, Sampled},
};
use crate::fault::Whose;

/// Samples of an hour; one each [`super::SAMPLE_EVERY`].
const HOUR: usize = 360;
/// Samples of five minutes.
const MINUTES: usize = 30;

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Promise {
    /// The first piece of the answer comes within this...
    pub budget: Duration,
    /// ...for this share of the requests, in (0, 1).
    pub share: f64,
}

/// A promise and how it is kept.
pub(super) struct Slo {
    promise: RwLock<Promise>,
    met: IntCounter,
    broken: IntCounter,
    /// By `Stage as usize`: the longest stage of each broken request.
    blamed: [IntCounter; STAGE_COUNT],
    /// Running totals (met, broken), newest last.
    samples: Mutex<VecDeque<(u64, u64)>>,
}

impl Slo {
    /// `kept` has the labels route and result, `blamed` route and stage.
    pub(super) fn new(
        route: &str,
        promise: Promise,
        kept: &IntCounterVec,
        blamed: &IntCounterVec,
    ) -> Self {
        Self {
            promise: RwLock::new(promise),
            met: kept.with_label_values(&[route, "met"]),
            broken: kept.with_label_values(&[route, "broken"]),
            blamed: Stage::ALL.map(|stage| blamed.with_label_values(&[route, stage.name()])),
            samples: Mutex::new(VecDeque::with_capacity(HOUR)),
        }
    }

    /// Promises something else from here on.
    pub(super) fn renew(&self, promise: Promise) {
        *self.promise.write() = promise;
    }

    pub(super) fn count(&self, record: &Record) {
        let failed =
            record.fault.is_some() || record.status.is_some_and(|status| status.is_server_error());
        let clients_own = record.fault.is_some_and(|fault| fault.whose() == Whose::Client)
            || record.status.is_some_and(|status| status.is_client_error());
        if clients_own {
            return;
        }
        let waited = record.first_token.or_else(|| record.stages.get(Stage::Total));
        let late = waited.is_some_and(|waited| waited > self.promise.read().budget);
        if !late && !failed {
            self.met.inc();
            return;
        }
        self.broken.inc();
        // The stages up to the first piece: what streamed after it broke no promise.
        let longest = record
            .stages
            .iter()
            .filter(|(stage, _)| !matches!(stage, Stage::Total | Stage::Body))
            .max_by_key(|(_, span)| *span);
        if let Some((stage, _)) = longest {
            self.blamed[stage as usize].inc();
        }
    }

    /// Remembers where the counts are now.
    pub(super) fn sample(&self) {
        let mut samples = self.samples.lock();
        if samples.len() == HOUR {
            samples.pop_front();
        }
        samples.push_back((self.met.get(), self.broken.get()));
    }

    /// Burn rate over the last `count` samples; 0 where nothing was asked.
    fn burn(&self, count: usize) -> f64 {
        let samples = self.samples.lock();
        let before = samples.len().checked_sub(count).and_then(|at| samples.get(at));
        let (met, broken) = before.copied().unwrap_or_default();
        let (met, broken) = (self.met.get() - met, self.broken.get() - broken);
        let all = met + broken;
        if all == 0 { 0.0 } else { broken as f64 / all as f64 / (1.0 - self.promise.read().share) }
    }

    pub(super) fn report(&self, route: &str) -> SloReport {
        let Promise { budget, share } = *self.promise.read();
        let blamed = Stage::ALL.into_iter().zip(&self.blamed).filter(|(_, count)| count.get() > 0);
        SloReport {
            route: route.to_owned(),
            budget_ms: budget.as_secs_f64() * 1e3,
            share,
            met: self.met.get(),
            broken: self.broken.get(),
            burn_rate_5m: self.burn(MINUTES),
            burn_rate_1h: self.burn(HOUR),
            broken_by: blamed.map(|(stage, count)| (stage.name(), count.get())).collect(),
        }
    }
}

/// What is promised and how fast it is used up, as Prometheus families.
pub(super) fn families(reports: &[SloReport]) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let mut sampled = Sampled(Vec::new());
    let each = |value: fn(&SloReport) -> f64| {
        let series = |report: &SloReport| (vec![report.route.clone()], value(report));
        reports.iter().map(series).collect::<Vec<_>>()
    };
    let help = "The first piece of an answer is promised within this.";
    let values = each(|report| report.budget_ms / 1e3);
    sampled.labelled(Family::Gauge, "reprise_slo_budget_seconds", help, &["route"], values)?;
    let help = "Share of the requests for which that is promised.";
    let values = each(|report| report.share);
    sampled.labelled(Family::Gauge, "reprise_slo_share_ratio", help, &["route"], values)?;
    let help = "Share of broken promises over the share that may be, in the last five minutes.";
    let values = each(|report| report.burn_rate_5m);
    sampled.labelled(Family::Gauge, "reprise_slo_burn_rate", help, &["route"], values)?;
    Ok(sampled.0)
}

/// How a route's promise is kept, since the start.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SloReport {
    /// The upstream's name.
    pub route: String,
    /// To the first piece of the answer.
    pub budget_ms: f64,
    /// The share that is promised.
    pub share: f64,
    /// Requests within the budget.
    pub met: u64,
    /// Requests that were late or failed.
    pub broken: u64,
    /// 1: the error budget lasts exactly its period; above: it does not.
    pub burn_rate_5m: f64,
    /// The same over the last hour.
    pub burn_rate_1h: f64,
    /// The longest stage of each broken request.
    pub broken_by: std::collections::BTreeMap<&'static str, u64>,
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};
    use prometheus::Opts;

    use super::*;
    use crate::observe::{Outcome, tests::observer};

    fn slo() -> Slo {
        let vec =
            |name, label| IntCounterVec::new(Opts::new(name, "."), &["route", label]).unwrap();
        let promise = Promise { budget: Duration::from_millis(200), share: 0.99 };
        Slo::new("vllm", promise, &vec("a", "result"), &vec("b", "stage"))
    }

    fn request(slo: &Slo, change: impl FnOnce(&mut Record)) {
        let observer = observer();
        let id = observer.request_id(&HeaderMap::new());
        let mut record = Record::new(id, observer.unrouted());
        record.outcome = Outcome::Miss;
        record.status = Some(StatusCode::OK);
        record.first_token = Some(Duration::from_millis(100));
        record.stages.record(Stage::Embed, Duration::from_millis(5));
        record.stages.record(Stage::First, Duration::from_millis(90));
        change(&mut record);
        slo.count(&record);
    }

    #[test]
    fn a_late_first_piece_breaks_the_promise_and_the_longest_stage_is_blamed() {
        let slo = slo();
        request(&slo, |_| {});
        request(&slo, |record| record.stages.record(Stage::Body, Duration::from_secs(30)));
        request(&slo, |record| record.first_token = Some(Duration::from_millis(201)));
        let late = |record: &mut Record| {
            record.first_token = Some(Duration::from_secs(1));
            record.stages.record(Stage::Embed, Duration::from_millis(900));
        };
        request(&slo, late);
        let report = slo.report("vllm");
        assert_eq!((report.met, report.broken), (2, 2));
        assert_eq!(report.broken_by, [("embed", 1), ("first", 1)].into());
    }

    #[test]
    fn failures_break_it_and_clients_mistakes_do_not() {
        let slo = slo();
        request(&slo, |record| record.status = Some(StatusCode::BAD_GATEWAY));
        request(&slo, |record| record.status = Some(StatusCode::BAD_REQUEST));
        request(&slo, |record| record.fault = Some(crate::fault::Kind::BadRequest));
        let report = slo.report("vllm");
        assert_eq!((report.met, report.broken), (0, 1));
    }

    #[test]
    fn the_burn_rate_forgets_what_is_old() {
        let slo = slo();
        for _ in 0..99 {
            request(&slo, |_| {});
        }
        request(&slo, |record| record.first_token = Some(Duration::from_secs(1)));
        let burn = slo.report("vllm").burn_rate_5m;
        assert!((burn - 1.0).abs() < 1e-9, "{burn}");
        for _ in 0..MINUTES {
            slo.sample();
        }
        let report = slo.report("vllm");
        assert_eq!(report.burn_rate_5m, 0.0, "nothing was asked in the last five minutes");
        assert!((report.burn_rate_1h - 1.0).abs() < 1e-9);
        for _ in 0..2 * HOUR {
            slo.sample();
        }
        assert_eq!(slo.report("vllm").burn_rate_1h, 0.0);
        assert_eq!(slo.samples.lock().len(), HOUR);
    }
}
