//! `reprise stats`: what the cache does for its users, at a glance.

use std::fmt::Write as _;

use clap::Args;
use serde_json::Value;

use super::desk::{Address, Desk, DeskFault, print};
use crate::config::Config;

/// Which numbers, and of whom.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Stats {
    /// Where the running Reprise is.
    #[command(flatten)]
    pub address: Address,
    /// Everything, as the admin API says it.
    #[arg(long)]
    pub json: bool,
}

/// Prints the numbers since the process started.
///
/// # Errors
/// Nobody answers there.
pub fn run(wanted: &Stats, config: &Config) -> Result<(), DeskFault> {
    let stats = Desk::new(&wanted.address, config)?.get("/api/v1/stats")?;
    match wanted.json {
        true => print(&format!("{stats:#}\n")),
        false => print(&text(&stats)),
    }
}

// Writing to a string does not fail.
fn text(stats: &Value) -> String {
    let mut out = String::new();
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let _ = writeln!(
        out,
        "reprise {}, up {}",
        stats["version"].as_str().unwrap_or("?"),
        span(stats["uptime_seconds"].as_f64().unwrap_or(0.0))
    );
    let _ = writeln!(out, "\nhit rate  {:.1} %", 100.0 * stats["hit_rate"].as_f64().unwrap_or(0.0));
    for (outcome, count) in stats["requests"].as_object().into_iter().flatten() {
        let latency = &stats["latency"][outcome];
        let _ = write!(out, "  {outcome:<13}{:>10}", number(count));
        if latency.is_object() {
            let _ = write!(
                out,
                "  p50 {:>9}  p99 {:>9}",
                ms(&latency["p50_ms"]),
                ms(&latency["p99_ms"])
            );
        }
        out.push('\n');
    }
    savings(&mut out, &stats["saved"]);
    store(&mut out, &stats["writes"]);
    promises(&mut out, &stats["slo"]);
    upstreams(&mut out, &stats["upstreams"]);
    out
}

fn savings(out: &mut String, saved: &Value) {
    let _ = writeln!(
        out,
        "\nsaved     {} tokens, {} of upstream time, ${:.2}{}",
        saved["tokens"],
        span(saved["upstream_seconds"].as_f64().unwrap_or(0.0)),
        saved["usd"].as_f64().unwrap_or(0.0),
        match saved["priced_at"].as_str() {
            Some(date) => format!(" (prices of {date})"),
            None => String::new(),
        }
    );
}

/// What was written, and what had to go.
fn store(out: &mut String, writes: &Value) {
    let _ = write!(out, "store     {} answers written", writes["written_total"]);
    for (reason, count) in writes["evicted_total"].as_object().into_iter().flatten() {
        if count.as_u64() != Some(0) {
            let _ = write!(out, ", {count} evicted ({reason})");
        }
    }
    out.push('\n');
}

fn promises(out: &mut String, slos: &Value) {
    for slo in slos.as_array().into_iter().flatten() {
        let _ = writeln!(
            out,
            "budget    {}: {} ms for {} %, {} met, {} broken, burn rate {:.2} (5 min) {:.2} (1 h)",
            slo["route"].as_str().unwrap_or("?"),
            slo["budget_ms"],
            100.0 * slo["share"].as_f64().unwrap_or(0.0),
            slo["met"],
            slo["broken"],
            slo["burn_rate_5m"].as_f64().unwrap_or(0.0),
            slo["burn_rate_1h"].as_f64().unwrap_or(0.0),
        );
    }
}

fn upstreams(out: &mut String, upstreams: &Value) {
    for upstream in upstreams.as_array().into_iter().flatten() {
        for replica in upstream["replicas"].as_array().into_iter().flatten() {
            let _ = writeln!(
                out,
                "upstream  {} {}: {}, {} running, {} of {} failed",
                upstream["name"].as_str().unwrap_or("?"),
                replica["url"].as_str().unwrap_or("?"),
                replica["state"].as_str().unwrap_or("?"),
                replica["in_flight"],
                replica["failures_total"],
                replica["exchanges_total"],
            );
        }
    }
}

/// Milliseconds in the unit that suits them.
pub(super) fn ms(value: &Value) -> String {
    match value.as_f64() {
        None => "-".into(),
        Some(ms) if ms < 1.0 => format!("{:.0} us", ms * 1e3),
        Some(ms) if ms < 1000.0 => format!("{ms:.1} ms"),
        Some(ms) => span(ms / 1e3),
    }
}

/// Seconds in the unit that suits them.
pub(super) fn span(seconds: f64) -> String {
    match seconds {
        _ if seconds < 120.0 => format!("{seconds:.1} s"),
        _ if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        _ if seconds < 172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_statistics_can_be_read() {
        let observer = crate::observe::tests::observer();
        let stats = serde_json::to_value(observer.stats(&crate::observe::tests::Rooms)).unwrap();
        let text = text(&stats);
        assert!(text.contains("hit rate  0.0 %"), "{text}");
        assert!(text.contains("hit_exact"), "{text}");
        assert!(text.contains("upstream  vllm http://a"), "{text}");
        assert!(text.contains("saved     0 tokens"), "{text}");
        assert!(text.contains("store     7 answers written, 3 evicted (tenant_bytes)\n"), "{text}");
    }

    #[test]
    fn times_have_the_unit_that_suits_them() {
        let ms = |value: f64| ms(&value.into());
        assert_eq!([ms(0.05), ms(12.34), ms(2500.0)], ["50 us", "12.3 ms", "2.5 s"]);
        assert_eq!([span(90.0), span(600.0), span(36_000.0)], ["90.0 s", "10 min", "10.0 h"]);
    }
}
