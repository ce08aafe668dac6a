//! The latency budget in the five parts that people plan it in.

use super::{Outcome, Stage, Stages};

/// A part of a request's latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Deciding what is asked and whether it is known: parsing, embedding, search, verdict.
    PreProcessing,
    /// Bytes on their way: the request's body, connections to the upstream.
    Network,
    /// Waiting to be let through to the upstream. What waits inside the model server is not seen
    /// from here but through its own metrics, and counts as inference.
    Queueing,
    /// The model's own time, or the time of waiting for another request's answer from it.
    Inference,
    /// Making the answer that the client reads, and handing it over where no model is involved.
    PostProcessing,
}

/// How many parts there are.
pub const PART_COUNT: usize = Part::ALL.len();

impl Part {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 5] =
        [Self::PreProcessing, Self::Network, Self::Queueing, Self::Inference, Self::PostProcessing];

    /// The stable name, in metrics and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreProcessing => "pre_processing",
            Self::Network => "network",
            Self::Queueing => "queueing",
            Self::Inference => "inference",
            Self::PostProcessing => "post_processing",
        }
    }

    /// The part that a stage belongs to; `None` for the total.
    const fn of(stage: Stage, outcome: Outcome) -> Option<Self> {
        Some(match stage {
            Stage::Key | Stage::Exact | Stage::Embed | Stage::Search | Stage::Verdict => {
                Self::PreProcessing
            }
            Stage::Read | Stage::Connect => Self::Network,
            Stage::Queue => Self::Queueing,
            Stage::First => Self::Inference,
            Stage::Body => match outcome {
                Outcome::HitExact | Outcome::HitSemantic | Outcome::HitStale | Outcome::Error => {
                    Self::PostProcessing
                }
                // The model is still generating.
                Outcome::Collapsed | Outcome::Miss | Outcome::Bypass => Self::Inference,
            },
            Stage::Other => match outcome {
                // It waited for somebody else's answer.
                Outcome::Collapsed => Self::Inference,
                _ => Self::PostProcessing,
            },
            Stage::Total => return None,
        })
    }

    /// The five parts of a finished request; they sum to its total.
    pub(super) fn split(
        stages: &Stages,
        outcome: Outcome,
    ) -> [Option<std::time::Duration>; PART_COUNT] {
        let mut parts = [None; PART_COUNT];
        for (stage, span) in stages.iter() {
            if let Some(part) = Self::of(stage, outcome) {
                let sum: &mut Option<std::time::Duration> = &mut parts[part as usize];
                *sum = Some(sum.unwrap_or_default() + span);
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn all_is_in_the_order_of_the_discriminants() {
        for (index, part) in Part::ALL.into_iter().enumerate() {
            assert_eq!(part as usize, index, "{}", part.name());
        }
    }

    #[test]
    fn every_stage_belongs_to_one_part_and_they_sum_to_the_total() {
        for outcome in Outcome::ALL {
            let mut stages = Stages::start();
            let mut total = Duration::ZERO;
            for (index, stage) in Stage::ALL.into_iter().enumerate() {
                if stage != Stage::Total {
                    let span = Duration::from_micros(1 << index);
                    stages.record(stage, span);
                    total += span;
                }
            }
            stages.record(Stage::Total, total);
            let parts = Part::split(&stages, outcome);
            assert_eq!(parts.iter().flatten().sum::<Duration>(), total, "{}", outcome.name());
        }
    }

    #[test]
    fn a_hits_body_is_ours_and_a_misss_is_the_models() {
        let mut stages = Stages::start();
        stages.record(Stage::Body, Duration::from_millis(5));
        let of = |outcome, part| Part::split(&stages, outcome)[part as usize];
        assert_eq!(of(Outcome::HitExact, Part::PostProcessing), Some(Duration::from_millis(5)));
        assert_eq!(of(Outcome::Miss, Part::Inference), Some(Duration::from_millis(5)));
        assert_eq!(of(Outcome::Miss, Part::PostProcessing), None);
    }
}
