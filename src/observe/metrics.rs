//! What each finished request adds to: Prometheus series and the quantiles behind the statistics.

use std::time::Duration;

use prometheus::{
    Counter, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    Registry, core::Collector, proto::MetricFamily,
};

use super::{
    BodyEnd, Outcome, PART_COUNT, Part, PriceTable, Promise, Record, STAGE_COUNT, Settings, Stage,
    bins::{Bins, Served},
    exemplars::Exemplars,
    models::Models,
    names::NamedCounters,
    quantiles::Quantiles,
    slo::Slo,
    trace::Fates,
};
use crate::fault::Kind;

/// From the cost of an exact lookup to that of a long answer: 10 us to 60 s, about 2.5 apart.
static BUCKETS: [f64; 21] = [
    10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

const STAGE_SECONDS: &str = "reprise_stage_seconds";
const FIRST_TOKEN_SECONDS: &str = "reprise_first_token_seconds";

const OUTCOMES: usize = Outcome::ALL.len();

/// A route's counters, by `Outcome as usize`.
pub(super) type OutcomeCounters = [IntCounter; OUTCOMES];

pub(super) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    stages: [Histogram; STAGE_COUNT],
    parts: [Histogram; PART_COUNT],
    models: Models,
    inter_token: Histogram,
    promises: IntCounterVec,
    blamed: IntCounterVec,
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
    /// US dollars that were not spent, of models that have a price.
    pub(super) saved_usd: Counter,
    /// Saved tokens of models that have none.
    pub(super) unpriced_tokens: IntCounter,
    /// Cosines of nearest neighbours.
    pub(super) similarities: Bins,
    /// Believed probabilities that the nearest answer is right.
    pub(super) beliefs: Bins,
    /// Traces behind the histograms' buckets.
    pub(super) exemplars: Exemplars,
    /// Traces, by what became of them.
    pub(super) traces: Fates,
    received_bytes: IntCounter,
    sent_bytes: IntCounter,
    /// First tokens, by `Outcome as usize`.
    pub(super) first_tokens: [Quantiles; OUTCOMES],
    /// Stages, by `Outcome as usize` and `Stage as usize`.
    pub(super) budgets: [[Quantiles; STAGE_COUNT]; OUTCOMES],
    /// The same in five parts, by `Outcome as usize` and `Part as usize`.
    pub(super) budget_parts: [[Quantiles; PART_COUNT]; OUTCOMES],
    /// Between two pieces of a stream.
    pub(super) inter_tokens: Quantiles,
}

impl Metrics {
    pub(super) fn new(settings: &Settings) -> Result<Self, prometheus::Error> {
        let new = Register(Registry::new());
        let requests = new.counters(
            "reprise_requests_total",
            "Finished requests by upstream, API and how they were answered.",
            &["route", "dialect", "outcome"],
        )?;
        let stages =
            new.histograms(STAGE_SECONDS, "How long each stage of a request took.", &["stage"])?;
        let parts = new.histograms(
            "reprise_part_seconds",
            "The latency budget in five parts, which sum to the whole request.",
            &["part"],
        )?;
        let models = new.histograms(
            "reprise_request_seconds",
            "Whole requests by upstream, model and outcome; models that came late are other.",
            &["route", "model", "outcome"],
        )?;
        let inter_token = new.histograms(
            "reprise_inter_token_seconds",
            "Between two pieces of a stream, as they were handed to the client.",
            &[],
        )?;
        let promises = new.counters(
            "reprise_slo_requests_total",
            "Requests by whether they kept their upstream's budget.",
            &["route", "result"],
        )?;
        let blamed = new.counters(
            "reprise_slo_broken_total",
            "Requests that broke their upstream's budget, by the longest stage.",
            &["route", "stage"],
        )?;
        let first_token = new.histograms(
            FIRST_TOKEN_SECONDS,
            "From the request head to the first piece of the answer's body.",
            &["outcome"],
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
        let traces = new.counters(
            "reprise_traces_total",
            "Traces of requests that were kept, by what became of them.",
            &["result"],
        )?;
        new.build_info()?;
        Ok(Self {
            parts: Part::ALL.map(|part| parts.with_label_values(&[part.name()])),
            models: Models::new(models),
            inter_token: inter_token.with_label_values(&[] as &[&str]),
            promises,
            blamed,
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
            saved_usd: new.seconds(
                "reprise_saved_usd_total",
                "Price of the tokens that came from the cache, of models with a price.",
            )?,
            unpriced_tokens: new.counter(
                "reprise_saved_unpriced_tokens_total",
                "Tokens that came from the cache, of models without a price.",
            )?,
            similarities: Bins::from(0.5),
            beliefs: Bins::from(0.0),
            exemplars: Exemplars::new(&BUCKETS),
            traces: Fates {
                exported: traces.with_label_values(&["exported"]),
                failed: traces.with_label_values(&["failed"]),
                dropped: traces.with_label_values(&["dropped"]),
            },
            received_bytes: new
                .counter("reprise_received_bytes_total", "Bytes of request bodies.")?,
            sent_bytes: new.counter("reprise_sent_bytes_total", "Bytes of response bodies.")?,
            first_tokens: Outcome::ALL.map(|_| Quantiles::new()),
            budgets: Outcome::ALL.map(|_| Stage::ALL.map(|_| Quantiles::new())),
            budget_parts: Outcome::ALL.map(|_| Part::ALL.map(|_| Quantiles::new())),
            inter_tokens: Quantiles::new(),
            registry: new.0,
            requests,
        })
    }

    /// Looks a route's counters up, once.
    pub(super) fn outcome_counters(&self, route: &str, dialect: &str) -> OutcomeCounters {
        Outcome::ALL
            .map(|outcome| self.requests.with_label_values(&[route, dialect, outcome.name()]))
    }

    /// Starts to count how a route's promise is kept.
    pub(super) fn slo(&self, route: &str, promise: Promise) -> Slo {
        Slo::new(route, promise, &self.promises, &self.blamed)
    }

    /// Counts the time since the piece before.
    pub(super) fn piece(&self, gap: Duration) {
        self.inter_token.observe(gap.as_secs_f64());
        self.inter_tokens.add(gap);
    }

    pub(super) fn count(&self, record: &Record, prices: &PriceTable) {
        let outcome = record.outcome as usize;
        record.route.outcomes[outcome].inc();
        self.count_times(record);
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
        self.count_savings(record, prices);
    }

    /// Lets the histograms point to a request whose trace was kept.
    pub(super) fn exemplify(&self, record: &Record) {
        let Some(context) = record.trace else { return };
        for (stage, span) in record.stages.iter() {
            self.exemplars.note((STAGE_SECONDS, stage.name()), span, context.trace);
        }
        if let Some(span) = record.first_token {
            let series = (FIRST_TOKEN_SECONDS, record.outcome.name());
            self.exemplars.note(series, span, context.trace);
        }
    }

    fn count_times(&self, record: &Record) {
        let outcome = record.outcome as usize;
        for (stage, span) in record.stages.iter() {
            self.stages[stage as usize].observe(span.as_secs_f64());
            self.budgets[outcome][stage as usize].add(span);
        }
        for (part, span) in Part::split(&record.stages, record.outcome).into_iter().enumerate() {
            if let Some(span) = span {
                self.parts[part].observe(span.as_secs_f64());
                self.budget_parts[outcome][part].add(span);
            }
        }
        if let Some(total) = record.stages.get(Stage::Total) {
            self.models.count(record, total.as_secs_f64());
        }
    }

    fn count_savings(&self, record: &Record, prices: &PriceTable) {
        if !record.upstream_saved.is_zero() {
            self.saved_upstream_seconds.inc_by(record.upstream_saved.as_secs_f64());
        }
        if record.tokens_saved == 0 {
            return;
        }
        self.saved_tokens.inc_by(record.tokens_saved);
        let (prompt, completion) =
            (record.tokens_prompt.unwrap_or(0), record.tokens_completion.unwrap_or(0));
        let model = record.model.as_deref().unwrap_or_default();
        match prices.usd(model, prompt, completion) {
            Some(usd) => self.saved_usd.inc_by(usd.max(0.0)),
            None => self.unpriced_tokens.inc_by(record.tokens_saved),
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
        labels: &[&str],
    ) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        self.add(HistogramVec::new(options, labels)?)
    }

    fn build_info(&self) -> Result<(), prometheus::Error> {
        let options = Opts::new("reprise_build_info", "Always 1; the labels say what runs.");
        let info = self.add(IntGaugeVec::new(options, &["version"])?)?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(())
    }
}
