//! Room 5: a prompt becomes a unit vector.
//!
//! An embedder runs on its own threads behind a bounded queue: the runtime that accepts connections
//! never computes a vector, and a full queue is an answer ([`EmbedFault::Busy`]), not a wait.

pub mod counted;
pub mod local;
pub mod remote;

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
    /// The model has no word for a part of the text (a run of a hundred letters without a space, a
    /// script that it never saw): it sees the same placeholder for all of them, so two texts that
    /// differ only there look the same. It is never matched by meaning. Emoji that it has no word for
    /// are left out instead ([`pictographs`]).
    UnknownWords {
        /// How many of its tokens are placeholders.
        unknown: usize,
    },
}

/// Emoji and dingbats, and the tags that make one flag of another: a vector may leave them out, so
/// whoever compares texts compares these by themselves.
pub const fn is_pictograph(c: char) -> bool {
    matches!(c, '\u{2600}'..='\u{27bf}' | '\u{1f000}'..='\u{1faff}' | '\u{e0000}'..='\u{e007f}')
}

/// The pictographs of a text as its author wrote it, in order.
pub fn pictographs(text: &str) -> String {
    if text.is_ascii() {
        String::new()
    } else {
        text.chars().filter(|c| is_pictograph(*c)).collect()
    }
}

/// Whether two texts show different pictographs; beside a text without any they only adorn.
pub fn shows_other(a: &str, b: &str) -> bool {
    !a.is_empty() && !b.is_empty() && a != b
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

/// How busy an embedder is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Embedding threads on this machine.
    pub threads: usize,
    /// Texts that wait, here or at a server.
    pub queued: usize,
}

/// Turns texts into vectors.
pub trait Embedder: Send + Sync + 'static {
    /// Which model this is.
    fn identity(&self) -> &Identity;

    /// The vector of `text`. Dropping the future gives up the result, not other callers' work.
    fn embed(&self, text: Arc<str>) -> BoxFuture<'_, Result<Embedded, EmbedFault>>;

    /// The same for a text that no client waits for: where the queue is ours, what clients wait for
    /// goes first.
    fn embed_later(&self, text: Arc<str>) -> BoxFuture<'_, Result<Embedded, EmbedFault>> {
        self.embed(text)
    }

    /// How busy it is.
    fn workload(&self) -> Workload {
        Workload::default()
    }
}

/// The dot product of two vectors of one length: for unit vectors their cosine, in -1..=1 up to
/// rounding. What one has beyond the other's length is left out; vectors of two lengths are of two
/// models and must not get here.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    /// Independent sums, as many as two 256-bit registers hold: a single one would have to be added
    /// up in order, which forbids the compiler to vectorize.
    const LANES: usize = 16;
    debug_assert_eq!(a.len(), b.len());
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::cosine;

    proptest! {
        #[test]
        fn cosine_is_the_plain_dot_product(
            pairs in prop::collection::vec((-1.0_f32..1.0, -1.0_f32..1.0), 0..400),
        ) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
            let plain: f64 = pairs.iter().map(|&(x, y)| f64::from(x) * f64::from(y)).sum();
            prop_assert!((f64::from(cosine(&a, &b)) - plain).abs() < 1e-4);
        }
    }
}
