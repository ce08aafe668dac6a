//! `[[upstream]]`: a model server with its replicas, what goes there, and what it promises.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, de::Error};

use super::{Span, units};
use crate::wire::dialects::Family;

/// One named model server with its replicas.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Its name in metrics, errors and purges.
    #[serde(default)]
    pub name: String,
    /// Base URLs of its replicas, `http://` or `https://`, with an optional path prefix.
    #[serde(default)]
    pub urls: Vec<String>,
    /// Which APIs it speaks.
    #[serde(default)]
    pub dialect: Family,
    /// Path prefixes that it serves.
    #[serde(default = "everywhere")]
    pub routes: Vec<String>,
    /// Models that it serves, `*` at the end standing for any rest; empty: all.
    #[serde(default)]
    pub models: Vec<String>,
    /// Names that clients use for models, and those that this server knows them by.
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    /// Request headers that must be there with these values.
    #[serde(default)]
    pub headers: Headers,
    /// Names of the upstreams that are asked when this one fails, in this order.
    #[serde(default)]
    pub failover: Vec<String>,
    /// How long a first token may take before a second replica is asked too.
    #[serde(default, deserialize_with = "units::optional")]
    pub hedge: Option<Span>,
    /// Share of the calls that may be asked of two replicas.
    #[serde(default = "hedge_share")]
    pub hedge_share: f64,
    /// Share of the lookups in the store whose call may have begun in vain; 0: none begins ahead.
    #[serde(default)]
    pub speculate: f64,
    /// Exchanges that all its replicas together may have at once; 0: any number.
    #[serde(default)]
    pub concurrency: usize,
    /// Requests that may wait for their turn then.
    #[serde(default = "queue")]
    pub queue: usize,
    /// How long one may wait.
    #[serde(default = "queue_time")]
    pub queue_time: Span,
    /// HTTP/2 with prior knowledge to `http://` replicas.
    #[serde(default)]
    pub http2: bool,
    /// PEM roots that `https://` replicas are checked against; the system's without it.
    #[serde(default, deserialize_with = "units::optional")]
    pub ca: Option<PathBuf>,
    /// PEM chain of the certificate that we show to `https://` replicas.
    #[serde(default, deserialize_with = "units::optional")]
    pub cert: Option<PathBuf>,
    /// Its PEM key.
    #[serde(default, deserialize_with = "units::optional")]
    pub key: Option<PathBuf>,
    /// How a replica is chosen.
    #[serde(default)]
    pub balance: BalanceRule,
    /// Path of a health check; empty: none.
    #[serde(default)]
    pub check: String,
    /// Connections to each replica that are opened ahead.
    #[serde(default)]
    pub warm: usize,
    /// Life of its answers, where another than `cache.ttl`.
    #[serde(default, deserialize_with = "units::optional_span")]
    pub ttl: Option<Span>,
    /// What its `Cache-Control: no-store` and `private` mean.
    #[serde(default)]
    pub no_store: NoStore,
    /// Path of the replicas' own Prometheus metrics; empty: they are not looked at.
    #[serde(default)]
    pub metrics: String,
    /// What is promised: the first piece of an answer within so long. Empty: nothing.
    #[serde(default, deserialize_with = "units::optional_span")]
    pub budget: Option<Span>,
    /// For this share of the requests.
    #[serde(default = "most")]
    pub budget_share: f64,
}

/// What an answer's `Cache-Control: no-store` or `private` means.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum NoStore {
    /// What it says: the answer is not kept.
    #[default]
    Heed,
    /// Nothing: some web frameworks send it with every stream, whatever is in it.
    Ignore,
}

/// How a replica is chosen.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum BalanceRule {
    /// Of two drawn ones, the one with the lower estimated wait.
    #[default]
    Latency,
    /// The one whose KV cache holds the beginning of the prompt, unless it is too loaded.
    Prefix,
}

/// Headers with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(http::HeaderName, http::HeaderValue)>);

fn most() -> f64 {
    0.99
}

fn everywhere() -> Vec<String> {
    vec!["/".into()]
}

fn queue() -> usize {
    256
}

fn queue_time() -> Span {
    Span(Duration::from_secs(10))
}

fn hedge_share() -> f64 {
    0.05
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let pairs = BTreeMap::<String, String>::deserialize(from)?;
        let parse = |(name, value): (String, String)| {
            let name: http::HeaderName =
                name.parse().map_err(|_| D::Error::custom(format!("`{name}` is not a header")))?;
            let value = value
                .parse()
                .map_err(|_| D::Error::custom(format!("{name}: not a header's value")))?;
            Ok((name, value))
        };
        pairs.into_iter().map(parse).collect::<Result<_, _>>().map(Self)
    }
}
