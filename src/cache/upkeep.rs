//! What a cache does without being asked: takes part in the purges of other replicas, and sweeps what
//! is past its life out of the store.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{entry::now_ms, fences::Fences, replicas::Replicas, write::WriteBehind};
use crate::store::{Selector, VectorStore};

/// Purges reach every replica within two of these.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An answer past its life costs space, nothing else.
const SWEEP_EVERY: Duration = Duration::from_secs(300);

/// The running tasks; they end with this.
pub(super) struct Upkeep(Vec<JoinHandle<()>>);

impl Upkeep {
    pub(super) fn start(
        store: &Arc<dyn VectorStore>,
        writer: &WriteBehind,
        fences: Option<&Arc<Fences>>,
        replicas: Option<&Arc<Replicas>>,
        grace: Duration,
    ) -> Self {
        let sweeper = tokio::spawn(sweep(store.clone(), writer.clone(), grace));
        let follower = fences.map(|fences| tokio::spawn(follow(fences.clone(), writer.clone())));
        let learner = replicas.map(|replicas| tokio::spawn(learn(replicas.clone())));
        Self(std::iter::once(sweeper).chain(follower).chain(learner).collect())
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

async fn follow(fences: Arc<Fences>, writer: WriteBehind) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // An unreachable store has its own voice in reports; this is tried again in a second.
        let news = fences.refresh(Duration::ZERO).await.unwrap_or_default();
        for selector in news {
            if let Err(fault) = writer.delete(selector).await {
                tracing::warn!(%fault, "another replica's purge could not be repeated here");
            }
        }
    }
}

/// Marks of others each second, what was learned each minute. What fails is tried again then.
async fn learn(replicas: Arc<Replicas>) {
    const PUBLISH_EVERY: u32 = 60;
    let mut begun = false;
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for tick in (0..PUBLISH_EVERY).cycle() {
        ticks.tick().await;
        if !begun {
            begun = replicas.begin().await.is_ok();
        }
        let heard = replicas.hear().await;
        let told = if tick == PUBLISH_EVERY - 1 { replicas.publish().await } else { Ok(()) };
        if let Err(fault) = heard.and(told) {
            tracing::debug!(%fault, "what replicas learned could not be shared");
        }
    }
}

async fn sweep(store: Arc<dyn VectorStore>, writer: WriteBehind, grace: Duration) {
    let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
    loop {
        sleep(SWEEP_EVERY).await;
        let dead = Selector::ExpiredAt(now_ms().saturating_sub(grace_ms));
        match writer.delete(dead).await {
            Ok(0) => {}
            Ok(swept) => tracing::info!(swept, "answers past their life were swept"),
            Err(fault) => tracing::debug!(%fault, "nothing was swept"),
        }
        if let Some(meta) = store.meta()
            && let Err(fault) = meta.sweep(now_ms()).await
        {
            tracing::debug!(%fault, "old purges were not swept");
        }
    }
}
