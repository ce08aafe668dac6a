//! Configuration: raw TOML becomes a checked [`Config`]; after that nobody validates again.
//!
//! `config/reprise.toml` is compiled in and is the defaults, so documentation and defaults cannot
//! drift. Four sources lie on top of one another: those defaults, the user's file, the environment,
//! flags. [`load`] reports everything that is wrong at once, each with its key and where it stands.

mod changes;
mod check;
mod layers;
mod secret;
mod units;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use serde::Deserialize;

pub use self::{
    changes::{Change, changes},
    layers::{Overrides, Problem, Problems, load},
    secret::{Secret, SecretKey},
    units::{Size, Span},
};

/// The annotated defaults.
pub const DEFAULTS: &str = include_str!("../config/reprise.toml");

/// Everything that can be set, checked.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// Server certificates.
    pub tls: Tls,
    /// APIs that are described here rather than built in, by name.
    #[serde(default)]
    pub dialect: BTreeMap<String, Custom>,
    /// Model servers; at least one.
    #[serde(default)]
    pub upstream: Vec<Upstream>,
    /// What one client may take.
    pub limits: Limits,
    /// How long upstreams may take.
    pub timeouts: Timeouts,
    /// What is kept and for whom.
    pub cache: Cache,
    /// The embedding model.
    pub embed: Embed,
    /// The vector tier.
    pub store: Store,
    /// The admin listener's rights.
    pub admin: Admin,
    /// What is logged.
    pub log: Log,
    /// Where traces go.
    pub telemetry: Telemetry,
    /// What models cost.
    pub prices: Prices,
    /// How to stop.
    pub drain: Drain,
}

/// Where to listen.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Clear-text HTTP/1.1 and HTTP/2.
    #[serde(deserialize_with = "units::optional")]
    pub http: Option<SocketAddr>,
    /// TLS.
    #[serde(deserialize_with = "units::optional")]
    pub https: Option<SocketAddr>,
    /// A unix socket's path.
    #[serde(deserialize_with = "units::optional")]
    pub unix: Option<PathBuf>,
    /// Metrics, health, statistics.
    #[serde(deserialize_with = "units::optional")]
    pub admin: Option<SocketAddr>,
    /// Proxies before us whose word on who the client is counts.
    pub trusted: Trusted,
    /// Connections from trusted proxies begin with the PROXY protocol.
    pub proxy_protocol: bool,
}

/// Proxies whose word on who the client is counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    /// By their addresses.
    pub networks: Vec<ipnet::IpNet>,
    /// Whoever may open our socket file.
    pub unix: bool,
}

impl Trusted {
    /// Whether a peer is one of them; `None` came over the unix socket.
    pub fn covers(&self, address: Option<std::net::IpAddr>) -> bool {
        match address {
            Some(address) => self.networks.iter().any(|network| network.contains(&address)),
            None => self.unix,
        }
    }
}

/// Server certificates.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM chain.
    #[serde(deserialize_with = "units::optional")]
    pub cert: Option<PathBuf>,
    /// PEM key.
    #[serde(deserialize_with = "units::optional")]
    pub key: Option<PathBuf>,
    /// More certificates, each for the names that it bears.
    #[serde(default)]
    pub certificates: Vec<Pair>,
    /// PEM roots that clients' certificates are checked against; without it none is asked for.
    #[serde(deserialize_with = "units::optional")]
    pub client_ca: Option<PathBuf>,
    /// PEM lists of revoked client certificates.
    #[serde(deserialize_with = "units::optional")]
    pub client_crl: Option<PathBuf>,
    /// Make a certificate for localhost at start.
    pub self_signed: bool,
    /// The oldest protocol version offered.
    pub min_version: TlsVersion,
    /// Application protocols that are offered, best first.
    pub alpn: Vec<Alpn>,
}

/// A certificate and its key.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// PEM chain.
    pub cert: PathBuf,
    /// PEM key.
    pub key: PathBuf,
}

/// An application protocol.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/2.
    #[serde(rename = "h2")]
    H2,
    /// HTTP/1.1.
    #[serde(rename = "http/1.1")]
    Http11,
}

/// A TLS protocol version.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}

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

/// Headers with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(http::HeaderName, http::HeaderValue)>);

/// The wire's own words: which APIs an upstream speaks, and where a wrapped question stands.
pub use crate::wire::{Template, custom::Custom, dialects::Family};

/// What one client may take from all others.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Open client connections.
    pub connections: usize,
    /// Requests in flight.
    pub requests: usize,
    /// Headers of a request.
    pub header_count: usize,
    /// Bytes of a request head.
    pub header_bytes: Size,
    /// Time for a request head.
    pub header_time: Span,
    /// Time for a TLS handshake.
    pub handshake_time: Span,
    /// Bytes of a request body that is read to be cached.
    pub body_bytes: Size,
    /// Silence inside a request body.
    pub body_idle: Span,
    /// Time for a whole request body.
    pub body_time: Span,
    /// How long a client may take nothing of its answer.
    pub write_stall: Span,
    /// Concurrent streams of an HTTP/2 connection.
    pub h2_streams: u32,
    /// Bytes of all request bodies that are read to be cached, together.
    pub bodies_bytes: Size,
    /// Requests of one tenant in a minute; 0: any number.
    pub tenant_requests: u64,
    /// Tokens that upstreams compute for one tenant in a minute; 0: any number.
    pub tenant_tokens: u64,
}

/// How long upstreams may take.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// TCP connect.
    pub connect: Span,
    /// TLS handshake.
    pub handshake: Span,
    /// Request sent to response head.
    pub first_byte: Span,
    /// Request sent to the first event of a streamed answer.
    pub first_token: Span,
    /// Silence inside a response.
    pub idle: Span,
    /// A whole exchange.
    pub lifetime: Span,
    /// Silence both ways on a connection that became a websocket.
    pub tunnel_idle: Span,
    /// How long an unused connection is kept.
    pub pool_idle: Span,
}

/// What is kept and for whom.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Off: a plain proxy.
    pub enabled: bool,
    /// Life of an answer from its generation.
    pub ttl: Span,
    /// How long past its life an answer may still be served stale.
    pub grace: Span,
    /// The memory tier's size.
    pub max_bytes: Size,
    /// The largest answer that is kept.
    pub max_entry: Size,
    /// Who shares answers.
    pub scope: ScopeRule,
    /// When a hit is sent.
    pub replay: Replay,
    /// Whose ids and times a hit carries.
    pub replay_identity: Identity,
    /// Which token counts a hit carries.
    pub replay_usage: ReplayUsage,
    /// Finish answers that nobody waits for any more.
    pub finish_abandoned: bool,
    /// Hotter requests are not cached.
    pub max_temperature: f64,
    /// Request fields that are not part of the key.
    pub ignore_fields: Vec<String>,
    /// How prompts that wrap their question are written.
    #[serde(default)]
    pub template: Vec<Template>,
    /// Names of KServe's BYTES inputs that hold a question.
    pub text_inputs: Vec<String>,
    /// Request headers that are part of the key.
    #[serde(deserialize_with = "units::header_names")]
    pub vary_headers: Vec<http::HeaderName>,
    /// Bytes of one running answer that late joiners can get.
    pub flight_bytes: Size,
    /// The same for all running answers together.
    pub flights_bytes: Size,
    /// Matching by meaning.
    pub semantic: Semantic,
}

/// When a hit is sent.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Replay {
    /// At once.
    Instant,
    /// After as long as the answer took to be generated: its time tells nobody that it was known.
    Paced,
    /// A stream's events spread evenly over the time that the answer took; what is no stream at once.
    Recorded,
}

/// Whose ids and times a replay carries.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// Those that were recorded.
    Verbatim,
    /// New ones.
    Fresh,
}

/// Which token counts a replay carries.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ReplayUsage {
    /// Those that were recorded.
    Verbatim,
    /// None were spent.
    Zero,
}

/// Who shares answers with whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScopeRule {
    /// Requests with the same `Authorization` / `x-api-key`.
    Credential,
    /// Requests with the same value of this header.
    Header(http::HeaderName),
    /// Everybody.
    Shared,
}

/// Matching by meaning.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Semantic {
    /// How a near prompt is judged.
    pub policy: Policy,
    /// Serve or only count.
    pub mode: Mode,
    /// Cosine from which a near prompt may be served, for the policy `threshold`.
    pub min_similarity: f32,
    /// Bound on wrong answers: per hit for `verified`, per request for `vcache`.
    pub max_wrong_hits: f64,
    /// Share of would-be hits that is forwarded to be checked.
    pub audit: f64,
    /// The longest life of an answer to a question whose truth moves with the clock.
    pub volatile_ttl: Span,
    /// Budget of embedding and search together.
    pub lookup_deadline: Span,
    /// How many near prompts are looked at.
    pub neighbours: usize,
    /// Names of the guards that are on.
    pub guards: Vec<String>,
    /// Words and phrases beside the built-in ones that make an answer depend on the clock; a trailing
    /// `*` stands for any ending.
    pub volatile: Vec<String>,
    /// Words that do not, though they are built in.
    pub stable: Vec<String>,
    /// Under [`ScopeRule::Shared`]: how many other clients' fresh answers must agree with an answer
    /// before it is shared by meaning.
    pub confirmations: usize,
    /// Under [`ScopeRule::Shared`]: near questions of one client a minute that are looked up by
    /// meaning; 0: no limit.
    pub probe_limit: u32,
    /// The language model that compares answers.
    pub judge: Judge,
}

/// A language model that compares answers: any OpenAI-compatible endpoint.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Judge {
    /// Its base URL, to which `/chat/completions` is added; `None`: no such judge.
    #[serde(deserialize_with = "units::optional")]
    pub url: Option<String>,
    /// The model's name there.
    pub model: String,
    /// Sent as a bearer token.
    #[serde(deserialize_with = "units::optional")]
    pub api_key: Option<String>,
    /// How long one comparison may take, waiting included.
    pub deadline: Span,
    /// Comparisons at once.
    pub concurrency: usize,
    /// Comparisons that may wait.
    pub queue: usize,
}

impl std::fmt::Debug for Judge {
    /// Never prints the key.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Judge")
            .field("url", &self.url)
            .field("model", &self.model)
            .field("api_key", &self.api_key.as_ref().map(|_| "***"))
            .finish_non_exhaustive()
    }
}

/// How a near prompt is judged: the verdict's own word.
pub use crate::cache::verdict::Policy;

/// Serve or only count.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Hits are served.
    Serve,
    /// Hits are counted and the request is forwarded.
    Shadow,
}

/// The embedding model.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Embed {
    /// A folder or a fastembed model's name.
    pub model: String,
    /// Embedding threads; 0 = half the cores.
    pub threads: usize,
    /// Prompts that may wait.
    pub queue: usize,
    /// Prompts embedded at once.
    pub max_batch: usize,
    /// ONNX Runtime's shared library.
    #[serde(deserialize_with = "units::optional")]
    pub ort_dylib: Option<PathBuf>,
}

/// The vector tier.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// Which database.
    pub kind: StoreKind,
    /// The embedded store's folder; learned state and the tenants' key live there in every case.
    pub path: PathBuf,
    /// Answers that may wait to be written.
    pub queue: usize,
    /// Changed entries before the index is rebuilt.
    pub compact_after: usize,
    /// The embedded store's size on disk.
    pub max_bytes: Size,
    /// A server's address.
    pub url: String,
    /// What a server lets us in by.
    #[serde(deserialize_with = "units::secret")]
    pub api_key: Option<Secret>,
    /// The beginning of our collections' names on a server.
    pub prefix: String,
    /// The most that one lookup on a server may take.
    pub timeout: Span,
    /// Lookups on a server at a time.
    pub in_flight: usize,
    /// Copies of a collection that a server keeps.
    pub replicas: u32,
    /// Parts that a server splits a collection into.
    pub shards: u32,
    /// Copies that must have a write before it counts (Qdrant).
    pub write_consistency: u32,
    /// The tenants' key, 64 hex digits, shared by all replicas on one store.
    #[serde(deserialize_with = "units::secret")]
    pub tenant_key: Option<SecretKey>,
}

/// Which vector database.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// Qdrant Edge in this process.
    Embedded,
    /// A Milvus server.
    Milvus,
    /// None: the memory tier only.
    Off,
}

impl StoreKind {
    /// Is it behind a network?
    pub const fn is_remote(self) -> bool {
        match self {
            Self::Milvus => true,
            Self::Embedded | Self::Off => false,
        }
    }
}

/// The admin listener's rights.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Bearer token for everything that writes.
    #[serde(deserialize_with = "units::optional")]
    pub token: Option<String>,
}

impl std::fmt::Debug for Admin {
    /// Never prints the token.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Admin").field("token", &self.token.as_ref().map(|_| "***")).finish()
    }
}

/// What is logged.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// A tracing filter.
    pub level: String,
    /// One record a request.
    pub access: bool,
    /// Prompt text in access records.
    pub prompts: bool,
}

/// For people or for machines.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

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

/// What models cost.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// When they were looked up; shown beside the sum.
    #[serde(deserialize_with = "units::optional")]
    pub date: Option<String>,
    /// By a model's name, or by a beginning of names that ends with `*`.
    pub models: BTreeMap<String, Price>,
}

/// US dollars per million tokens.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Of the prompt.
    #[serde(default)]
    pub input: f64,
    /// Of the answer.
    #[serde(default)]
    pub output: f64,
}

/// How to stop.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Not ready but still accepting.
    pub delay: Span,
    /// How long running requests may take to finish.
    pub deadline: Span,
}

impl Span {
    /// The duration itself.
    pub const fn get(self) -> Duration {
        self.0
    }
}
