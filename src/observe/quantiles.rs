//! Quantiles of durations with a known error, without locks.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Sub-buckets of each power of two: 2^5.
const SUB_BITS: u32 = 5;
const SUBS: usize = 1 << SUB_BITS;

/// Durations are counted in units of 2^7 ns: the first 32 buckets are one unit wide each.
const UNIT_BITS: u32 = 7;

/// Powers of two above the linear part: up to 2^(7+5+28) ns, about 18 minutes; longer ones are
/// counted as that.
const OCTAVES: usize = 28;
const BUCKETS: usize = SUBS * (OCTAVES + 1);

/// A log-linear histogram (the idea of HdrHistogram): above 4 us a bucket is at most 1/32 of its
/// value wide, so a quantile, given as the bucket's middle, is off by at most 1.6 %; below, by at
/// most 64 ns.
pub(super) struct Quantiles {
    /// Made when the first value comes: most pairs of outcome and stage never happen.
    buckets: OnceLock<Box<[AtomicU64; BUCKETS]>>,
    /// Nanoseconds of all values together: 584 years of them.
    sum: AtomicU64,
}

impl Quantiles {
    pub(super) fn new() -> Self {
        Self { buckets: OnceLock::new(), sum: AtomicU64::new(0) }
    }

    pub(super) fn add(&self, span: Duration) {
        let buckets = self.buckets.get_or_init(|| Box::new([const { AtomicU64::new(0) }; BUCKETS]));
        buckets[bucket_of(span)].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// All counts at this moment.
    pub(super) fn snapshot(&self) -> Snapshot {
        let Some(buckets) = self.buckets.get() else { return Snapshot::empty() };
        let counts = buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        Snapshot { counts, sum: self.sum.load(Ordering::Relaxed) }
    }
}

/// Counts at one moment, or between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Empty where nothing was ever counted.
    counts: Vec<u64>,
    sum: u64,
}

impl Snapshot {
    pub(super) fn empty() -> Self {
        Self { counts: Vec::new(), sum: 0 }
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The mean; `None` where there is none.
    pub(super) fn mean(&self) -> Option<Duration> {
        Some(Duration::from_nanos(self.sum.checked_div(self.count())?))
    }

    /// The duration that a share `rank` (0..=1) of all does not exceed; `None` where there is none.
    pub(super) fn quantile(&self, rank: f64) -> Option<Duration> {
        let count = self.count();
        // The nearest-rank definition: the smallest value with at least that share at or below it.
        let wanted = ((rank * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        let reached = |bucket: &u64| {
            seen += bucket;
            seen >= wanted
        };
        self.counts.iter().position(reached).map(middle_of)
    }

    /// What came since an earlier snapshot of the same histogram. Counts are read one by one while
    /// others are added, so the two are each a little blurred; neither ever goes back.
    pub(super) fn minus(&self, earlier: &Self) -> Self {
        self.zip(earlier, u64::saturating_sub)
    }

    /// The counts of two histograms together.
    pub(super) fn plus(&self, other: &Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    fn zip(&self, other: &Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        let length = self.counts.len().max(other.counts.len());
        let of = |counts: &[u64], bucket: usize| counts.get(bucket).copied().unwrap_or(0);
        let counts = (0..length)
            .map(|bucket| combine(of(&self.counts, bucket), of(&other.counts, bucket)))
            .collect();
        Self { counts, sum: combine(self.sum, other.sum) }
    }
}

fn bucket_of(span: Duration) -> usize {
    let units = u64::try_from(span.as_nanos() >> UNIT_BITS).unwrap_or(u64::MAX);
    if units < SUBS as u64 {
        return units as usize;
    }
    let octave = units.ilog2() - SUB_BITS;
    let sub = (units >> octave) as usize - SUBS;
    ((octave as usize + 1) * SUBS + sub).min(BUCKETS - 1)
}

fn middle_of(bucket: usize) -> Duration {
    let (octave, sub) = (bucket / SUBS, bucket % SUBS);
    let (low, width) = match octave {
        0 => (sub as u64, 1),
        _ => (((SUBS + sub) as u64) << (octave - 1), 1_u64 << (octave - 1)),
    };
    Duration::from_nanos((low << UNIT_BITS) + ((width << UNIT_BITS) >> 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_has_no_quantiles() {
        let nothing = Quantiles::new().snapshot();
        assert_eq!((nothing.quantile(0.5), nothing.mean()), (None, None));
    }

    #[test]
    fn quantiles_of_a_thousand_known_values() {
        let quantiles = Quantiles::new();
        for millis in 1..=1000 {
            quantiles.add(Duration::from_millis(millis));
        }
        let snapshot = quantiles.snapshot();
        assert_eq!(snapshot.count(), 1000);
        for (rank, exact) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = snapshot.quantile(rank).unwrap().as_secs_f64() * 1000.0;
            assert!((found / exact - 1.0).abs() < 0.016, "p{rank}: {found} for {exact}");
        }
    }

    #[test]
    fn snapshots_add_and_subtract() {
        let (one, other) = (Quantiles::new(), Quantiles::new());
        one.add(Duration::from_millis(1));
        other.add(Duration::from_millis(100));
        let both = one.snapshot().plus(&other.snapshot());
        assert_eq!(both.count(), 2);
        assert!(both.quantile(1.0) > Some(Duration::from_millis(98)));
        assert_eq!(both.mean(), Some(Duration::from_micros(50_500)));
        assert_eq!(both.minus(&one.snapshot()), other.snapshot());
        assert_eq!(one.snapshot().minus(&both).count(), 0);
    }

    proptest! {
        #[test]
        fn a_single_value_comes_back_within_the_stated_error(nanos in 0_u64..1_000_000_000_000) {
            let quantiles = Quantiles::new();
            quantiles.add(Duration::from_nanos(nanos));
            let found = quantiles.snapshot().quantile(0.5).unwrap().as_nanos() as f64;
            let allowed = (nanos as f64 * 0.016).max(64.0);
            prop_assert!((found - nanos as f64).abs() <= allowed, "{found} for {nanos}");
        }

        #[test]
        fn longer_never_lands_lower(one in any::<u64>(), other in any::<u64>()) {
            let (less, more) = (one.min(other), one.max(other));
            prop_assert!(
                bucket_of(Duration::from_nanos(less)) <= bucket_of(Duration::from_nanos(more))
            );
        }
    }
}
