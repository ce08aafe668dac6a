//! `[telemetry]`: where traces go, and which.

use std::collections::HashMap;

use serde::Deserialize;

use super::{Span, units};

/// Where traces go.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// An OpenTelemetry collector's address; none: no traces.
    #[serde(deserialize_with = "units::optional")]
    pub otlp_endpoint: Option<String>,
    /// What it speaks.
    pub protocol: OtlpProtocol,
    /// Sent with each message: credentials of hosted collectors.
    pub headers: HashMap<String, String>,
    /// Our name in traces.
    pub service: String,
    /// Share of ordinary requests that is kept; slow, failed and audited ones always are.
    pub sample: f64,
    /// A first piece of the answer later than this is slow.
    pub slow: Span,
    /// Requests that may wait to be sent.
    pub queue: usize,
}

impl std::fmt::Debug for Telemetry {
    /// Never prints the headers' values.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Telemetry")
            .field("otlp_endpoint", &self.otlp_endpoint)
            .field("protocol", &self.protocol)
            .field("headers", &self.headers.keys())
            .field("sample", &self.sample)
            .field("slow", &self.slow)
            .finish_non_exhaustive()
    }
}

/// OTLP's two usual transports.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum OtlpProtocol {
    /// gRPC, usually on port 4317.
    Grpc,
    /// Protobuf over HTTP, usually on port 4318.
    Http,
}
