//! How near the nearest stored prompts were.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Bins from here to 1, one hundredth each; what is lower goes into the lowest.
const FROM: f32 = 0.5;
const BINS: usize = 50;

/// Cosines of nearest neighbours, served and not.
pub(super) struct Similarities {
    served: [AtomicU64; BINS],
    passed_by: [AtomicU64; BINS],
}

/// Cosines of nearest neighbours, counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Similarity {
    /// The lowest bin's lower edge.
    pub from: f32,
    /// A bin's width.
    pub step: f32,
    /// Neighbours whose answers were served.
    pub served: Vec<u64>,
    /// Neighbours that were passed by; the lowest bin holds all below it too.
    pub passed_by: Vec<u64>,
}

impl Similarities {
    pub(super) fn new() -> Self {
        let zeros = || [const { AtomicU64::new(0) }; BINS];
        Self { served: zeros(), passed_by: zeros() }
    }

    pub(super) fn add(&self, cosine: f32, served: Served) {
        // A cosine of one by rounding may be a little more. NaN becomes the lowest bin.
        let bin = (((cosine - FROM) * 100.0).max(0.0) as usize).min(BINS - 1);
        let bins = match served {
            Served::Yes => &self.served,
            Served::No => &self.passed_by,
        };
        bins[bin].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Similarity {
        let counts =
            |bins: &[AtomicU64]| bins.iter().map(|bin| bin.load(Ordering::Relaxed)).collect();
        Similarity {
            from: FROM,
            step: 0.01,
            served: counts(&self.served),
            passed_by: counts(&self.passed_by),
        }
    }
}

/// Whether the neighbour's answer was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cosine_finds_a_bin() {
        let all = Similarities::new();
        for (cosine, bin) in [
            (1.000_001, 49),
            (1.0, 49),
            (0.955, 45),
            (0.505, 0),
            (0.2, 0),
            (-1.0, 0),
            (f32::NAN, 0),
        ] {
            let before = all.read().passed_by[bin];
            all.add(cosine, Served::No);
            assert_eq!(all.read().passed_by[bin], before + 1, "{cosine}");
        }
        all.add(0.97, Served::Yes);
        let read = all.read();
        assert_eq!(read.served.iter().sum::<u64>(), 1);
        assert_eq!(read.passed_by.iter().sum::<u64>(), 7);
    }
}
