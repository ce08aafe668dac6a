//! What model servers say of themselves: queue, KV cache and GPU memory, read from their own
//! Prometheus endpoints where an upstream names one (`metrics = "/metrics"`).
//!
//! It is looked at, and never acted on: a server whose metrics cannot be read serves all the same.

mod exposition;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::config::{Config, Upstream};

/// Often enough to see a queue grow.
const EVERY: Duration = Duration::from_secs(5);

/// A page of metrics takes milliseconds; a server that hangs is not waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// A vLLM's page is some 100 KiB.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// What one replica says of itself; what its kind of server does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServerReport {
    /// Its page could be read the last time.
    pub readable: bool,
    /// Requests that it works on.
    pub running: Option<f64>,
    /// Requests that wait inside it.
    pub waiting: Option<f64>,
    /// How full its KV cache is, 0..=1.
    pub kv_cache: Option<f64>,
    /// Memory of its GPUs that is used, bytes.
    pub gpu_memory: Option<f64>,
    /// Memory that its GPUs have, bytes.
    pub gpu_memory_max: Option<f64>,
    /// How busy its GPUs are on average, 0..=1.
    pub gpu_busy: Option<f64>,
}

/// The latest reports, and the tasks that get them; dropping it ends them.
#[derive(Default)]
pub struct Sight {
    latest: Arc<Mutex<BTreeMap<String, ServerReport>>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Sight {
    /// Watches each replica of each upstream that names a metrics path, and no other any more.
    pub fn watch(&self, config: &Config) {
        let mut tasks = JoinSet::new();
        for upstream in config.upstream.iter().filter(|upstream| !upstream.metrics.is_empty()) {
            let client = match client(upstream) {
                Ok(client) => client,
                Err(reason) => {
                    tracing::error!(upstream = upstream.name, reason, "its metrics are not read");
                    continue;
                }
            };
            for url in upstream.urls.iter().filter(|url| url.starts_with("http")) {
                let page = format!("{}{}", url.trim_end_matches('/'), upstream.metrics);
                tasks.spawn(watch(client.clone(), url.clone(), page, self.latest.clone()));
            }
        }
        // Those of before end here; what they said goes with them.
        *self.tasks.lock() = tasks;
        self.latest.lock().clear();
    }

    /// What a replica said last; `None` where it is not watched, or was not asked yet.
    pub fn of(&self, url: &str) -> Option<ServerReport> {
        self.latest.lock().get(url.trim_end_matches('/')).cloned()
    }
}

fn client(upstream: &Upstream) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder().no_proxy().timeout(PATIENCE);
    if let Some(path) = &upstream.ca {
        let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let pem = std::fs::read(path).map_err(|error| told(&error))?;
        let roots = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| told(&error))?;
        builder = builder.tls_certs_only(roots);
    }
    builder.build().map_err(|error| error.to_string())
}

async fn watch(
    client: reqwest::Client,
    url: String,
    page: String,
    latest: Arc<Mutex<BTreeMap<String, ServerReport>>>,
) {
    let key = url.trim_end_matches('/').to_owned();
    let mut readable = true;
    loop {
        let read = read(&client, &page).await;
        if read.is_err() && readable {
            let reason = read.as_ref().err().map_or("", String::as_str);
            tracing::warn!(page, reason, "a model server's metrics cannot be read; said once");
        }
        readable = read.is_ok();
        let report = read.map_or_else(|_| ServerReport::default(), |text| exposition::read(&text));
        latest.lock().insert(key.clone(), report);
        tokio::time::sleep(EVERY).await;
    }
}

async fn read(client: &reqwest::Client, page: &str) -> Result<String, String> {
    let told = |error: reqwest::Error| error.without_url().to_string();
    let mut answer = client.get(page).send().await.map_err(told)?;
    if !answer.status().is_success() {
        return Err(format!("status {}", answer.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(told)? {
        if body.len() + chunk.len() > PAGE_BYTES_MAX {
            return Err(format!("more than {PAGE_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).map_err(|error| error.to_string())
}
