//! What the other rooms say of themselves when somebody looks: gauges and running totals.
//!
//! The rooms do not know Prometheus; the composition root turns their own reports into these. They
//! are read at each scrape, so a series of a replica that is gone goes with it.

mod families;
mod sampled;

use std::collections::BTreeMap;

use serde::Serialize;

pub(super) use self::{
    families::families,
    sampled::{Done, Family, Sampled},
};
use crate::{cache::VerdictReport, store::StoreReport, upstream::sight::ServerReport};

/// Where the reports come from. Each call is cheap and never waits.
pub trait Sources: Send + Sync + 'static {
    /// The memory tier.
    fn memory(&self) -> MemoryReport;
    /// The vector tier; `None` where it is off or not open yet.
    fn store(&self) -> Option<StoreReport>;
    /// The write-behind queue to the vector tier.
    fn writes(&self) -> WritesReport;
    /// The embedder; `None` where it is off or not loaded yet.
    fn embed(&self) -> Option<EmbedReport>;
    /// Each configured upstream.
    fn upstreams(&self) -> Vec<UpstreamReport>;
    /// Requests in flight.
    fn flights(&self) -> FlightReport;
    /// What decides on near prompts.
    fn semantic(&self) -> SemanticReport;
    /// Connections of clients, and what was taken over while serving.
    fn front(&self) -> FrontReport {
        FrontReport::default()
    }
    /// Lines of the log that found its buffer full: [`super::log::Dropped::total`].
    fn dropped_log_lines(&self) -> u64;
}

/// What decides on near prompts, as configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SemanticReport {
    /// `cache.semantic.policy`.
    pub policy: &'static str,
    /// `cache.semantic.mode`.
    pub mode: &'static str,
    /// `cache.semantic.min_similarity`.
    pub min_similarity: f32,
    /// How often it is wrong, and who says so.
    #[serde(flatten)]
    pub verdict: VerdictReport,
}

/// Connections of clients, and what was taken over while serving.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FrontReport {
    /// Open now.
    pub connections: u64,
    /// Accepted so far.
    pub accepted_total: u64,
    /// TLS handshakes that failed or took too long.
    pub handshake_failures_total: u64,
    /// Connections and streams given up because their client took nothing.
    pub stalls_total: u64,
    /// Requests in flight, each to the end of its body.
    pub requests: u64,
    /// Bytes of request bodies that are held.
    pub bodies_bytes: u64,
    /// Tasks alive on all runtimes: a number that grows without traffic is a leak.
    pub tasks: u64,
    /// New certificates: taken over, refused.
    pub certificates: [u64; 2],
    /// Reloads of the configuration: applied, refused.
    pub configurations: [u64; 2],
}

/// The memory tier.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoryReport {
    /// Entries that it holds.
    pub entries: u64,
    /// Their size.
    pub bytes: u64,
    /// `cache.max_bytes`.
    pub max_bytes: u64,
}

/// The write-behind queue to the vector tier.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WritesReport {
    /// Answers that wait.
    pub queued: u64,
    /// Answers written.
    pub written_total: u64,
    /// Answers that found the queue full.
    pub dropped_total: u64,
    /// Answers that the store refused.
    pub failed_total: u64,
    /// Answers larger than what the store takes: in memory only.
    pub too_large_total: u64,
    /// Answers that were purged while they waited.
    pub purged_total: u64,
    /// Answers larger than all that their tenant may have.
    pub over_quota_total: u64,
    /// What went by itself, by why.
    pub evicted_total: BTreeMap<&'static str, u64>,
}

/// The embedder.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EmbedReport {
    /// The model's name.
    pub model: String,
    /// Length of its vectors.
    pub dimension: u64,
    /// Threads that embed.
    pub threads: u64,
    /// Prompts that wait.
    pub queued: u64,
    /// `embed.queue`.
    pub queue_max: u64,
    /// Texts by what became of them: closed names.
    pub texts: BTreeMap<&'static str, u64>,
    /// Texts that needed none of it: their vector was remembered.
    pub remembered_total: u64,
    /// Time that answers took, queueing included.
    pub seconds_total: f64,
    /// What is wrong with it, while it is: its tier is off then.
    pub trouble: Option<String>,
}

/// One upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct UpstreamReport {
    /// Its name in the configuration.
    pub name: String,
    /// Its replicas.
    pub replicas: Vec<ReplicaReport>,
    /// Exchanges that went on to another upstream.
    pub failovers_total: u64,
    /// Exchanges that a second replica was asked for because the first was slow.
    pub hedges_total: u64,
    /// Calls that began before their lookup had ended.
    pub speculated_total: u64,
    /// Those of them that a hit made unwanted, or whose client left.
    pub speculated_in_vain_total: u64,
    /// Requests that wait in line for their turn.
    pub waiting: u64,
    /// Requests that were refused a turn.
    pub refused_total: u64,
}

/// One replica of an upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReplicaReport {
    /// Its base URL.
    pub url: String,
    /// Requests that it works on.
    pub in_flight: u64,
    /// Open connections that nobody uses now.
    pub idle_connections: u64,
    /// Open connections that many requests share (HTTP/2).
    pub shared_connections: u64,
    /// Connections opened so far.
    pub connections_total: u64,
    /// `healthy`, `holding`, `ejected` or `probing`. Only `ejected` counts as down.
    pub state: &'static str,
    /// Exchanges that it was given.
    pub exchanges_total: u64,
    /// Those that it failed.
    pub failures_total: u64,
    /// Smoothed time to the response head, microseconds; 0 before the first.
    pub first_byte_us: u64,
    /// What it says of itself, where it is asked.
    pub server: Option<ServerReport>,
}

/// Requests in flight that others may join.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FlightReport {
    /// Running answers.
    pub running: u64,
    /// Bytes that the logs of running answers hold.
    pub bytes: u64,
    /// `cache.flights_bytes`.
    pub max_bytes: u64,
    /// Requests that joined another's answer.
    pub joined_total: u64,
}
