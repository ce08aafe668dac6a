//! `[cache.semantic]`: how a near prompt is matched and judged.

use serde::Deserialize;

use super::{Size, Span, units};
use crate::cache::verdict::Policy;

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
    /// Room for vectors of questions that were asked before and of answers that were compared.
    pub vectors_bytes: Size,
    /// The language model that compares answers.
    pub judge: Judge,
}

/// Serve or only count.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Hits are served.
    Serve,
    /// Hits are counted and the request is forwarded.
    Shadow,
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
