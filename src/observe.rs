//! Room 9: what happened, how long each part of it took, and what it saved.
//!
//! One [`Record`] per request is filled as the request walks through the rooms, inside a
//! [`RecordGuard`] that finishes it exactly once, also when the client leaves and every future of
//! the request is dropped. Finishing updates the metrics (a handful of atomic additions through
//! handles that were resolved before) and writes one structured access record. Nothing here looks
//! at prompt text; it is passed on to the access record only where the configuration says so.

mod bins;
#[cfg(test)]
mod dashboards;
mod exemplars;
mod history;
mod live;
pub mod log;
mod metrics;
mod models;
mod names;
mod open_metrics;
mod outcome;
mod parts;
mod prices;
mod process;
mod quantiles;
mod recent;
mod record;
mod request_id;
mod slo;
mod sources;
mod stages;
mod stats;
pub mod trace;
mod wrong_hits;

use std::{
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use http::HeaderMap;
use parking_lot::RwLock;
use prometheus::proto::MetricFamily;
use tokio::time::Instant;

use crate::{config::Telemetry, store::EntryId};

pub use self::{
    bins::Binned,
    history::{Point, SAMPLE_EVERY},
    live::{Cursor, Live},
    outcome::{BodyEnd, Outcome},
    parts::{PART_COUNT, Part},
    prices::PriceTable,
    recent::Row,
    record::{Record, RecordGuard},
    request_id::RequestId,
    slo::{Promise, SloReport},
    sources::{
        EmbedReport, FlightReport, FrontReport, MemoryReport, ReplicaReport, SemanticReport,
        Sources, UpstreamReport, WritesReport,
    },
    stages::{STAGE_COUNT, Stage, Stages},
    stats::{Latency, Saved, Stats},
    trace::TraceContext,
};
use self::{
    history::{History, Totals},
    metrics::Metrics,
    recent::Recent,
    request_id::RequestIds,
    slo::Slo,
    trace::{Exporter, Kept, TraceFault, Tracer},
};

/// Whether prompt text may be seen by people who read logs and the admin API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompts {
    /// The default: text is dropped where it arrives.
    Withheld,
    /// `log.prompts = true`.
    Shown,
}

/// Whether each request is written to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// The default: one record a request.
    Written,
    /// `log.access = false`: metrics only.
    Silent,
}

/// What an [`Observer`] has to know at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Prompt text in access records.
    pub prompts: Prompts,
    /// One record a request.
    pub access: AccessLog,
    /// The closed names of `reprise_bypass_total{reason}`: each exists at zero from the start, so
    /// that a rate over it is right from its first increment.
    pub reasons: &'static [&'static str],
    /// The same for `reprise_verdict_total{verdict}`.
    pub verdicts: &'static [&'static str],
    /// What models cost.
    pub prices: PriceTable,
}

/// One upstream as metrics see it, with its counters already looked up.
///
/// Its two labels come from the configuration and a closed list, never from a request: the number
/// of series is bounded by the upstreams times the dialects that they are asked in.
pub struct Route {
    /// The upstream's name.
    pub name: Arc<str>,
    /// The dialect of its requests, `none` for what no dialect claims.
    pub dialect: Arc<str>,
    outcomes: metrics::OutcomeCounters,
    /// Shared by all dialects of the upstream.
    slo: Arc<OnceLock<Slo>>,
}

/// Where finished requests go.
pub struct Observer {
    settings: Settings,
    metrics: Metrics,
    routes: RwLock<Vec<Arc<Route>>>,
    unrouted: Arc<Route>,
    ids: RequestIds,
    tracer: OnceLock<Tracer>,
    recent: Recent,
    history: History,
    began: Instant,
    began_at: SystemTime,
}

impl Observer {
    /// An observer that has seen nothing yet.
    ///
    /// # Errors
    /// Two metrics of the same name: a bug of ours, found at start.
    pub fn new(settings: Settings) -> Result<Arc<Self>, prometheus::Error> {
        let metrics = Metrics::new(&settings)?;
        let unrouted = Arc::new(Route {
            name: "none".into(),
            dialect: "none".into(),
            outcomes: metrics.outcome_counters("none", "none"),
            slo: Arc::default(),
        });
        Ok(Arc::new(Self {
            settings,
            metrics,
            routes: RwLock::new(vec![Arc::clone(&unrouted)]),
            unrouted,
            ids: RequestIds::new(),
            tracer: OnceLock::new(),
            recent: Recent::new(),
            history: History::new(),
            began: Instant::now(),
            began_at: SystemTime::now(),
        }))
    }

    /// The handle of an upstream and a dialect; the same one for the same names.
    pub fn route(&self, name: &str, dialect: &str) -> Arc<Route> {
        let is_it = |route: &&Arc<Route>| *route.name == *name && *route.dialect == *dialect;
        if let Some(known) = self.routes.read().iter().find(is_it) {
            return Arc::clone(known);
        }
        let mut routes = self.routes.write();
        if let Some(known) = routes.iter().find(is_it) {
            return Arc::clone(known);
        }
        let outcomes = self.metrics.outcome_counters(name, dialect);
        let sibling =
            routes.iter().find_map(|route| (*route.name == *name).then(|| route.slo.clone()));
        let slo = sibling.unwrap_or_default();
        let route = Arc::new(Route { name: name.into(), dialect: dialect.into(), outcomes, slo });
        routes.push(Arc::clone(&route));
        route
    }

    /// What is promised to those who use a route; said again, the last word counts.
    pub fn promise(&self, route: &Route, promise: Promise) {
        route.slo.get_or_init(|| self.metrics.slo(&route.name, promise)).renew(promise);
    }

    /// The handle of requests that reached no upstream's route (`none`).
    pub fn unrouted(&self) -> Arc<Route> {
        Arc::clone(&self.unrouted)
    }

    /// The client's `x-request-id` where it is one, else a new id.
    pub fn request_id(&self, headers: &HeaderMap) -> RequestId {
        self.ids.of(headers)
    }

    /// Sends traces from here on; to be called once, before there are requests. The exporter is to
    /// be closed at the end of the process.
    ///
    /// # Errors
    /// A collector's address or TLS that cannot be used. One that does not answer is no error.
    pub fn start_traces(&self, config: &Telemetry) -> Result<Exporter, TraceFault> {
        let (tracer, exporter) = Tracer::start(config, self.metrics.traces.clone())?;
        // A second tracer would be dropped, and its exporter would end for want of a sender.
        let _ = self.tracer.set(tracer);
        Ok(exporter)
    }

    /// Starts the record of one request: its clock runs from here.
    pub fn begin(self: &Arc<Self>, request_id: RequestId) -> RecordGuard {
        RecordGuard::new(Arc::clone(self), Record::new(request_id, self.unrouted()))
    }

    /// Counts one finished request, writes its access record, and keeps it among the latest ones;
    /// what is left in its place is an older one.
    fn finish(&self, record: &mut Box<Record>) {
        self.metrics.count(record, &self.settings.prices);
        if let Some(slo) = record.route.slo.get() {
            slo.count(record);
        }
        if let Some(tracer) = self.tracer.get()
            && tracer.offer(record) == Kept::Yes
        {
            self.metrics.exemplify(record);
        }
        if self.settings.access == AccessLog::Written {
            record.log();
        }
        record.forget_prompt();
        self.recent.keep(record);
    }

    /// An entry's answer turned out to be wrong: the latest requests that got it are worth their
    /// trace, whatever their lot said.
    pub fn wrong(&self, entry: EntryId) {
        let Some(tracer) = self.tracer.get() else { return };
        for (record, ended) in self.recent.answered_by(entry) {
            tracer.wrong(record, ended);
        }
    }

    /// Notes how surely the nearest answer was believed right, in 0..=1, and whether it was served.
    pub fn believed(&self, alpha: f64, served: bool) {
        let served = if served { bins::Served::Yes } else { bins::Served::No };
        self.metrics.beliefs.add(alpha as f32, served);
    }

    /// Everything in Prometheus' text format (version 0.0.4).
    ///
    /// # Errors
    /// A value that the format cannot hold.
    pub fn scrape(&self, sources: &dyn Sources) -> Result<String, prometheus::Error> {
        prometheus::TextEncoder::new().encode_to_string(&self.families(sources)?)
    }

    /// The same in the OpenMetrics format, which has exemplars, and what that is called in
    /// `Content-Type`.
    ///
    /// # Errors
    /// A value that the format cannot hold.
    pub fn scrape_open(
        &self,
        sources: &dyn Sources,
    ) -> Result<(&'static str, String), prometheus::Error> {
        let families = self.families(sources)?;
        let text = open_metrics::render(&families, &self.metrics.exemplars);
        Ok((open_metrics::CONTENT_TYPE, text))
    }

    fn families(&self, sources: &dyn Sources) -> Result<Vec<MetricFamily>, prometheus::Error> {
        let mut families = self.metrics.gather();
        families.extend(sources::families(sources)?);
        families.extend(slo::families(&self.slos())?);
        families.extend(process::families(self.began_at)?);
        families.sort_by(|one, other| one.name().cmp(other.name()));
        Ok(families)
    }

    /// The same for programs and the dashboard.
    pub fn stats(&self, sources: &dyn Sources) -> Stats {
        Stats::read(self, sources)
    }

    /// Adds a point to the history; to be called each [`SAMPLE_EVERY`].
    pub fn sample(&self) {
        let whole = |outcome| self.metrics.whole(outcome).snapshot();
        for route in self.promised() {
            if let Some(slo) = route.slo.get() {
                slo.sample();
            }
        }
        self.history.add(&Totals {
            requests: Outcome::ALL.map(|outcome| self.requests(outcome)),
            hits: whole(Outcome::HitExact)
                .plus(&whole(Outcome::HitSemantic))
                .plus(&whole(Outcome::HitStale)),
            misses: whole(Outcome::Miss),
        });
    }

    /// What is new since `cursor`, which moves on; a new cursor gets everything that is kept.
    pub fn live(&self, sources: &dyn Sources, cursor: &mut Cursor) -> Live {
        Live::read(self, sources, cursor)
    }

    /// Whether prompt text may be shown to people.
    pub fn prompts(&self) -> Prompts {
        self.settings.prompts
    }

    /// How each promise is kept.
    fn slos(&self) -> Vec<SloReport> {
        let report = |route: &Arc<Route>| Some(route.slo.get()?.report(&route.name));
        self.promised().iter().filter_map(report).collect()
    }

    /// One route of each upstream of which something is promised.
    fn promised(&self) -> Vec<Arc<Route>> {
        let routes = self.routes.read();
        let mut promised: Vec<Arc<Route>> = Vec::new();
        for route in routes.iter().filter(|route| route.slo.get().is_some()) {
            if promised.iter().all(|known| known.name != route.name) {
                promised.push(Arc::clone(route));
            }
        }
        promised
    }

    fn requests(&self, outcome: Outcome) -> u64 {
        self.routes.read().iter().map(|route| route.outcomes[outcome as usize].get()).sum()
    }
}

#[cfg(test)]
pub(crate) mod tests;
