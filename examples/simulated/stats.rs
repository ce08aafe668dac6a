//! What arrived and how it ended: `/sim/stats` for tests, `/metrics` as a model server has it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::request::Parts;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// The counts of one server.
#[derive(Clone, Default)]
pub(crate) struct Stats(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    by_path: BTreeMap<String, u64>,
    by_version: BTreeMap<String, u64>,
    in_flight: u64,
    in_flight_max: u64,
    completed: u64,
    aborted: u64,
    bytes_sent: u64,
    connections: u64,
    last_abort: Option<Duration>,
    last_request: Value,
}

impl Stats {
    /// Counts a connection.
    pub(crate) fn connected(&self) {
        self.0.lock().connections += 1;
    }

    /// Counts a request; the returned [`Call`] says how it ends.
    pub(crate) fn begin(&self, request: &Parts) -> Call {
        let headers: Vec<_> = request
            .headers
            .iter()
            .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
            .collect();
        let version = format!("{:?}", request.version);
        let mut counts = self.0.lock();
        *counts.by_path.entry(request.uri.path().to_owned()).or_default() += 1;
        *counts.by_version.entry(version.clone()).or_default() += 1;
        counts.in_flight += 1;
        counts.in_flight_max = counts.in_flight_max.max(counts.in_flight);
        counts.last_request = json!({
            "method": request.method.as_str(), "target": request.uri.to_string(),
            "version": version, "headers": headers,
        });
        drop(counts);
        Call { stats: self.clone(), ended: false }
    }

    /// Adds the body to the record of the last request, as a hash: tests compare it to what they
    /// sent.
    pub(crate) fn body(&self, body: &[u8]) {
        let hash = blake3::hash(body).to_hex();
        let mut counts = self.0.lock();
        counts.last_request["body_bytes"] = body.len().into();
        counts.last_request["body_blake3"] = hash.as_str().into();
    }

    /// Forgets everything but the requests in flight.
    pub(crate) fn reset(&self) {
        let mut counts = self.0.lock();
        *counts = Counts { in_flight: counts.in_flight, ..Counts::default() };
    }

    /// The body of `GET /sim/stats`. Times are Unix milliseconds.
    pub(crate) fn json(&self) -> Value {
        let counts = self.0.lock();
        json!({
            "calls": counts.by_path,
            "calls_total": counts.by_path.values().sum::<u64>(),
            "versions": counts.by_version,
            "in_flight": counts.in_flight,
            "in_flight_max": counts.in_flight_max,
            "completed": counts.completed,
            "aborted": counts.aborted,
            "bytes_sent": counts.bytes_sent,
            "connections": counts.connections,
            "last_abort_ms": counts.last_abort.map(|at| at.as_millis() as u64),
            "now_ms": now().as_millis() as u64,
            "last_request": counts.last_request,
        })
    }

    /// The body of `GET /metrics`, with the names of vLLM's gauges.
    pub(crate) fn prometheus(&self, model: &str) -> String {
        let counts = self.0.lock();
        let rows = [
            ("num_requests_running", "gauge", counts.in_flight),
            ("num_requests_waiting", "gauge", 0),
            ("kv_cache_usage_perc", "gauge", 0),
            ("request_success_total", "counter", counts.completed),
        ];
        let mut text = String::new();
        for (name, kind, value) in rows {
            let series = format!("vllm:{name}{{model_name=\"{model}\"}}");
            // Writing into a string cannot fail.
            let _ = writeln!(text, "# TYPE vllm:{name} {kind}\n{series} {value}");
        }
        text
    }
}

/// One request in flight. Dropping it before [`Call::complete`] counts the request as aborted: that
/// is how a client that hangs up shows.
pub(crate) struct Call {
    stats: Stats,
    ended: bool,
}

impl Call {
    /// Counts `bytes` of an answer.
    pub(crate) fn sent(&self, bytes: usize) {
        self.stats.0.lock().bytes_sent += bytes as u64;
    }

    /// The answer was sent to its end.
    pub(crate) fn complete(mut self) {
        self.ended = true;
        self.stats.0.lock().completed += 1;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut counts = self.stats.0.lock();
        counts.in_flight = counts.in_flight.saturating_sub(1);
        if !self.ended {
            counts.aborted += 1;
            counts.last_abort = Some(now());
        }
    }
}

/// Time since the Unix epoch.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
