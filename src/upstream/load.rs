//! How loaded a replica is: what it has in flight, and how long it takes to begin an answer.

use std::{
    cmp::Ordering,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

/// How fast the past is forgotten: an estimate that is not renewed falls to 1/e in this time, so
/// that a replica that was slow is tried again. Finagle's and linkerd's default.
const DECAY: Duration = Duration::from_secs(10);

/// How much the wait counts against the queue. At 1, a replica r times slower gets 1/r^2 of what
/// the fast one gets: at ten times that is one exchange in a hundred, which makes the pool's 99th
/// percentile the slow one's. More than this, and one long prompt would empty its replica for long.
const WEIGHT: f64 = 1.25;

/// Load of one replica.
///
/// The estimate is a peak-sensitive moving average of the time to first byte (Finagle's peak EWMA):
/// it jumps to a slower sample at once and forgets it slowly, because sending on to a replica that
/// just became slow costs more than sparing one that just became fast. In flight counts to the end
/// of the body: a generation occupies its server long after its first byte.
#[derive(Debug)]
pub(super) struct Load {
    in_flight: AtomicUsize,
    begun: AtomicU64,
    estimate: Mutex<Estimate>,
}

#[derive(Debug)]
struct Estimate {
    /// Seconds; `None` before the first sample.
    first_byte: Option<f64>,
    at: Instant,
}

impl Load {
    pub(super) fn new() -> Self {
        let estimate = Estimate { first_byte: None, at: Instant::now() };
        let estimate = Mutex::new(estimate);
        Self { in_flight: AtomicUsize::new(0), begun: AtomicU64::new(0), estimate }
    }

    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
        self.begun.fetch_add(1, Relaxed);
    }

    pub(super) fn end(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// Exchanges that run now.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// Exchanges that began since the start.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    /// An answer began after `sample`.
    pub(super) fn record(&self, sample: Duration, now: Instant) {
        let sample = sample.as_secs_f64();
        let mut estimate = self.estimate.lock();
        let next = match estimate.first_byte {
            Some(old) if sample < old => {
                let kept = estimate.kept(now);
                old * kept + sample * (1.0 - kept)
            }
            _ => sample,
        };
        *estimate = Estimate { first_byte: Some(next), at: now };
    }

    /// Nobody waited longer than `sample`, and no answer had begun: it counts only upwards.
    pub(super) fn record_at_least(&self, sample: Duration, now: Instant) {
        if self.first_byte(now).is_none_or(|known| known < sample) {
            self.record(sample, now);
        }
    }

    /// The estimated time to first byte, if there was ever a sample.
    pub(super) fn first_byte(&self, now: Instant) -> Option<Duration> {
        let estimate = self.estimate.lock();
        estimate.first_byte.map(|seconds| Duration::from_secs_f64(seconds * estimate.kept(now)))
    }

    /// Which of two should get the next exchange: `Less` is this one. Estimated wait to the power of
    /// [`WEIGHT`] x (in flight + 1); while one of them has no estimate, in flight alone, so that a
    /// new replica is neither flooded nor shunned.
    pub(super) fn compare(&self, other: &Self, now: Instant) -> Ordering {
        let (mine, theirs) = (self.in_flight(), other.in_flight());
        match (self.first_byte(now), other.first_byte(now)) {
            (Some(own), Some(their)) => {
                let cost = |wait: Duration, queued: usize| {
                    wait.as_secs_f64().powf(WEIGHT) * (queued + 1) as f64
                };
                cost(own, mine).total_cmp(&cost(their, theirs))
            }
            _ => mine.cmp(&theirs),
        }
    }
}

impl Estimate {
    /// What part of the estimate still counts.
    fn kept(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at);
        (-age.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_slow_sample_counts_at_once_and_is_forgotten_slowly() {
        let load = Load::new();
        let start = Instant::now();
        assert_eq!(load.first_byte(start), None);
        load.record(10 * MS, start);
        load.record(100 * MS, start);
        assert_eq!(load.first_byte(start), Some(100 * MS));
        load.record(10 * MS, start + Duration::from_secs(1));
        let after = load.first_byte(start + Duration::from_secs(1)).unwrap();
        assert!((90 * MS..95 * MS).contains(&after), "{after:?}");
        let unused = load.first_byte(start + Duration::from_secs(31)).unwrap();
        assert!((4 * MS..5 * MS).contains(&unused), "{unused:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn giving_up_early_does_not_make_a_replica_look_fast() {
        let load = Load::new();
        let now = Instant::now();
        load.record(100 * MS, now);
        load.record_at_least(5 * MS, now);
        assert_eq!(load.first_byte(now), Some(100 * MS));
        load.record_at_least(300 * MS, now);
        assert_eq!(load.first_byte(now), Some(300 * MS));
    }

    #[tokio::test(start_paused = true)]
    async fn cost_is_wait_times_queue_and_queue_alone_before_the_first_sample() {
        let (fast, slow) = (Load::new(), Load::new());
        let now = Instant::now();
        fast.begin();
        assert_eq!(fast.compare(&slow, now), Ordering::Greater);
        fast.record(10 * MS, now);
        slow.record(100 * MS, now);
        assert_eq!(fast.compare(&slow, now), Ordering::Less);
        (0..17).for_each(|_| fast.begin());
        assert_eq!(fast.compare(&slow, now), Ordering::Greater);
        fast.end();
        fast.end();
        assert_eq!(fast.compare(&slow, now), Ordering::Less);
    }
}
