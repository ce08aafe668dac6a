//! What the other rooms say of themselves when somebody looks: gauges and running totals.
//!
//! The rooms do not know Prometheus; the composition root turns their own reports into these. They
//! are read at each scrape, so a series of a replica that is gone goes with it.

use std::collections::BTreeMap;

use prometheus::{Counter, GaugeVec, Opts, core::Collector, proto::MetricFamily};
use serde::Serialize;

use super::wrong_hits;
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

/// All of it as Prometheus families.
pub(super) fn families(sources: &dyn Sources) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let mut sampled = Sampled(Vec::new());
    front(&mut sampled, &sources.front())?;
    memory(&mut sampled, &sources.memory())?;
    writes(&mut sampled, &sources.writes())?;
    flights(&mut sampled, &sources.flights())?;
    if let Some(report) = sources.store() {
        store(&mut sampled, &report)?;
    }
    if let Some(report) = sources.embed() {
        embed(&mut sampled, &report)?;
    }
    upstreams(&mut sampled, &sources.upstreams())?;
    wrong_hits::families(&mut sampled, &sources.semantic().verdict)?;
    sampled.counter(
        "reprise_log_dropped_lines_total",
        "Lines of the log that were dropped since nobody read it fast enough.",
        sources.dropped_log_lines(),
    )?;
    Ok(sampled.0)
}

pub(super) type Done = Result<(), prometheus::Error>;

fn front(out: &mut Sampled, report: &FrontReport) -> Done {
    out.gauge("reprise_client_connections", "Open client connections.", report.connections)?;
    out.gauge(
        "reprise_requests_in_flight",
        "Requests inside, each to the end of its body.",
        report.requests,
    )?;
    let help = "Bytes of request bodies that are held.";
    out.gauge("reprise_request_bodies_bytes", help, report.bodies_bytes)?;
    let help = "Client connections accepted.";
    out.counter("reprise_client_connections_total", help, report.accepted_total)?;
    let help = "TLS handshakes that failed or took too long.";
    out.counter("reprise_tls_handshake_failures_total", help, report.handshake_failures_total)?;
    let help = "Connections and streams given up because their client took nothing.";
    out.counter("reprise_client_stalls_total", help, report.stalls_total)?;
    let pairs = |[applied, refused]: [u64; 2]| {
        [("applied", applied), ("refused", refused)]
            .map(|(result, count)| (vec![result.to_owned()], count as f64))
    };
    let help = "Certificates that changed on disk, by what became of them.";
    let values = pairs(report.certificates);
    out.labelled(Family::Counter, "reprise_tls_reloads_total", help, &["result"], values)?;
    let help = "Reloads of the configuration, by what became of them.";
    let values = pairs(report.configurations);
    out.labelled(Family::Counter, "reprise_config_reloads_total", help, &["result"], values)
}

fn memory(out: &mut Sampled, report: &MemoryReport) -> Done {
    out.gauge("reprise_memory_entries", "Entries of the memory tier.", report.entries)?;
    out.gauge("reprise_memory_bytes", "Size of the memory tier.", report.bytes)?;
    out.gauge("reprise_memory_max_bytes", "The most that the memory tier holds.", report.max_bytes)
}

fn writes(out: &mut Sampled, report: &WritesReport) -> Done {
    out.gauge("reprise_store_write_queue", "Answers waiting to be written.", report.queued)?;
    let results = [
        ("written", report.written_total),
        ("dropped", report.dropped_total),
        ("failed", report.failed_total),
        ("too_large", report.too_large_total),
        ("purged", report.purged_total),
    ];
    out.labelled(
        Family::Counter,
        "reprise_store_writes_total",
        "Answers handed to the vector tier, by what became of them.",
        &["result"],
        results.map(|(result, count)| (vec![result.to_owned()], count as f64)),
    )
}

fn store(out: &mut Sampled, report: &StoreReport) -> Done {
    out.gauge("reprise_store_records", "Records of the vector tier.", report.records)?;
    out.gauge("reprise_store_disk_bytes", "Size of the vector tier on disk.", report.disk_bytes)?;
    out.labelled(
        Family::Gauge,
        "reprise_store_up",
        "1 while the vector tier works, 0 while something is wrong with it.",
        &["kind"],
        [(vec![report.kind.to_owned()], f64::from(u8::from(report.trouble.is_none())))],
    )
}

fn embed(out: &mut Sampled, report: &EmbedReport) -> Done {
    out.gauge("reprise_embed_queue", "Prompts waiting to be embedded.", report.queued)?;
    out.gauge("reprise_embed_queue_max", "The most that may wait.", report.queue_max)?;
    out.gauge("reprise_embed_threads", "Threads that embed.", report.threads)?;
    out.labelled(
        Family::Counter,
        "reprise_embed_texts_total",
        "Texts that were to be embedded, by what became of them.",
        &["result"],
        report.texts.iter().map(|(name, count)| (vec![(*name).to_owned()], *count as f64)),
    )?;
    let help = "Time that the embedder's answers took, queueing included.";
    let seconds = [(Vec::new(), report.seconds_total)];
    out.labelled(Family::Counter, "reprise_embed_seconds_total", help, &[], seconds)?;
    out.labelled(
        Family::Gauge,
        "reprise_embed_up",
        "1 while the embedder works, 0 while something is wrong with it.",
        &["model"],
        [(vec![report.model.clone()], f64::from(u8::from(report.trouble.is_none())))],
    )
}

fn flights(out: &mut Sampled, report: &FlightReport) -> Done {
    out.gauge("reprise_flight_running", "Answers being made now.", report.running)?;
    out.gauge("reprise_flight_bytes", "Bytes of answers being made now.", report.bytes)?;
    out.gauge("reprise_flight_max_bytes", "The most that they may hold.", report.max_bytes)?;
    let help = "Requests that joined another one's answer.";
    out.counter("reprise_flight_joined_total", help, report.joined_total)
}

fn upstreams(out: &mut Sampled, reports: &[UpstreamReport]) -> Done {
    let whole = |value: fn(&UpstreamReport) -> u64| -> Vec<(Vec<String>, f64)> {
        reports.iter().map(|it| (vec![it.name.clone()], value(it) as f64)).collect()
    };
    let help = "Exchanges that went on to another upstream because this one failed.";
    let values = whole(|upstream| upstream.failovers_total);
    out.labelled(Family::Counter, "reprise_upstream_failovers_total", help, &["route"], values)?;
    let help = "Exchanges that a second replica was asked for because the first was slow.";
    let values = whole(|upstream| upstream.hedges_total);
    out.labelled(Family::Counter, "reprise_upstream_hedges_total", help, &["route"], values)?;
    let help = "Requests that wait in line for their turn at the upstream.";
    let values = whole(|upstream| upstream.waiting);
    out.labelled(Family::Gauge, "reprise_upstream_queue", help, &["route"], values)?;
    let help = "Requests that were refused a turn at the upstream.";
    let values = whole(|upstream| upstream.refused_total);
    out.labelled(
        Family::Counter,
        "reprise_upstream_queue_refused_total",
        help,
        &["route"],
        values,
    )?;
    let each = |value: fn(&ReplicaReport) -> u64| -> Vec<(Vec<String>, f64)> {
        let series = |upstream: &UpstreamReport, replica: &ReplicaReport| {
            (vec![upstream.name.clone(), replica.url.clone()], value(replica) as f64)
        };
        reports
            .iter()
            .flat_map(|upstream| upstream.replicas.iter().map(move |it| series(upstream, it)))
            .collect()
    };
    let labels = ["route", "replica"];
    let help = "Requests that the replica works on.";
    let values = each(|replica| replica.in_flight);
    out.labelled(Family::Gauge, "reprise_upstream_in_flight", help, &labels, values)?;
    let help = "Open connections to the replica that nobody uses now.";
    let values = each(|replica| replica.idle_connections);
    out.labelled(Family::Gauge, "reprise_upstream_idle_connections", help, &labels, values)?;
    let help = "Open HTTP/2 connections to the replica.";
    let values = each(|replica| replica.shared_connections);
    out.labelled(Family::Gauge, "reprise_upstream_shared_connections", help, &labels, values)?;
    let help = "Connections opened to the replica.";
    let values = each(|replica| replica.connections_total);
    out.labelled(Family::Counter, "reprise_upstream_connections_total", help, &labels, values)?;
    let help = "1 while the replica is asked, 0 while it is ejected.";
    let values = each(|replica| u64::from(replica.state != "ejected"));
    out.labelled(Family::Gauge, "reprise_upstream_up", help, &labels, values)?;
    let help = "Exchanges that the replica was given.";
    let values = each(|replica| replica.exchanges_total);
    out.labelled(Family::Counter, "reprise_upstream_exchanges_total", help, &labels, values)?;
    let help = "Exchanges that the replica failed.";
    let values = each(|replica| replica.failures_total);
    out.labelled(Family::Counter, "reprise_upstream_failures_total", help, &labels, values)?;
    let help = "Smoothed time to the replica's response head.";
    let mut values = each(|replica| replica.first_byte_us);
    values.iter_mut().for_each(|(_, us)| *us /= 1e6);
    out.labelled(Family::Gauge, "reprise_upstream_first_byte_seconds", help, &labels, values)?;
    servers(out, reports)
}

/// What model servers say of themselves: only those that say it have series.
fn servers(out: &mut Sampled, reports: &[UpstreamReport]) -> Done {
    let mut each = |name, help, value: fn(&ServerReport) -> Option<f64>| {
        let series = |upstream: &UpstreamReport, replica: &ReplicaReport| {
            let value = value(replica.server.as_ref()?)?;
            Some((vec![upstream.name.clone(), replica.url.clone()], value))
        };
        let all = reports.iter().flat_map(|upstream| {
            upstream.replicas.iter().filter_map(move |replica| series(upstream, replica))
        });
        out.labelled(Family::Gauge, name, help, &["route", "replica"], all.collect::<Vec<_>>())
    };
    let help = "1 while the model server's own metrics can be read.";
    each("reprise_server_up", help, |it| Some(f64::from(u8::from(it.readable))))?;
    let help = "Requests that the model server works on, as it says.";
    each("reprise_server_running", help, |it| it.running)?;
    let help = "Requests that wait inside the model server, as it says.";
    each("reprise_server_waiting", help, |it| it.waiting)?;
    let help = "How full the model server's KV cache is.";
    each("reprise_server_kv_cache_ratio", help, |it| it.kv_cache)?;
    let help = "Memory of the model server's GPUs that is used.";
    each("reprise_server_gpu_memory_bytes", help, |it| it.gpu_memory)?;
    let help = "Memory that the model server's GPUs have.";
    each("reprise_server_gpu_memory_max_bytes", help, |it| it.gpu_memory_max)?;
    let help = "How busy the model server's GPUs are.";
    each("reprise_server_gpu_busy_ratio", help, |it| it.gpu_busy)
}

/// What kind of metric a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Goes up and down.
    Gauge,
    /// Only goes up.
    Counter,
}

/// Families made of values that were read just now.
pub(super) struct Sampled(pub(super) Vec<MetricFamily>);

impl Sampled {
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) -> Done {
        self.labelled(Family::Gauge, name, help, &[], [(Vec::new(), value as f64)])
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> Done {
        self.labelled(Family::Counter, name, help, &[], [(Vec::new(), value as f64)])
    }

    /// One family with a series for each set of label values. Nothing to show, no family.
    pub(super) fn labelled(
        &mut self,
        family: Family,
        name: &str,
        help: &str,
        labels: &[&str],
        series: impl IntoIterator<Item = (Vec<String>, f64)>,
    ) -> Done {
        let options = Opts::new(name, help);
        let mut collected = match family {
            Family::Gauge => {
                let vec = GaugeVec::new(options, labels)?;
                for (values, value) in series {
                    vec.get_metric_with_label_values(&values)?.set(value);
                }
                vec.collect()
            }
            Family::Counter => {
                let vec = prometheus::CounterVec::new(options, labels)?;
                for (values, value) in series {
                    let counter: Counter = vec.get_metric_with_label_values(&values)?;
                    // `inc_by` panics below zero.
                    counter.inc_by(value.max(0.0));
                }
                vec.collect()
            }
        };
        collected.retain(|family| !family.get_metric().is_empty());
        self.0.append(&mut collected);
        Ok(())
    }
}
