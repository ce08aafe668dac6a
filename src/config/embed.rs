//! `[embed]`: the embedding model.

use std::path::PathBuf;

use serde::Deserialize;

use super::{Secret, Span, units};
use crate::embed::local::Provider;

/// The embedding model.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Embed {
    /// Where vectors are computed.
    pub kind: EmbedKind,
    /// A folder or a fastembed model's name; on a server its model's name.
    pub model: String,
    /// What computes, in this process.
    pub provider: Provider,
    /// An embedding server's base URL.
    pub url: String,
    /// What lets us in there.
    #[serde(deserialize_with = "units::secret")]
    pub api_key: Option<Secret>,
    /// For one text at a server.
    pub timeout: Span,
    /// Tokens that a server's model sees.
    pub window_tokens: usize,
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

/// Where vectors are computed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum EmbedKind {
    /// In this process.
    Local,
    /// By a server with OpenAI's API.
    OpenAi,
    /// By text-embeddings-inference.
    Tei,
}
