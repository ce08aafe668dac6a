//! What each finished request adds to: Prometheus series and the quantiles behind the statistics.

use std::time::Duration;

use prometheus::{
    Counter, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    Registry, core::Collector, proto::MetricFamily,
};

use super::{
    BodyEnd, Outcome, Record, STAGE_COUNT, Settings, Stage,
    names::NamedCounters,
    quantiles::Quantiles,
    similarity::{Served, Similarities},
};
use crate::fault::Kind;

/// From the cost of an exact lookup to that of a long answer: 10 us to 60 s, about 2.5 apart.
const BUCKETS: [f64; 21] = [
    10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

const OUTCOMES: usize = Outcome::ALL.len();

/// A route's counters, by `Outcome as usize`.
pub(super) type OutcomeCounters = [IntCounter; OUTCOMES];

pub(super) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    stages: [Histogram; STAGE_COUNT],
    first_token: [Histogram; OUTCOMES],
    ends: [IntCounter; BodyEnd::ALL.len()],
    faults: NamedCounters,
    /// Why the cache was passed by.
    pub(super) reasons: NamedCounters,
    /// What was said of neighbours.
    pub(super) verdicts: NamedCounters,
    /// Tokens that no upstream computed.
    pub(super) saved_tokens: IntCounter,
    /// Seconds that no upstream worked.
    pub(super) saved_upstream_seconds: Counter,
    /// Cosines of nearest neighbours.
    pub(super) similarities: Similarities,
    received_bytes: IntCounter,
    sent_bytes: IntCounter,
    /// First tokens, by `Outcome as usize`.
    pub(super) first_tokens: [Quantiles; OUTCOMES],
    /// Stages, by `Outcome as usize` and `Stage as usize`.
    pub(super) budgets: [[Quantiles; STAGE_COUNT]; OUTCOMES],
}

impl Metrics {
    pub(super) fn new(settings: &Settings) -> Result<Self, prometheus::Error> {
        let new = Register(Registry::new());
        let requests = new.counters(
            "reprise_requests_total",
            "Finished requests by upstream, API and how they were answered.",
            &["route", "dialect", "outcome"],
        )?;
        let stages = new.histograms(
            "reprise_stage_seconds",
            "How long each stage of a request took.",
            "stage",
        )?;
        let first_token = new.histograms(
            "reprise_first_token_seconds",
            "From the request head to the first piece of the answer's body.",
            "outcome",
        )?;
        let ends =
            new.counters("reprise_body_ends_total", "How the bodies of answers ended.", &["end"])?;
        let faults = new.counters(
            "reprise_faults_total",
            "Requests that something went wrong with, by kind of fault.",
            &["kind"],
        )?;
        let reasons = new.counters(
            "reprise_bypass_total",
            "Requests that passed by the cache or one of its tiers, by reason.",
            &["reason"],
        )?;
        let verdicts = new.counters(
            "reprise_verdict_total",
            "Verdicts on the nearest stored prompt.",
            &["verdict"],
        )?;
        new.build_info()?;
        Ok(Self {
            stages: Stage::ALL.map(|stage| stages.with_label_values(&[stage.name()])),
            first_token: Outcome::ALL.map(|it| first_token.with_label_values(&[it.name()])),
            ends: BodyEnd::ALL.map(|end| ends.with_label_values(&[end.name()])),
            faults: NamedCounters::new(faults, &Kind::ALL.map(Kind::name)),
            reasons: NamedCounters::new(reasons, settings.reasons),
            verdicts: NamedCounters::new(verdicts, settings.verdicts),
            saved_tokens: new.counter(
                "reprise_saved_tokens_total",
                "Tokens of answers that came from the cache.",
            )?,
            saved_upstream_seconds: new.seconds(
                "reprise_saved_upstream_seconds_total",
                "Time that upstreams had needed for answers that came from the cache.",
            )?,
            similarities: Similarities::new(),
            received_bytes: new
                .counter("reprise_received_bytes_total", "Bytes of request bodies.")?,
            sent_bytes: new.counter("reprise_sent_bytes_total", "Bytes of response bodies.")?,
            first_tokens: Outcome::ALL.map(|_| Quantiles::new()),
            budgets: Outcome::ALL.map(|_| Stage::ALL.map(|_| Quantiles::new())),
            registry: new.0,
            requests,
        })
    }

    /// Looks a route's counters up, once.
    pub(super) fn outcome_counters(&self, route: &str, dialect: &str) -> OutcomeCounters {
        Outcome::ALL
            .map(|outcome| self.requests.with_label_values(&[route, dialect, outcome.name()]))
    }

    pub(super) fn count(&self, record: &Record) {
        let outcome = record.outcome as usize;
        record.route.outcomes[outcome].inc();
        for (stage, span) in record.stages.iter() {
            self.stages[stage as usize].observe(span.as_secs_f64());
            self.budgets[outcome][stage as usize].add(span);
        }
        if let Some(span) = record.first_token {
            self.first_token[outcome].observe(span.as_secs_f64());
            self.first_tokens[outcome].add(span);
        }
        if let Some(end) = record.end {
            self.ends[end as usize].inc();
        }
        if let Some(kind) = record.fault {
            self.faults.add(kind.name());
        }
        if let Some(reason) = record.reason {
            self.reasons.add(reason);
        }
        if let Some(verdict) = record.verdict {
            self.verdicts.add(verdict);
        }
        if let Some(cosine) = record.similarity {
            let served = match record.outcome {
                Outcome::HitSemantic => Served::Yes,
                _ => Served::No,
            };
            self.similarities.add(cosine, served);
        }
        self.received_bytes.inc_by(record.bytes_in);
        self.sent_bytes.inc_by(record.bytes_out);
        self.count_savings(record.tokens_saved, record.upstream_saved);
    }

    fn count_savings(&self, tokens: u64, upstream: Duration) {
        if tokens > 0 {
            self.saved_tokens.inc_by(tokens);
        }
        if !upstream.is_zero() {
            self.saved_upstream_seconds.inc_by(upstream.as_secs_f64());
        }
    }

    /// Whole requests that were answered so.
    pub(super) fn whole(&self, outcome: Outcome) -> &Quantiles {
        &self.budgets[outcome as usize][Stage::Total as usize]
    }

    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

/// Makes metrics and registers them in one step.
struct Register(Registry);

impl Register {
    fn add<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::new(name, help)?)
    }

    fn seconds(&self, name: &str, help: &str) -> Result<Counter, prometheus::Error> {
        self.add(Counter::new(name, help)?)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        label: &str,
    ) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        self.add(HistogramVec::new(options, &[label])?)
    }

    fn build_info(&self) -> Result<(), prometheus::Error> {
        let options = Opts::new("reprise_build_info", "Always 1; the labels say what runs.");
        let info = self.add(IntGaugeVec::new(options, &["version"])?)?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(())
    }
}
