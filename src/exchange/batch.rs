//! A batch of inputs that are answered one by one: known ones from the cache, the rest from the
//! upstream.
//!
//! Embedding a thousand texts of which nine hundred are known should cost a hundred. This is one of
//! the few places where an upstream gets a body that its client did not write: the same request with
//! the unknown inputs alone. Whatever goes wrong with that is not the client's: the whole request is
//! then forwarded as it came.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Limited};
use tokio::{sync::Notify, time::Instant};

use super::{
    Body,
    drain::{Complete, not_storable},
    journey::{self, Errand},
    report,
};
use crate::{
    cache::{entry::Entry, key::Key, pace::Pace, policy::Plan, reason::Reason, verdict::Placement},
    observe::{Outcome, RecordGuard, Stage},
    upstream::Reply,
    wire::Prompt,
};

/// One input, as it would be asked alone.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) key: Key,
    pub(super) prompt: Prompt,
}

/// May the upstream be asked for what is not known?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Forward {
    Allowed,
    Forbidden,
}

/// The answer of a batch of which something is known; `None` where all of it must be asked for.
pub(super) async fn answer(
    errand: &Errand,
    forward: Forward,
    record: &mut RecordGuard,
) -> Option<Response<Body>> {
    if errand.items.is_empty() {
        return None;
    }
    errand.plan.read.ok()?;
    let known = look(errand).await;
    record.stages.lap(Stage::Search);
    let missing: Vec<_> = (0..known.len()).filter(|at| known[*at].is_none()).collect();
    if missing.len() == known.len() || (forward == Forward::Forbidden && !missing.is_empty()) {
        return None;
    }
    let asked = match missing.as_slice() {
        [] => None,
        some => Some(ask(errand, some, record).await?),
    };
    let mut fresh = asked.as_ref().map_or_else(Vec::new, |asked| asked.apart.clone()).into_iter();
    let mut bodies = Vec::with_capacity(known.len());
    for (entry, item) in known.iter().zip(&*errand.items) {
        bodies.push(match (entry, &asked) {
            (Some(entry), _) => entry.body.clone(),
            (None, asked) => {
                let body = fresh.next()?;
                keep(errand, item, body.clone(), asked.as_ref()?.took);
                body
            }
        });
    }
    let whole = asked.as_ref().map(|asked| &*asked.body);
    let body = errand.dialect.together(&bodies, whole)?;
    let known = known.iter().flatten();
    let saved = known.clone().filter_map(|entry| entry.usage).map(|usage| usage.prompt).sum();
    record.tokens_saved = saved;
    let oldest = known.min_by_key(|entry| entry.expires_ms)?;
    if asked.is_none() {
        record.outcome = Outcome::HitExact;
        return Some(report::batch_hit(oldest, body));
    }
    record.outcome = Outcome::Miss;
    record.reason = Some(Reason::PartialBatch.name());
    Some(report::partial_batch(body))
}

/// Takes a batch's kept answer apart, so that each of its inputs is known by itself.
pub(super) fn learn(errand: &Errand, entry: &Entry) {
    let Some(bodies) = errand.dialect.apart(&entry.body) else { return };
    if bodies.len() == errand.items.len() {
        for (item, body) in errand.items.iter().zip(bodies) {
            keep(errand, item, body, Duration::from_millis(entry.upstream_ms));
        }
    }
}

/// What is known of each input. Past the lookup's deadline only memory is asked.
async fn look(errand: &Errand) -> Vec<Option<Arc<Entry>>> {
    let cache = &errand.house.cache;
    let plan = Plan { semantic: Err(Reason::SemanticOff), ..errand.plan.clone() };
    let deadline = Instant::now() + cache.config().semantic.lookup_deadline.get();
    let mut known = Vec::with_capacity(errand.items.len());
    for Item { key, prompt } in &*errand.items {
        let hit = match cache.exact(key, &plan) {
            Ok(hit) => Some(hit),
            Err(_) if Instant::now() < deadline => {
                let begun = Notify::const_new();
                cache.search(key, prompt, &plan, &begun).await.outcome.ok()
            }
            Err(_) => None,
        };
        let fresh = hit.filter(|hit| hit.kind == crate::cache::HitKind::Exact);
        known.push(fresh.map(|hit| hit.entry));
    }
    known
}

/// What the upstream says to the unknown inputs alone.
struct Asked {
    body: Bytes,
    apart: Vec<Bytes>,
    took: Duration,
}

async fn ask(errand: &Errand, missing: &[usize], record: &mut RecordGuard) -> Option<Asked> {
    let begun = Instant::now();
    let body = errand.dialect.without(&errand.body, missing)?;
    let rest = Errand { body, ..errand.clone() };
    let Reply { head, body, timing, replica, .. } = journey::ask(&rest).await.ok()?;
    record.replica = Some(replica);
    record.stages.record(Stage::First, timing.first_byte);
    if not_storable(errand, head.status, &head.headers).is_some() {
        return None;
    }
    let limit = errand.house.config.cache.flight_bytes.bytes();
    let body = Limited::new(body, limit).collect().await.ok()?.to_bytes();
    let apart = errand.dialect.apart(&body).filter(|apart| apart.len() == missing.len())?;
    Some(Asked { body, apart, took: begun.elapsed() })
}

/// Keeps the answer of one input.
fn keep(errand: &Errand, item: &Item, body: Bytes, took: Duration) {
    let cache = &errand.house.cache;
    let heard = errand.dialect.listener(item.prompt.shape).finish(&body);
    let Ok(answer) = heard else { return };
    if body.len() > cache.config().max_entry.bytes() {
        return;
    }
    let complete = Complete { body, text: answer.text, usage: answer.usage, pace: Pace::default() };
    let entry = Arc::new(journey::entry(
        errand.provenance(),
        item,
        complete,
        "application/json".to_owned(),
        took,
    ));
    cache.remember(entry.clone());
    cache.write(entry, None, Placement::Own);
}
