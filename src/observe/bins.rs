//! Histograms of what a verdict looks at: how near the nearest stored prompt was, and how surely its
//! answer was believed right.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Of equal width, up to 1; what is lower than the first goes into it.
const BINS: usize = 50;

/// Numbers in 0..=1 of neighbours, served and not.
pub(super) struct Bins {
    from: f32,
    served: [AtomicU64; BINS],
    passed_by: [AtomicU64; BINS],
}

/// The same, counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Binned {
    /// The lowest bin's lower edge.
    pub from: f32,
    /// A bin's width.
    pub step: f32,
    /// Neighbours whose answers were served.
    pub served: Vec<u64>,
    /// Neighbours that were passed by; the lowest bin holds all below it too.
    pub passed_by: Vec<u64>,
}

impl Bins {
    /// Bins from `from` to 1.
    pub(super) fn from(from: f32) -> Self {
        let zeros = || [const { AtomicU64::new(0) }; BINS];
        Self { from, served: zeros(), passed_by: zeros() }
    }

    fn step(&self) -> f32 {
        (1.0 - self.from) / BINS as f32
    }

    pub(super) fn add(&self, value: f32, served: Served) {
        // A cosine of one by rounding may be a little more. NaN becomes the lowest bin.
        let bin = (((value - self.from) / self.step()).max(0.0) as usize).min(BINS - 1);
        let bins = match served {
            Served::Yes => &self.served,
            Served::No => &self.passed_by,
        };
        bins[bin].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Binned {
        let counts =
            |bins: &[AtomicU64]| bins.iter().map(|bin| bin.load(Ordering::Relaxed)).collect();
        Binned {
            from: self.from,
            step: self.step(),
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
        let all = Bins::from(0.5);
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
