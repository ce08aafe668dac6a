//! Asking a second replica when the first takes long to begin, bounded to a share of exchanges.

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use futures_util::future::{Either, select};
use tokio::time::{Duration, Instant, timeout};

use super::{budget::Budget, replica::Failure, reply::Reply};
use crate::config;

/// Hedges that a quiet time may save up.
const SAVED_MAX: f64 = 10.0;

/// When, and how often at most.
#[derive(Debug)]
pub(super) struct Hedge {
    /// How long the first replica may take to its first token.
    pub(super) after: Duration,
    budget: Budget,
    sent: AtomicU64,
}

impl Hedge {
    /// `None` where the configuration wants none.
    pub(super) fn new(settings: &config::Upstream) -> Option<Self> {
        let after = settings.hedge?.get();
        let budget = Budget::new(settings.hedge_share, 0.0, SAVED_MAX);
        Some(Self { after, budget, sent: AtomicU64::new(0) })
    }

    /// An exchange began.
    pub(super) fn earn(&self) {
        self.budget.earn();
    }

    /// Whether one exchange more may be sent twice.
    pub(super) fn spend(&self) -> bool {
        let may = self.budget.spend(Instant::now());
        if may {
            self.sent.fetch_add(1, Relaxed);
        }
        may
    }

    /// Hedges so far.
    pub(super) fn total(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// The outcome of `first`, or of what `second` begins once `first` has taken too long: of the
    /// two whichever answers first. The other one is dropped, which stops its replica's work.
    pub(super) async fn race<S>(
        &self,
        first: impl Future<Output = Result<Reply, Failure>>,
        second: impl FnOnce() -> Option<S>,
    ) -> Result<Reply, Failure>
    where
        S: Future<Output = Result<Reply, Failure>>,
    {
        let mut first = pin!(first);
        if let Ok(done) = timeout(self.after, first.as_mut()).await {
            return done;
        }
        let Some(second) = second() else { return first.await };
        let second = pin!(second);
        match select(first, second).await {
            Either::Left((done, other)) => better(done, other).await,
            Either::Right((done, other)) => better(done, other).await,
        }
    }
}

/// `done` if it is an answer, else whatever the other one comes to.
async fn better(
    done: Result<Reply, Failure>,
    other: impl Future<Output = Result<Reply, Failure>>,
) -> Result<Reply, Failure> {
    match done {
        Ok(reply) if !reply.declined => Ok(reply),
        poor => match other.await {
            Ok(reply) => Ok(reply),
            Err(_) => poor,
        },
    }
}
