//! Configuration: raw TOML becomes a checked [`Config`]; after that nobody validates again.
//!
//! `config/reprise.toml` is compiled in and is the defaults, so documentation and defaults cannot
//! drift. Four sources lie on top of one another: those defaults, the user's file, the environment,
//! flags. [`load`] reports everything that is wrong at once, each with its key and where it stands.

mod admin;
mod cache;
mod changes;
mod check;
mod embed;
mod layers;
mod limits;
mod listen;
mod log;
mod prices;
mod secret;
mod semantic;
mod store;
mod telemetry;
mod timeouts;
mod tls;
mod trusted;
mod units;
mod upstream;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use self::{
    admin::Admin,
    cache::{Cache, Identity, Replay, ReplayUsage, ScopeRule},
    changes::{Change, changes},
    embed::{Embed, EmbedKind},
    layers::{Overrides, Problem, Problems, load},
    limits::Limits,
    listen::Listen,
    log::{Log, LogFormat},
    prices::{Price, Prices},
    secret::{Secret, SecretKey},
    semantic::{Judge, Mode, Semantic},
    store::{Store, StoreKind},
    telemetry::{OtlpProtocol, Telemetry},
    timeouts::{Drain, Timeouts},
    tls::{Alpn, Pair, Tls, TlsVersion},
    trusted::Trusted,
    units::{Size, Span},
    upstream::{BalanceRule, Headers, NoStore, Upstream},
};
/// What other rooms name themselves: APIs and wrapped questions, where a model is computed, how a
/// near prompt is judged, how vectors are kept.
pub use crate::{
    cache::verdict::Policy,
    embed::local::Provider,
    store::Quantization,
    wire::{Template, custom::Custom, dialects::Family},
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
