//! The numbers of `/api/v1/stats`.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    Binned, EmbedReport, FlightReport, MemoryReport, Observer, Outcome, Part, SemanticReport,
    SloReport, Sources, Stage, UpstreamReport, WritesReport,
    quantiles::{Quantiles, Snapshot},
};
use crate::store::StoreReport;

/// Everything since the process started.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    /// Reprise's own version.
    pub version: &'static str,
    /// Since the start.
    pub uptime_seconds: f64,
    /// Finished requests by outcome; all outcomes are there.
    pub requests: BTreeMap<&'static str, u64>,
    /// Requests that passed by the cache or one of its tiers, by reason.
    pub bypass_reasons: BTreeMap<String, u64>,
    /// What was said of nearest neighbours.
    pub verdicts: BTreeMap<String, u64>,
    /// Hits of all kinds (joined requests too) among requests that the cache was asked for: neither
    /// bypass nor error. 0 while there are none.
    pub hit_rate: f64,
    /// What the cache spared the upstreams.
    pub saved: Saved,
    /// Whole requests by outcome, to the end of the body. Outcomes that never happened are left out.
    pub latency: BTreeMap<&'static str, Latency>,
    /// To the first piece of the body, by outcome.
    pub first_token: BTreeMap<&'static str, Latency>,
    /// The latency budget: each stage by outcome. The means of an outcome's stages, each times its
    /// count, sum to those of its `total`.
    pub stages: BTreeMap<&'static str, BTreeMap<&'static str, Latency>>,
    /// The same in the five parts that a latency budget is planned in, by outcome.
    pub parts: BTreeMap<&'static str, BTreeMap<&'static str, Latency>>,
    /// Between two pieces of a stream.
    pub inter_token: Option<Latency>,
    /// How each upstream's budget is kept.
    pub slo: Vec<SloReport>,
    /// How near the nearest stored prompts were.
    pub similarity: Binned,
    /// How surely the nearest answer was believed right.
    pub belief: Binned,
    /// What decides on them.
    pub semantic: SemanticReport,
    /// The memory tier.
    pub memory: MemoryReport,
    /// The vector tier, where there is one.
    pub store: Option<StoreReport>,
    /// The write-behind queue.
    pub writes: WritesReport,
    /// The embedder, where there is one.
    pub embed: Option<EmbedReport>,
    /// The upstreams.
    pub upstreams: Vec<UpstreamReport>,
    /// Requests in flight.
    pub flights: FlightReport,
}

/// What the cache spared the upstreams.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Saved {
    /// Prompt and answer tokens.
    pub tokens: u64,
    /// Time that the upstreams had needed.
    pub upstream_seconds: f64,
    /// US dollars, of models that have a price in `[prices]`.
    pub usd: f64,
    /// Tokens of models that have none.
    pub unpriced_tokens: u64,
    /// When the prices were looked up.
    pub priced_at: Option<String>,
}

/// Quantiles of durations, by nearest rank, off by at most 1.6 % (64 ns below 4 us).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// The mean, exact.
    pub mean_ms: f64,
    /// The median.
    pub p50_ms: f64,
    /// 90 % took at most so long.
    pub p90_ms: f64,
    /// 95 % took at most so long.
    pub p95_ms: f64,
    /// 99 % took at most so long.
    pub p99_ms: f64,
}

impl Latency {
    /// `None` where nothing was measured.
    pub(super) fn of(snapshot: &Snapshot) -> Option<Self> {
        // To a ten-thousandth: more digits than the histogram knows would only be noise.
        let ms = |span: Duration| (span.as_secs_f64() * 1e7).round() / 1e4;
        let at = |rank| snapshot.quantile(rank).map(ms);
        Some(Self {
            count: snapshot.count(),
            mean_ms: ms(snapshot.mean()?),
            p50_ms: at(0.5)?,
            p90_ms: at(0.9)?,
            p95_ms: at(0.95)?,
            p99_ms: at(0.99)?,
        })
    }
}

impl Stats {
    pub(super) fn read(observer: &Observer, sources: &dyn Sources) -> Self {
        let metrics = &observer.metrics;
        let requests: BTreeMap<_, _> =
            Outcome::ALL.map(|outcome| (outcome.name(), observer.requests(outcome))).into();
        let first = |outcome: Outcome| &metrics.first_tokens[outcome as usize];
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: observer.began.elapsed().as_secs_f64(),
            hit_rate: hit_rate(|outcome| observer.requests(outcome)),
            requests,
            bypass_reasons: metrics.reasons.counts().into_iter().collect(),
            verdicts: metrics.verdicts.counts().into_iter().collect(),
            saved: Saved {
                tokens: metrics.saved_tokens.get(),
                upstream_seconds: metrics.saved_upstream_seconds.get(),
                usd: metrics.saved_usd.get(),
                unpriced_tokens: metrics.unpriced_tokens.get(),
                priced_at: observer.settings.prices.date().map(str::to_owned),
            },
            latency: by_outcome(|outcome| Latency::of(&metrics.whole(outcome).snapshot())),
            first_token: by_outcome(|outcome| Latency::of(&first(outcome).snapshot())),
            stages: by_outcome(|outcome| {
                named(Stage::ALL.map(Stage::name), &metrics.budgets[outcome as usize])
            }),
            parts: by_outcome(|outcome| {
                named(Part::ALL.map(Part::name), &metrics.budget_parts[outcome as usize])
            }),
            inter_token: Latency::of(&metrics.inter_tokens.snapshot()),
            slo: observer.slos(),
            similarity: metrics.similarities.read(),
            belief: metrics.beliefs.read(),
            semantic: sources.semantic(),
            memory: sources.memory(),
            store: sources.store(),
            writes: sources.writes(),
            embed: sources.embed(),
            upstreams: sources.upstreams(),
            flights: sources.flights(),
        }
    }
}

/// Hits among requests that the cache was asked for.
pub(super) fn hit_rate(requests: impl Fn(Outcome) -> u64) -> f64 {
    let sum = |wanted: fn(Outcome) -> bool| -> u64 {
        Outcome::ALL.into_iter().filter(|outcome| wanted(*outcome)).map(&requests).sum()
    };
    let hits = sum(Outcome::spared_upstream);
    let asked = hits + sum(|outcome| outcome == Outcome::Miss);
    if asked == 0 { 0.0 } else { hits as f64 / asked as f64 }
}

/// What there is of each outcome.
fn by_outcome<T>(read: impl Fn(Outcome) -> Option<T>) -> BTreeMap<&'static str, T> {
    Outcome::ALL.into_iter().filter_map(|outcome| Some((outcome.name(), read(outcome)?))).collect()
}

/// Each of them that ever happened; `None` where none did.
fn named<const N: usize>(
    names: [&'static str; N],
    times: &[Quantiles; N],
) -> Option<BTreeMap<&'static str, Latency>> {
    let named: BTreeMap<_, _> = names
        .into_iter()
        .zip(times)
        .filter_map(|(name, times)| Some((name, Latency::of(&times.snapshot())?)))
        .collect();
    (!named.is_empty()).then_some(named)
}
