//! What happens between requests: old connections are closed, new ones opened ahead, replicas
//! checked, certificates taken over.

use std::sync::Arc;

use http::uri::PathAndQuery;
use tokio::{
    task::JoinSet,
    time::{Duration, MissedTickBehavior, interval},
};

use super::{Upstream, replica::Replica, tls::ClientTls};

/// How often idle connections are looked at: how long one that the other side closed, or that is
/// too old, may still hold a socket.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How often connections that are to be ready are counted; also the pause after a failed try.
const WARM_EVERY: Duration = Duration::from_secs(1);

/// How often a replica is asked for its health. Two failed checks eject, so a silent death is
/// noticed within six seconds, and a return within two.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// How often the files of certificates are looked at.
const RENEW_EVERY: Duration = Duration::from_secs(2);

/// The tasks; dropping it ends them.
#[derive(Debug)]
pub(super) struct Upkeep {
    _tasks: JoinSet<()>,
}

impl Upkeep {
    /// Looks after `upstream` from now on.
    pub(super) fn of(upstream: &Arc<Upstream>) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(sweep(Arc::clone(upstream)));
        if let Some(tls) = &upstream.tls {
            tasks.spawn(renew(Arc::clone(upstream), Arc::clone(tls)));
        }
        for replica in &upstream.replicas {
            if let Some(path) = &upstream.check {
                tasks.spawn(check(Arc::clone(replica), path.clone()));
            }
            if upstream.warm > 0 {
                tasks.spawn(warm(Arc::clone(replica), upstream.warm));
            }
        }
        Self { _tasks: tasks }
    }
}

async fn sweep(upstream: Arc<Upstream>) {
    let mut ticks = ticks(SWEEP_EVERY);
    loop {
        ticks.tick().await;
        upstream.replicas.iter().for_each(|replica| replica.pool.sweep());
    }
}

/// Looks at the files of certificates, as the front does at its own.
async fn renew(upstream: Arc<Upstream>, tls: Arc<ClientTls>) {
    let mut ticks = ticks(RENEW_EVERY);
    let mut refused = None;
    loop {
        ticks.tick().await;
        match tls.look(&mut refused) {
            None => {}
            Some(Ok(())) => {
                // What was opened with the old ones serves nobody new.
                upstream.replicas.iter().for_each(|replica| replica.pool.forget());
                tracing::info!(upstream = upstream.name(), "new certificates are in use");
            }
            Some(Err(error)) => tracing::warn!(
                upstream = upstream.name(), %error,
                "new certificates cannot be used: the old ones stay"
            ),
        }
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
