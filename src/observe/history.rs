//! How the hit rate and the latency went over the last hour and the last day.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use serde::Serialize;

use super::{Latency, Outcome, quantiles::Snapshot, recent::unix_ms};

/// Points of each series.
const POINTS: usize = 360;

/// How often [`super::Observer::sample`] wants to be called: 360 points make an hour.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// Samples that make a point of the day: 360 of 4 minutes.
const SAMPLES_A_DAY_POINT: u64 = 24;

/// Running totals at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    /// By `Outcome as usize`.
    pub(super) requests: [u64; Outcome::ALL.len()],
    /// Whole requests answered from the cache.
    pub(super) hits: Snapshot,
    /// Whole requests that the cache was asked for in vain.
    pub(super) misses: Snapshot,
}

impl Totals {
    pub(super) fn zero() -> Self {
        Self {
            requests: [0; Outcome::ALL.len()],
            hits: Snapshot::empty(),
            misses: Snapshot::empty(),
        }
    }
}

/// What happened in one interval.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Counts from 1 without gaps, in its own series.
    pub seq: u64,
    /// The interval's end, Unix milliseconds.
    pub at_ms: u64,
    /// Finished requests in the order of [`Outcome::ALL`].
    pub requests: [u64; Outcome::ALL.len()],
    /// Whole requests answered from the cache; joined ones are not among them, they waited for the
    /// upstream as well.
    pub hits: Option<Latency>,
    /// Whole requests that the cache was asked for in vain: what the same traffic takes without.
    pub misses: Option<Latency>,
}

/// Both series.
pub(super) struct History(Mutex<State>);

struct State {
    samples: u64,
    hour: Series,
    day: Series,
}

struct Series {
    count: u64,
    before: Totals,
    points: VecDeque<Point>,
}

impl History {
    pub(super) fn new() -> Self {
        let series =
            || Series { count: 0, before: Totals::zero(), points: VecDeque::with_capacity(POINTS) };
        Self(Mutex::new(State { samples: 0, hour: series(), day: series() }))
    }

    /// Adds the interval since the last call.
    pub(super) fn add(&self, now: &Totals) {
        let mut state = self.0.lock();
        state.samples += 1;
        state.hour.add(now);
        if state.samples.is_multiple_of(SAMPLES_A_DAY_POINT) {
            state.day.add(now);
        }
    }

    /// The points of the last hour and of the last day after those numbered `hour` and `day`.
    pub(super) fn since(&self, hour: u64, day: u64) -> (Vec<Point>, Vec<Point>) {
        let state = self.0.lock();
        (state.hour.since(hour), state.day.since(day))
    }
}

impl Series {
    fn add(&mut self, now: &Totals) {
        self.count += 1;
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        let before = std::mem::replace(&mut self.before, now.clone());
        let requests = std::array::from_fn(|index| now.requests[index] - before.requests[index]);
        self.points.push_back(Point {
            seq: self.count,
            at_ms: unix_ms(),
            requests,
            hits: Latency::of(&now.hits.minus(&before.hits)),
            misses: Latency::of(&now.misses.minus(&before.misses)),
        });
    }

    fn since(&self, seq: u64) -> Vec<Point> {
        self.points.iter().filter(|point| point.seq > seq).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::quantiles::Quantiles;

    fn totals(hits: &Quantiles, exact: u64) -> Totals {
        let mut totals = Totals::zero();
        totals.requests[Outcome::HitExact as usize] = exact;
        totals.hits = hits.snapshot();
        totals
    }

    #[test]
    fn a_point_holds_what_happened_in_its_interval_only() {
        let (history, hits) = (History::new(), Quantiles::new());
        hits.add(Duration::from_millis(1));
        history.add(&totals(&hits, 1));
        hits.add(Duration::from_millis(100));
        hits.add(Duration::from_millis(100));
        history.add(&totals(&hits, 3));
        history.add(&totals(&hits, 3));
        let (hour, day) = history.since(0, 0);
        let counts: Vec<_> = hour.iter().map(|point| point.requests[0]).collect();
        assert_eq!(counts, [1, 2, 0]);
        let p50 = hour[1].hits.unwrap().p50_ms;
        assert!((p50 - 100.0).abs() < 2.0, "{p50}");
        assert_eq!(hour[2].hits, None);
        assert_eq!(hour[1].misses, None);
        assert_eq!(day, []);
        assert_eq!(history.since(2, 0).0.len(), 1);
    }

    #[test]
    fn a_day_has_as_many_points_as_an_hour_and_neither_grows() {
        let (history, hits) = (History::new(), Quantiles::new());
        for sample in 1..=SAMPLES_A_DAY_POINT * 400 {
            history.add(&totals(&hits, sample));
        }
        let (hour, day) = history.since(0, 0);
        assert_eq!((hour.len(), day.len()), (POINTS, POINTS));
        assert_eq!(hour[0].requests[0], 1);
        assert_eq!(day[0].requests[0], SAMPLES_A_DAY_POINT);
        assert_eq!(day[POINTS - 1].seq, 400);
    }
}
