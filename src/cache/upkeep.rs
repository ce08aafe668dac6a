//! What a cache does without being asked: takes part in the purges of other replicas, and sweeps what
//! is past its life out of the store.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    entry::now_ms,
    exact::ExactTier,
    fences::{Fences, is_news},
    replicas::{Barred, Replicas},
    write::WriteBehind,
};
use crate::store::{Selector, StoreFault, VectorStore};

/// Purges reach every replica within two of these.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An answer past its life costs space, nothing else.
const SWEEP_EVERY: Duration = Duration::from_secs(300);

/// The running tasks; they end with this.
pub(super) struct Upkeep(Vec<JoinHandle<()>>);

/// What a replica on a shared store takes part with.
#[derive(Clone)]
pub(super) struct Company {
    pub fences: Arc<Fences>,
    pub replicas: Arc<Replicas>,
    pub exact: ExactTier,
}

impl Upkeep {
    pub(super) fn start(
        store: &Arc<dyn VectorStore>,
        writer: &WriteBehind,
        company: Option<Company>,
        grace: Duration,
    ) -> Self {
        let mut tasks = vec![tokio::spawn(sweep(store.clone(), writer.clone(), grace))];
        if let Some(company) = company {
            tasks.push(tokio::spawn(follow(company.fences.clone(), writer.clone())));
            tasks.push(tokio::spawn(learn(company, writer.clone())));
        }
        Self(tasks)
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
        for purge in news {
            if let Err(fault) = writer.delete(purge.again()).await {
                tracing::warn!(%fault, "another replica's purge could not be repeated here");
            }
        }
    }
}

/// Marks of others each second, lessons every five, what was learned in all each minute. What fails is
/// tried again then.
async fn learn(company: Company, writer: WriteBehind) {
    const EXCHANGE_EVERY: u32 = 5;
    const PUBLISH_EVERY: u32 = 60;
    let replicas = &company.replicas;
    let mut begun = false;
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for tick in (0..PUBLISH_EVERY).cycle() {
        ticks.tick().await;
        if !begun {
            begun = replicas.begin().await.is_ok();
        }
        let heard = match replicas.hear().await {
            Ok(barred) => take_out(&company, &writer, barred).await,
            Err(fault) => Err(fault),
        };
        let exchanged =
            if tick.is_multiple_of(EXCHANGE_EVERY) { replicas.exchange().await } else { Ok(()) };
        let told = if tick == PUBLISH_EVERY - 1 { replicas.publish().await } else { Ok(()) };
        if let Err(fault) = heard.and(exchanged).and(told) {
            tracing::debug!(%fault, "what replicas learned could not be shared");
        }
    }
}

/// Who made a mark knows the answer's kin as it learned them itself; what only this replica knows to be
/// kin leaves memory here, and the store and all others by a purge of its own.
async fn take_out(
    company: &Company,
    writer: &WriteBehind,
    barred: Vec<Barred>,
) -> Result<(), StoreFault> {
    for Barred { answer, told, marked_ms } in barred {
        let marked = company.exact.by_id(answer);
        if marked.is_some_and(|entry| entry.generated_ms <= marked_ms) {
            company.exact.remove(answer);
        }
        if !told && is_news(marked_ms) {
            company.fences.announce(Selector::Answer(answer)).await?;
            writer.delete(Selector::Answer(answer)).await?;
        }
    }
    Ok(())
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
