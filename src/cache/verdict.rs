//! Is a near question the same question? The threshold rule with its guards.
//!
//! Cosine similarity cannot tell "same question" from "same topic": negations and other numbers lie
//! at 0.90-0.97. A guard compares what similarity does not see; it can only turn a hit into a miss.

mod guards;

use super::reason::Reason;
use crate::{config, store::Neighbour};

pub use self::guards::Guards;

/// Judges neighbours.
#[derive(Clone, Debug)]
pub struct Verdict {
    guards: Guards,
}

impl Verdict {
    /// The configured rule.
    pub fn new(config: &config::Semantic) -> Self {
        Self { guards: Guards::new(&config.guards) }
    }

    /// The first neighbour, nearest first, whose answer may be served for `question`.
    ///
    /// # Errors
    /// Why none: the reason of the nearest.
    pub fn judge<'n>(
        &self,
        question: &str,
        neighbours: &'n [Neighbour],
        min_similarity: f32,
    ) -> Result<&'n Neighbour, Reason> {
        let mut why = Reason::NoNeighbour;
        for (rank, neighbour) in neighbours.iter().enumerate() {
            let refusal = if neighbour.similarity < min_similarity {
                Some(Reason::BelowSimilarity)
            } else {
                self.guards.differ(question, &neighbour.question)
            };
            match refusal {
                None => return Ok(neighbour),
                Some(refusal) if rank == 0 => why = refusal,
                Some(_) => {}
            }
        }
        Err(why)
    }
}
