//! What happens between requests: old connections are closed, new ones opened ahead, replicas
//! checked.

use std::sync::Arc;

use http::uri::PathAndQuery;
use tokio::{
    task::JoinSet,
    time::{Duration, MissedTickBehavior, interval},
};

use super::{Upstream, replica::Replica};

/// How often idle connections are looked at: how long one that the other side closed, or that is
/// too old, may still hold a socket.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How often connections that are to be ready are counted; also the pause after a failed try.
const WARM_EVERY: Duration = Duration::from_secs(1);

/// How often a replica is asked for its health. Two failed checks eject, so a silent death is
/// noticed within six seconds, and a return within two.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// The tasks; dropping it ends them.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    tasks: JoinSet<()>,
}

impl Upkeep {
    /// Looks after `upstream` from now on.
    pub(super) fn add(&mut self, upstream: &Arc<Upstream>) {
        self.tasks.spawn(sweep(Arc::clone(upstream)));
        for replica in &upstream.replicas {
            if let Some(path) = &upstream.check {
                self.tasks.spawn(check(Arc::clone(replica), path.clone()));
            }
            if upstream.warm > 0 {
                self.tasks.spawn(warm(Arc::clone(replica), upstream.warm));
            }
        }
    }
}

async fn sweep(upstream: Arc<Upstream>) {
    let mut ticks = ticks(SWEEP_EVERY);
    loop {
        ticks.tick().await;
        upstream.replicas.iter().for_each(|replica| replica.pool.sweep());
    }
}

async fn check(replica: Arc<Replica>, path: PathAndQuery) {
    let mut ticks = ticks(CHECK_EVERY);
    loop {
        ticks.tick().await;
        let checked = replica.check(&path).await;
        replica.breaker.checked(checked.is_ok());
        if let Err(fault) = checked {
            tracing::warn!(%fault, "health check failed");
        }
    }
}

async fn warm(replica: Arc<Replica>, count: usize) {
    let mut ticks = ticks(WARM_EVERY);
    loop {
        ticks.tick().await;
        for _ in 0..count {
            if let Err(fault) = replica.pool.warm(count).await {
                tracing::debug!(%fault, "no connection could be opened ahead");
                break;
            }
        }
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    // Late ticks, after a machine slept or a check hung, must not be made up for in a burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
