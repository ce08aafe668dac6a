//! Whether a replica may be asked: ejection after failures, trial, holding off as it asked for.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

/// Failures in a row that eject a replica. One is noise (a restart behind a load balancer), and a
/// dead one collects three within a handful of requests.
const FAILURES: u32 = 3;

/// How long the first ejection lasts; each failed trial doubles it.
const FIRST_OUT: Duration = Duration::from_secs(1);

/// The longest ejection, so that a replica that returned serves again within ten seconds.
const LONGEST_OUT: Duration = Duration::from_secs(8);

/// Active checks in a row that must fail before they eject.
const FAILED_CHECKS: u32 = 2;

/// The longest `Retry-After` that is obeyed. A longer one would outlive the reasons for it.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// Remembers how a replica did.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// False while there is nothing to remember, which is nearly always: spares the lock.
    troubled: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures_total: u64,
    failures: u32,
    ejected: Option<Ejection>,
    /// The replica said when to come back.
    held_until: Option<Instant>,
    failed_checks: u32,
}

#[derive(Debug)]
struct Ejection {
    until: Instant,
    lasts: Duration,
    /// One exchange tries it out; the others wait for its outcome.
    on_trial: bool,
}

/// Whether a replica may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Yes.
    Ready,
    /// Not now: it asked for a pause (`Retry-After`).
    Holding,
    /// No: it failed several times in a row, or its health checks.
    Ejected,
    /// Its ejection is over; the next exchange tries it.
    TrialDue,
    /// An exchange tries it.
    OnTrial,
}

impl Standing {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "healthy",
            Self::Holding => "holding",
            Self::Ejected => "ejected",
            Self::TrialDue | Self::OnTrial => "probing",
        }
    }
}

impl Breaker {
    pub(super) fn standing(&self, now: Instant) -> Standing {
        if !self.troubled.load(Relaxed) {
            return Standing::Ready;
        }
        let state = self.state.lock();
        if state.failed_checks >= FAILED_CHECKS {
            return Standing::Ejected;
        }
        match &state.ejected {
            Some(ejection) if ejection.on_trial => Standing::OnTrial,
            Some(ejection) if now < ejection.until => Standing::Ejected,
            _ if state.held_until.is_some_and(|until| now < until) => Standing::Holding,
            Some(_) => Standing::TrialDue,
            None => Standing::Ready,
        }
    }

    /// Failures since the start.
    pub(super) fn failures_total(&self) -> u64 {
        self.state.lock().failures_total
    }

    /// Whether the caller may make the one trial. Whoever may must report an outcome or
    /// [`Self::release_trial`].
    pub(super) fn claim_trial(&self, now: Instant) -> bool {
        match &mut self.state.lock().ejected {
            Some(ejection) if !ejection.on_trial && now >= ejection.until => {
                ejection.on_trial = true;
                true
            }
            _ => false,
        }
    }

    /// The trial ended without an outcome: its client left.
    pub(super) fn release_trial(&self) {
        if let Some(ejection) = &mut self.state.lock().ejected {
            ejection.on_trial = false;
        }
    }

    /// It answered.
    pub(super) fn success(&self, now: Instant) {
        if self.troubled.load(Relaxed) {
            self.change(|state| {
                state.failures = 0;
                state.ejected = None;
                state.held_until = state.held_until.filter(|until| now < *until);
            });
        }
    }

    /// It could not be reached, or broke off before it answered.
    pub(super) fn failure(&self, now: Instant) {
        self.change(|state| {
            state.failures_total += 1;
            state.failures = state.failures.saturating_add(1);
            match &mut state.ejected {
                None if state.failures >= FAILURES => {
                    let until = now + FIRST_OUT;
                    state.ejected = Some(Ejection { until, lasts: FIRST_OUT, on_trial: false });
                }
                Some(ejection) if ejection.on_trial => {
                    let lasts = (ejection.lasts * 2).min(LONGEST_OUT);
                    *ejection = Ejection { until: now + lasts, lasts, on_trial: false };
                }
                // Exchanges that began before it was ejected, or while too many others were.
                _ => {}
            }
        });
    }

    /// It said when to come back (`Retry-After`).
    pub(super) fn hold(&self, wait: Duration, now: Instant) {
        let until = now + wait.min(LONGEST_HOLD);
        self.change(|state| state.held_until = state.held_until.max(Some(until)));
    }

    /// What an active check found. A passed one also ends an ejection.
    pub(super) fn checked(&self, passed: bool) {
        if passed && !self.troubled.load(Relaxed) {
            return;
        }
        self.change(|state| {
            if passed {
                state.failed_checks = 0;
                state.failures = 0;
                state.ejected = None;
            } else {
                state.failed_checks = state.failed_checks.saturating_add(1);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let calm = state.failures == 0
            && state.ejected.is_none()
            && state.held_until.is_none()
            && state.failed_checks == 0;
        self.troubled.store(!calm, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ejected(now: Instant) -> Breaker {
        let breaker = Breaker::default();
        for _ in 0..FAILURES {
            assert_eq!(breaker.standing(now), Standing::Ready);
            breaker.failure(now);
        }
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_eject_and_one_success_between_does_not_count() {
        let now = Instant::now();
        let breaker = Breaker::default();
        for _ in 0..10 {
            breaker.failure(now);
            breaker.failure(now);
            breaker.success(now);
        }
        assert_eq!(breaker.standing(now), Standing::Ready);
        assert_eq!(ejected(now).standing(now), Standing::Ejected);
    }

    #[tokio::test(start_paused = true)]
    async fn one_trial_at_a_time_and_each_failed_one_doubles_the_wait() {
        let mut now = Instant::now();
        let breaker = ejected(now);
        for wait in [1, 2, 4, 8, 8] {
            assert_eq!(breaker.standing(now + SECOND * wait - SECOND / 10), Standing::Ejected);
            now += SECOND * wait;
            assert_eq!(breaker.standing(now), Standing::TrialDue);
            assert!(breaker.claim_trial(now));
            assert!(!breaker.claim_trial(now));
            assert_eq!(breaker.standing(now), Standing::OnTrial);
            breaker.failure(now);
        }
        now += SECOND * 8;
        assert!(breaker.claim_trial(now));
        breaker.success(now);
        assert_eq!(breaker.standing(now), Standing::Ready);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_without_outcome_can_be_made_again() {
        let now = Instant::now();
        let breaker = ejected(now);
        assert!(breaker.claim_trial(now + SECOND));
        breaker.release_trial();
        assert_eq!(breaker.standing(now + SECOND), Standing::TrialDue);
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_obeyed_up_to_a_minute() {
        let now = Instant::now();
        let breaker = Breaker::default();
        breaker.hold(SECOND * 5, now);
        breaker.hold(SECOND * 2, now);
        breaker.success(now);
        assert_eq!(breaker.standing(now + SECOND * 4), Standing::Holding);
        assert_eq!(breaker.standing(now + SECOND * 5), Standing::Ready);
        breaker.hold(SECOND * 3600, now);
        assert_eq!(breaker.standing(now + SECOND * 60), Standing::Ready);
    }

    #[tokio::test(start_paused = true)]
    async fn checks_eject_after_two_and_bring_back_at_once() {
        let now = Instant::now();
        let breaker = Breaker::default();
        breaker.checked(false);
        assert_eq!(breaker.standing(now), Standing::Ready);
        breaker.checked(false);
        assert_eq!(breaker.standing(now), Standing::Ejected);
        breaker.success(now);
        assert_eq!(breaker.standing(now), Standing::Ejected, "only a check ends what checks began");
        breaker.checked(true);
        assert_eq!(breaker.standing(now), Standing::Ready);
        let breaker = ejected(now);
        breaker.checked(true);
        assert_eq!(breaker.standing(now), Standing::Ready);
    }
}
