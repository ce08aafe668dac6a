//! How loaded a replica is: what it has in flight, and how long it takes to begin an answer.

use std::{
    cmp::Ordering,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

/// How long the past counts: an answer moves the estimate by 1 - exp(-time since the last one /
/// this). Counted in time and not in answers, because a pause of a fast server (its garbage
/// collector, our own machine) delays all answers of a moment at once: half a second must be slow
/// before the estimate has gone two thirds of the way. A slow server's few answers move it at once.
const MEMORY: Duration = Duration::from_millis(500);

/// The most that one answer moves the estimate: long prompts are slow without the server being so.
const MOST: f64 = 0.8;

/// How much the wait counts against the queue. At 1, a replica r times slower gets 1/r^2 of what
/// the fast one gets: at ten times that is one exchange in a hundred, which makes the pool's 99th
/// percentile the slow one's. More than this, and one long prompt would empty its replica for long.
const WEIGHT: f64 = 1.5;

/// Load of one replica.
///
/// The estimate is a moving average of the logarithm of the time to first byte. The usual peak EWMA
/// (Finagle, linkerd) jumps to a slower sample and forgets it over ten seconds; with it, one pause
/// of a fast replica makes it look like a slow one for as long, and more than one exchange in a
/// hundred goes to a slow twin (simulated, and measured by tests/sdk/test_pool.py). It does not fade
/// by itself either: that a slow replica became fast is found out by probes, of which
/// [`super::balance`] bounds the share. In flight counts to the end of the body: a generation
/// occupies its server long after its first byte.
#[derive(Debug)]
pub(super) struct Load {
    in_flight: AtomicUsize,
    begun: AtomicU64,
    estimate: Mutex<Option<Estimate>>,
    picked: Mutex<Picked>,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    /// Natural logarithm of seconds.
    wait: f64,
    at: Instant,
}

/// When a replica was last chosen.
#[derive(Clone, Copy, Debug)]
struct Picked {
    draw: u64,
    at: Instant,
}

impl Load {
    pub(super) fn new() -> Self {
        Self {
            in_flight: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            estimate: Mutex::new(None),
            picked: Mutex::new(Picked { draw: 0, at: Instant::now() }),
        }
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

    /// It was chosen in the pool's draw of this number.
    pub(super) fn pick(&self, draw: u64, now: Instant) {
        *self.picked.lock() = Picked { draw, at: now };
    }

    /// Chooses it if `due` says so of the draws and the time since it was last chosen: of those who
    /// ask at once, one gets `true`.
    pub(super) fn pick_if(
        &self,
        draw: u64,
        now: Instant,
        due: impl FnOnce(u64, Duration) -> bool,
    ) -> bool {
        let mut last = self.picked.lock();
        let since = now.saturating_duration_since(last.at);
        let due = due(draw.saturating_sub(last.draw), since);
        if due {
            *last = Picked { draw, at: now };
        }
        due
    }

    /// An answer began after `sample`.
    pub(super) fn record(&self, sample: Duration, now: Instant) {
        let sample = logarithm(sample);
        let mut estimate = self.estimate.lock();
        let wait = estimate.map_or(sample, |known| {
            let age = now.saturating_duration_since(known.at);
            let moved = -(-age.as_secs_f64() / MEMORY.as_secs_f64()).exp_m1();
            known.wait + (sample - known.wait) * moved.min(MOST)
        });
        *estimate = Some(Estimate { wait, at: now });
    }

    /// Nobody waited longer than `sample`, and no answer had begun, or only to say that there is too
    /// much to do: it counts at once, and only upwards.
    pub(super) fn record_at_least(&self, sample: Duration, now: Instant) {
        let sample = logarithm(sample);
        let mut estimate = self.estimate.lock();
        if estimate.is_none_or(|known| known.wait < sample) {
            *estimate = Some(Estimate { wait: sample, at: now });
        }
    }

    /// The estimated time to first byte, if there was ever a sample.
    pub(super) fn first_byte(&self) -> Option<Duration> {
        self.estimate.lock().map(|known| Duration::from_secs_f64(known.wait.exp()))
    }

    /// Which of two should get the next exchange: `Less` is this one. Estimated wait to the power of
    /// [`WEIGHT`] x (in flight + 1); while one of them has no estimate, in flight alone, so that a
    /// new replica is neither flooded nor shunned.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let (mine, theirs) = (self.in_flight(), other.in_flight());
        // One lock after the other: whoever compares the same two the other way round holds the other.
        let own = *self.estimate.lock();
        let their = *other.estimate.lock();
        match own.zip(their) {
            Some((own, their)) => {
                // The cost's logarithm: it orders the same.
                let cost = |known: Estimate, queued: usize| {
                    known.wait * WEIGHT + ((queued + 1) as f64).ln()
                };
                cost(own, mine).total_cmp(&cost(their, theirs))
            }
            None => mine.cmp(&theirs),
        }
    }
}

/// Of seconds; no clock that we have tells less than a microsecond from nothing.
fn logarithm(sample: Duration) -> f64 {
    sample.max(Duration::from_micros(1)).as_secs_f64().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn close(load: &Load, low: u32, high: u32) -> bool {
        (low * MS..high * MS).contains(&load.first_byte().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_hardly_felt_and_lasting_slowness_within_a_second() {
        let load = Load::new();
        let mut now = Instant::now();
        assert_eq!(load.first_byte(), None);
        load.record(30 * MS, now);
        assert!(close(&load, 29, 31));
        now += 4 * MS;
        // Eight answers at once that a pause of 150 ms held up.
        (0..8).for_each(|_| load.record(180 * MS, now + 150 * MS));
        now += 150 * MS;
        assert!(close(&load, 30, 60), "{:?}", load.first_byte());
        for _ in 0..250 {
            now += 4 * MS;
            load.record(300 * MS, now);
        }
        assert!(close(&load, 200, 300), "{:?}", load.first_byte());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_tells_nearly_all_and_time_alone_nothing() {
        let load = Load::new();
        let now = Instant::now();
        load.record(300 * MS, now);
        let later = now + Duration::from_secs(8);
        assert!(close(&load, 299, 301));
        load.record(30 * MS, later);
        assert!(close(&load, 40, 55), "{:?}", load.first_byte());
    }

    #[tokio::test(start_paused = true)]
    async fn giving_up_early_does_not_make_a_replica_look_fast() {
        let load = Load::new();
        let now = Instant::now();
        load.record(100 * MS, now);
        load.record_at_least(5 * MS, now);
        assert!(close(&load, 99, 101));
        load.record_at_least(300 * MS, now);
        assert!(close(&load, 299, 301));
    }

    #[tokio::test(start_paused = true)]
    async fn cost_is_wait_times_queue_and_queue_alone_before_the_first_sample() {
        let (fast, slow) = (Load::new(), Load::new());
        let now = Instant::now();
        fast.begin();
        assert_eq!(fast.compare(&slow), Ordering::Greater);
        fast.record(10 * MS, now);
        slow.record(100 * MS, now);
        assert_eq!(fast.compare(&slow), Ordering::Less);
        (0..31).for_each(|_| fast.begin());
        assert_eq!(fast.compare(&slow), Ordering::Greater);
        fast.end();
        fast.end();
        assert_eq!(fast.compare(&slow), Ordering::Less);
    }
}
