//! Room 9: what happened, how long each part of it took, and what it saved.
//!
//! One [`Record`] per request is filled as the request walks through the rooms, inside a
//! [`RecordGuard`] that finishes it exactly once, also when the client leaves and every future of
//! the request is dropped. Finishing updates the metrics (a handful of atomic additions through
//! handles that were resolved before) and writes one structured access record. Nothing here looks
//! at prompt text; it is passed on to the access record only where the configuration says so.

#[cfg(test)]
mod dashboards;
mod history;
mod live;
pub mod log;
mod metrics;
mod names;
mod outcome;
mod process;
mod quantiles;
mod recent;
mod record;
mod request_id;
mod similarity;
mod sources;
mod stages;
mod stats;
mod wrong_hits;

use std::{sync::Arc, time::SystemTime};

use http::HeaderMap;
use parking_lot::RwLock;
use tokio::time::Instant;

use self::{
    history::{History, Totals},
    metrics::Metrics,
    recent::Recent,
    request_id::RequestIds,
};
pub use self::{
    history::{Point, SAMPLE_EVERY},
    live::{Cursor, Live},
    outcome::{BodyEnd, Outcome},
    recent::Row,
    record::{Record, RecordGuard},
    request_id::RequestId,
    similarity::Similarity,
    sources::{
        EmbedReport, FlightReport, MemoryReport, ReplicaReport, SemanticReport, Sources,
        UpstreamReport, WritesReport,
    },
    stages::{STAGE_COUNT, Stage, Stages},
    stats::{Latency, Saved, Stats},
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
#[derive(Clone, Copy, Debug)]
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
}

/// One upstream as metrics see it, with its counters already looked up.
///
/// Its two labels come from the configuration, never from a request: the number of series is
/// bounded by the number of upstreams.
pub struct Route {
    /// The upstream's name.
    pub name: Arc<str>,
    /// The API that it speaks.
    pub dialect: &'static str,
    outcomes: metrics::OutcomeCounters,
}

/// Where finished requests go.
pub struct Observer {
    settings: Settings,
    metrics: Metrics,
    routes: RwLock<Vec<Arc<Route>>>,
    unrouted: Arc<Route>,
    ids: RequestIds,
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
            dialect: "none",
            outcomes: metrics.outcome_counters("none", "none"),
        });
        Ok(Arc::new(Self {
            settings,
            metrics,
            routes: RwLock::new(vec![Arc::clone(&unrouted)]),
            unrouted,
            ids: RequestIds::new(),
            recent: Recent::new(),
            history: History::new(),
            began: Instant::now(),
            began_at: SystemTime::now(),
        }))
    }

    /// The handle of an upstream; the same one for the same names, so a reload may ask again.
    pub fn route(&self, name: &str, dialect: &'static str) -> Arc<Route> {
        let mut routes = self.routes.write();
        let known = routes.iter().find(|route| &*route.name == name && route.dialect == dialect);
        if let Some(route) = known {
            return Arc::clone(route);
        }
        let outcomes = self.metrics.outcome_counters(name, dialect);
        let route = Arc::new(Route { name: name.into(), dialect, outcomes });
        routes.push(Arc::clone(&route));
        route
    }

    /// The handle of requests that reached no upstream's route (`none`).
    pub fn unrouted(&self) -> Arc<Route> {
        Arc::clone(&self.unrouted)
    }

    /// The client's `x-request-id` where it is one, else a new id.
    pub fn request_id(&self, headers: &HeaderMap) -> RequestId {
        self.ids.of(headers)
    }

    /// Starts the record of one request: its clock runs from here.
    pub fn begin(self: &Arc<Self>, request_id: RequestId) -> RecordGuard {
        RecordGuard::new(Arc::clone(self), Record::new(request_id, self.unrouted()))
    }

    /// Counts one finished request, writes its access record, and keeps it among the latest ones;
    /// what is left in its place is an older one.
    fn finish(&self, record: &mut Box<Record>) {
        self.metrics.count(record);
        if self.settings.access == AccessLog::Written {
            record.log();
        }
        record.forget_prompt();
        self.recent.keep(record);
    }

    /// Everything in Prometheus' text format (version 0.0.4).
    ///
    /// # Errors
    /// A value that the format cannot hold.
    pub fn scrape(&self, sources: &dyn Sources) -> Result<String, prometheus::Error> {
        let mut families = self.metrics.gather();
        families.extend(sources::families(sources)?);
        families.extend(process::families(self.began_at)?);
        families.sort_by(|one, other| one.name().cmp(other.name()));
        prometheus::TextEncoder::new().encode_to_string(&families)
    }

    /// The same for programs and the dashboard.
    pub fn stats(&self, sources: &dyn Sources) -> Stats {
        Stats::read(self, sources)
    }

    /// Adds a point to the history; to be called each [`SAMPLE_EVERY`].
    pub fn sample(&self) {
        let whole = |outcome| self.metrics.whole(outcome).snapshot();
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

    fn requests(&self, outcome: Outcome) -> u64 {
        self.routes.read().iter().map(|route| route.outcomes[outcome as usize].get()).sum()
    }
}

#[cfg(test)]
pub(crate) mod tests;
