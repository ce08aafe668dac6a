//! `[cache]`: what is kept, for whom, and how it is replayed.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, de::Error};

use super::{Semantic, Size, Span, units};
use crate::wire::Template;

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
    /// A stream's events when they once came; what is no stream at once.
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

impl<'de> Deserialize<'de> for ScopeRule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        match text.as_str() {
            "credential" => Ok(Self::Credential),
            "shared" => Ok(Self::Shared),
            other => other
                .strip_prefix("header:")
                .and_then(|name| http::HeaderName::from_str(name).ok())
                .map(Self::Header)
                .ok_or_else(|| {
                    D::Error::custom(format!(
                        "expected \"credential\", \"shared\" or \"header:NAME\", not \"{text}\""
                    ))
                }),
        }
    }
}
