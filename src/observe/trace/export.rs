//! The task that sends finished requests to the collector.

use std::{collections::HashMap, str::FromStr as _, time::Duration};

use http::{HeaderName, HeaderValue, Uri};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{
    ExporterBuildError, RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
    WithTonicConfig as _,
};
use opentelemetry_sdk::{Resource, trace::SpanExporter as _};
use tokio::{sync::mpsc, task::JoinHandle, time};
use tokio_util::sync::CancellationToken;
use tonic::{
    metadata::MetadataMap,
    transport::{ClientTlsConfig, Endpoint},
};

use super::{Fates, Finished, spans};
use crate::config::{OtlpProtocol, Telemetry};

/// Requests in one message: some 3,000 spans, well below a collector's limit of 4 MiB.
const BATCH: usize = 256;

/// How long the first request of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);

/// One message, its retries included.
const SEND_TIME: Duration = Duration::from_secs(10);

/// What is left at the end of the process has so long.
const LAST_SEND: Duration = Duration::from_secs(3);

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
pub enum TraceFault {
    /// The collector's address or its TLS cannot be used.
    #[error("telemetry.otlp_endpoint: {0}")]
    Endpoint(String),
}

impl From<ExporterBuildError> for TraceFault {
    fn from(error: ExporterBuildError) -> Self {
        Self::Endpoint(error.to_string())
    }
}

/// The running task.
pub struct Exporter {
    closing: CancellationToken,
    task: JoinHandle<()>,
}

impl Exporter {
    pub(super) fn start(
        config: &Telemetry,
        finished: mpsc::Receiver<Finished>,
        fates: Fates,
    ) -> Result<Self, TraceFault> {
        let endpoint = config.otlp_endpoint.clone().unwrap_or_default();
        let mut exporter = match config.protocol {
            OtlpProtocol::Grpc => grpc(&endpoint, &config.headers)?,
            OtlpProtocol::Http => http(&endpoint, &config.headers)?,
        };
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder()
            .with_service_name(config.service.clone())
            .with_attribute(version)
            .build();
        exporter.set_resource(&resource);
        let sender = Sender { exporter, endpoint, fates, reachable: true };
        let closing = CancellationToken::new();
        let task = tokio::spawn(run(finished, sender, closing.clone()));
        Ok(Self { closing, task })
    }

    /// Sends what is queued, within a few seconds, and ends.
    pub async fn close(self) {
        self.closing.cancel();
        let _ = time::timeout(LAST_SEND, self.task).await;
    }
}

/// Three attempts; the next batch waits meanwhile, and the queue behind it is bounded.
fn retries() -> RetryPolicy {
    RetryPolicy::recommended().with_max_retries(2)
}

fn grpc(endpoint: &str, headers: &HashMap<String, String>) -> Result<SpanExporter, TraceFault> {
    let told = |error: &dyn std::error::Error| TraceFault::Endpoint(error.to_string());
    let mut channel = Endpoint::from_shared(endpoint.to_owned()).map_err(|error| told(&error))?;
    if channel.uri().scheme() == Some(&http::uri::Scheme::HTTPS) {
        let tls = ClientTlsConfig::new().with_native_roots();
        channel = channel.tls_config(tls).map_err(|error| told(&error))?;
    }
    let mut metadata = http::HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_str(name).map_err(|error| told(&error))?;
        metadata.insert(name, HeaderValue::from_str(value).map_err(|error| told(&error))?);
    }
    let channel = channel.timeout(SEND_TIME).connect_lazy();
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_channel(channel)
        .with_metadata(MetadataMap::from_headers(metadata))
        .with_timeout(SEND_TIME)
        .with_retry_policy(retries())
        .build()?;
    Ok(exporter)
}

fn http(endpoint: &str, headers: &HashMap<String, String>) -> Result<SpanExporter, TraceFault> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(traces_url(endpoint))
        .with_headers(headers.clone())
        .with_timeout(SEND_TIME)
        .with_retry_policy(retries())
        .build()?;
    Ok(exporter)
}

/// A bare address gets the path that OTLP/HTTP has for traces; one with a path is taken as it is.
fn traces_url(endpoint: &str) -> String {
    let bare = endpoint.parse::<Uri>().is_ok_and(|uri| uri.path() == "/");
    match bare {
        true => format!("{}/v1/traces", endpoint.trim_end_matches('/')),
        false => endpoint.to_owned(),
    }
}

async fn run(
    mut finished: mpsc::Receiver<Finished>,
    mut sender: Sender,
    closing: CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            added = finished.recv_many(&mut batch, BATCH) => if added == 0 { return },
            () = closing.cancelled() => break,
        }
        let deadline = time::sleep(GATHER);
        tokio::pin!(deadline);
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            tokio::select! {
                added = finished.recv_many(&mut batch, room) => if added == 0 { break },
                () = &mut deadline => break,
                () = closing.cancelled() => break,
            }
        }
        sender.send(&mut batch).await;
    }
    finished.close();
    while finished.recv_many(&mut batch, BATCH).await > 0 {
        sender.send(&mut batch).await;
    }
}

struct Sender {
    exporter: SpanExporter,
    endpoint: String,
    fates: Fates,
    /// As of the last message: only a change is logged.
    reachable: bool,
}

impl Sender {
    async fn send(&mut self, batch: &mut Vec<Finished>) {
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        let scope = InstrumentationScope::builder("reprise")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        let spans = batch.drain(..).flat_map(|one| spans::of(&one, &scope)).collect();
        match Box::pin(self.exporter.export(spans)).await {
            Ok(()) => {
                self.fates.exported.inc_by(count);
                if !self.reachable {
                    tracing::info!(endpoint = self.endpoint, "the trace collector is back");
                }
                self.reachable = true;
            }
            Err(error) => {
                self.fates.failed.inc_by(count);
                if self.reachable {
                    tracing::warn!(
                        endpoint = self.endpoint,
                        %error,
                        "traces cannot be sent and are lost, counted in reprise_traces_total; \
                         said once until they can"
                    );
                }
                self.reachable = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_address_gets_the_path_of_traces() {
        for (endpoint, url) in [
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c:4318/", "http://c:4318/v1/traces"),
            ("https://api.honeycomb.io/v1/traces", "https://api.honeycomb.io/v1/traces"),
        ] {
            assert_eq!(traces_url(endpoint), url);
        }
    }
}
