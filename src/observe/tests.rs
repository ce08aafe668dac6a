//! What is observed, as those see it who ask.

mod exposition;
mod statistics;

use super::*;
use crate::{
    cache::{JudgeReport, VerdictReport, WrongHits},
    store::StoreReport,
    upstream::sight::ServerReport,
};

/// Rooms that all have something to say.
pub(crate) struct Rooms;

impl Sources for Rooms {
    fn memory(&self) -> MemoryReport {
        MemoryReport { entries: 3, bytes: 4096, max_bytes: 1 << 29 }
    }

    fn store(&self) -> Option<StoreReport> {
        Some(StoreReport { kind: "embedded", records: 7, disk_bytes: 9000, ..Default::default() })
    }

    fn writes(&self) -> WritesReport {
        WritesReport {
            queued: 1,
            written_total: 7,
            dropped_total: 2,
            evicted_total: [("disk", 0), ("tenant_bytes", 3)].into(),
            ..WritesReport::default()
        }
    }

    fn embed(&self) -> Option<EmbedReport> {
        Some(EmbedReport {
            model: "m".into(),
            dimension: 384,
            queued: 5,
            texts: [("vector", 8)].into(),
            ..Default::default()
        })
    }

    fn upstreams(&self) -> Vec<UpstreamReport> {
        let replica = |url: &str, in_flight| ReplicaReport {
            url: url.into(),
            in_flight,
            connections_total: 11,
            server: Some(ServerReport {
                readable: true,
                running: Some(8.0),
                waiting: Some(3.0),
                kv_cache: Some(0.5),
                gpu_memory: Some(1e9),
                gpu_memory_max: Some(8e9),
                ..Default::default()
            }),
            ..Default::default()
        };
        let replicas = vec![replica("http://a", 2), replica("http://b", 0)];
        vec![UpstreamReport { name: "vllm".into(), replicas, ..UpstreamReport::default() }]
    }

    fn flights(&self) -> FlightReport {
        FlightReport { running: 2, joined_total: 4, ..Default::default() }
    }

    fn semantic(&self) -> SemanticReport {
        let rate =
            WrongHits { tenant: "all".into(), point: 0.5, high: 1.0, ..WrongHits::default() };
        let judge = JudgeReport { state: "sound", judged_total: 3, ..JudgeReport::default() };
        SemanticReport {
            policy: "threshold",
            mode: "serve",
            min_similarity: 0.95,
            verdict: VerdictReport { wrong_hits: vec![rate], judge: Some(judge) },
        }
    }

    fn dropped_log_lines(&self) -> u64 {
        6
    }
}

fn settings() -> Settings {
    Settings {
        prompts: Prompts::Withheld,
        access: AccessLog::Written,
        reasons: &["no_store", "lookup_deadline"],
        verdicts: &["serve", "below_threshold"],
        prices: PriceTable::default(),
    }
}

pub(crate) fn observer() -> Arc<Observer> {
    Observer::new(settings()).unwrap()
}

/// Adds a finished request of `outcome`.
fn request(observer: &Arc<Observer>, outcome: Outcome, change: impl FnOnce(&mut Record)) {
    let mut guard = observer.begin(observer.request_id(&HeaderMap::new()));
    guard.route = observer.route("vllm", "openai");
    guard.outcome = outcome;
    change(&mut guard);
    guard.finish(BodyEnd::Complete);
}

fn line<'t>(text: &'t str, series: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
}
