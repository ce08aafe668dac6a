//! How many requests may be sent a second time.
//!
//! Retries, hedges and calls begun ahead draw on such a budget, each on its own.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Retries that each exchange earns: an overloaded upstream gets at most a fifth more.
const PER_EXCHANGE: f64 = 0.2;

/// Retries that each second earns, so that an upstream with little traffic can retry too.
const PER_SECOND: f64 = 1.0;

/// Retries that can be saved up: what a quiet time may add to a bad minute.
const SAVED_MAX: f64 = 10.0;

/// A retry budget. A fixed number of retries for each request multiplies the load exactly when an
/// upstream says that it has too much; a share of all requests cannot.
///
/// Only retries of what was sent draw on it. One after a failed connection put no load on anybody,
/// and each request still reaches one server.
#[derive(Debug)]
pub(super) struct Budget {
    per_exchange: f64,
    per_second: f64,
    saved_max: f64,
    /// Counted apart: the one thing that happens for every exchange is one addition.
    exchanges: AtomicU64,
    saved: Mutex<Saved>,
}

#[derive(Debug)]
struct Saved {
    retries: f64,
    exchanges: u64,
    at: Instant,
}

impl Budget {
    /// A budget that earns so much and saves up so many; it begins full.
    pub(super) fn new(per_exchange: f64, per_second: f64, saved_max: f64) -> Self {
        let saved = Saved { retries: saved_max, exchanges: 0, at: Instant::now() };
        let exchanges = AtomicU64::new(0);
        Self { per_exchange, per_second, saved_max, exchanges, saved: Mutex::new(saved) }
    }

    /// The budget for retries.
    pub(super) fn for_retries() -> Self {
        Self::new(PER_EXCHANGE, PER_SECOND, SAVED_MAX)
    }

    /// An exchange began.
    pub(super) fn earn(&self) {
        self.exchanges.fetch_add(1, Relaxed);
    }

    /// Takes one retry out, if there is one.
    pub(super) fn spend(&self, now: Instant) -> bool {
        let exchanges = self.exchanges.load(Relaxed);
        let mut saved = self.saved.lock();
        // Another thread may have counted further and locked sooner.
        let earned = exchanges.saturating_sub(saved.exchanges) as f64 * self.per_exchange
            + now.saturating_duration_since(saved.at).as_secs_f64() * self.per_second;
        let retries = (saved.retries + earned).min(self.saved_max);
        let enough = retries >= 1.0;
        *saved = Saved {
            retries: if enough { retries - 1.0 } else { retries },
            exchanges: exchanges.max(saved.exchanges),
            at: now.max(saved.at),
        };
        enough
    }

    /// Puts back what [`Self::spend`] took: it was sent once after all.
    pub(super) fn give_back(&self) {
        let mut saved = self.saved.lock();
        saved.retries = (saved.retries + 1.0).min(self.saved_max);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spend_all(budget: &Budget, now: Instant) -> usize {
        std::iter::from_fn(|| budget.spend(now).then_some(())).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_of_the_exchanges_and_one_a_second_bounded() {
        let now = Instant::now();
        let budget = Budget::for_retries();
        assert_eq!(spend_all(&budget, now), 10);
        (0..40).for_each(|_| budget.earn());
        assert_eq!(spend_all(&budget, now), 8);
        let later = now + Duration::from_secs(3);
        assert_eq!(spend_all(&budget, later), 3);
        assert_eq!(spend_all(&budget, later + Duration::from_secs(3600)), 10);
    }
}
