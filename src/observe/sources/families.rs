//! The reports as Prometheus families: names, helps and labels stand here and nowhere else.

use prometheus::proto::MetricFamily;

use super::{
    Done, EmbedReport, Family, FlightReport, FrontReport, MemoryReport, ReplicaReport, Sampled,
    Sources, UpstreamReport, WritesReport,
};
use crate::{observe::wrong_hits, store::StoreReport, upstream::sight::ServerReport};

/// All of it as Prometheus families.
pub(in crate::observe) fn families(
    sources: &dyn Sources,
) -> Result<Vec<MetricFamily>, prometheus::Error> {
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

fn front(out: &mut Sampled, report: &FrontReport) -> Done {
    out.gauge("reprise_client_connections", "Open client connections.", report.connections)?;
    out.gauge(
        "reprise_requests_in_flight",
        "Requests inside, each to the end of its body.",
        report.requests,
    )?;
    let help = "Bytes of request bodies that are held.";
    out.gauge("reprise_request_bodies_bytes", help, report.bodies_bytes)?;
    out.gauge("reprise_tasks", "Tasks alive on all runtimes.", report.tasks)?;
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
        ("over_quota", report.over_quota_total),
    ];
    out.labelled(
        Family::Counter,
        "reprise_store_evicted_total",
        "What the vector tier let go of by itself: answers past their tenant's quota, records past \
         the disk's, records past their life.",
        &["reason"],
        report.evicted_total.iter().map(|(reason, count)| (vec![(*reason).into()], *count as f64)),
    )?;
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
    out.gauge(
        "reprise_store_unindexed",
        "Records changed since the last optimization.",
        report.unindexed,
    )?;
    out.labelled(
        Family::Gauge,
        "reprise_store_up",
        "1 while the vector tier works, 0 while it does not.",
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
    let help = "Texts whose vector was remembered: they were not embedded.";
    out.counter("reprise_embed_remembered_total", help, report.remembered_total)?;
    let help = "Time that the embedder's answers took, queueing included.";
    let seconds = [(Vec::new(), report.seconds_total)];
    out.labelled(Family::Counter, "reprise_embed_seconds_total", help, &[], seconds)?;
    out.labelled(
        Family::Gauge,
        "reprise_embed_up",
        "1 while the embedder works, 0 while it does not.",
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
    let help = "Calls that began before their lookup had ended.";
    let values = whole(|upstream| upstream.speculated_total);
    out.labelled(Family::Counter, "reprise_upstream_speculated_total", help, &["route"], values)?;
    let help = "Calls that began before their lookup had ended, and were in vain.";
    let name = "reprise_upstream_speculated_in_vain_total";
    let values = whole(|upstream| upstream.speculated_in_vain_total);
    out.labelled(Family::Counter, name, help, &["route"], values)?;
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
