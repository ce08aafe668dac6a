//! Room 5: a prompt becomes a unit vector.
//!
//! An embedder runs on its own threads behind a bounded queue: the runtime that accepts connections
//! never computes a vector, and a full queue is an answer ([`EmbedFault::Busy`]), not a wait.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;

/// A unit vector (L2 norm 1): the cosine of two is their dot product. Shared, never copied.
pub type Vector = Arc<[f32]>;

/// Which model makes the vectors. Vectors of two identities must never meet in one collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The model's name for people: `all-MiniLM-L6-v2`.
    pub name: String,
    /// First 16 hex digits of BLAKE3 over what determines the vectors (graph and tokenizer files).
    pub digest: String,
    /// Length of a vector.
    pub dimension: usize,
    /// The most tokens (special ones included) that the model sees; a longer text would be cut.
    pub window_tokens: usize,
}

/// What an embedder says of one text.
#[derive(Clone, Debug)]
pub enum Embedded {
    /// The vector of the whole text.
    Vector(Vector),
    /// The text does not fit into the window: its vector would be that of its beginning, and two
    /// texts that differ only behind the cut would look the same. It is never matched by meaning.
    BeyondWindow {
        /// How many tokens the text has (or the window plus one where counting stopped there).
        tokens: usize,
    },
}

/// Why there is no vector. The cache goes on without its semantic tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmbedFault {
    /// The queue is full: the embedder is slower than the traffic.
    Busy,
    /// The embedder's threads are gone, the endpoint does not answer.
    Dead,
    /// The model refused or failed on this text.
    Failed,
}

impl EmbedFault {
    /// Stable name for metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Busy => "embed_busy",
            Self::Dead => "embed_dead",
            Self::Failed => "embed_failed",
        }
    }
}

impl fmt::Display for EmbedFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl std::error::Error for EmbedFault {}

/// Turns texts into vectors.
pub trait Embedder: Send + Sync + 'static {
    /// Which model this is.
    fn identity(&self) -> &Identity;

    /// The vector of `text`. Dropping the future gives up the result, not other callers' work.
    fn embed(&self, text: Arc<str>) -> BoxFuture<'_, Result<Embedded, EmbedFault>>;
}
