//! The lookup past the memory tier, and the call to the upstream that may run beside it.
//!
//! Where a hit is unlikely (`upstream.speculate`) the call begins with the lookup. A hit drops it, which
//! closes its connection or resets its stream; nothing of what it may have said is looked at. Everything
//! else goes on with it as if it had begun after the lookup.

use std::pin::pin;

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{sync::Notify, time::Instant};

use super::journey::{AnswerHead, Errand, ask};
use crate::{
    cache::{flight::Lead, semantic::Search},
    fault::Fault,
    upstream::{Looked, Reply, Stake},
};

/// A call that began before the lookup beside it ended. Dropped, it is stopped and counts as in vain.
pub(super) struct Ahead<'e> {
    call: Call<'e>,
    began: Instant,
    stake: Stake,
}

enum Call<'e> {
    Running(BoxFuture<'e, Result<Reply, Fault>>),
    Answered(Box<Result<Reply, Fault>>),
}

impl Call<'_> {
    /// The answer, when it comes; never a second one.
    async fn answered(&mut self) -> Result<Reply, Fault> {
        match self {
            Self::Running(call) => call.await,
            Self::Answered(_) => std::future::pending().await,
        }
    }
}

/// What the upstream says, and since when it was asked.
///
/// A call that ran beside the lookup is timed from its end: the stages of a request sum to its total, and
/// what was waited for twice at once is told as the lookup's.
pub(super) async fn reply(
    errand: &Errand,
    ahead: Option<Ahead<'_>>,
) -> (Result<Reply, Fault>, Instant) {
    let Some(Ahead { call, began, stake }) = ahead else {
        let began = Instant::now();
        return (ask(errand).await, began);
    };
    stake.wanted();
    let beside = began.elapsed();
    let reply = match call {
        Call::Running(call) => call.await,
        Call::Answered(reply) => *reply,
    };
    let timed = |reply: Reply| Reply { timing: reply.timing.after(beside), ..reply };
    (reply.map(timed), began)
}

/// The lookup alone.
pub(super) async fn lookup(errand: &Errand) -> Search<'_> {
    let cache = &errand.house.cache;
    cache.search(&errand.key, &errand.prompt, &errand.plan, &Notify::const_new()).await
}

/// The lookup with what was begun beside it; `None` when nobody wants either any more.
pub(super) async fn lookup_with_call<'e>(
    errand: &'e Errand,
    lead: &Lead<AnswerHead>,
) -> Option<(Search<'e>, Option<Ahead<'e>>)> {
    let (upstream, tenant) = (&errand.upstream, &errand.key.tenant);
    let begun = Notify::const_new();
    let cache = &errand.house.cache;
    let mut search = pin!(cache.search(&errand.key, &errand.prompt, &errand.plan, &begun));
    tokio::select! {
        biased;
        search = search.as_mut() => {
            // One that was over at once may have begun all the same.
            if begun.notified().now_or_never().is_some() {
                upstream.looked(tenant, looked(&search));
            }
            return Some((search, None));
        }
        () = begun.notified() => {}
    }
    let Some(stake) = upstream.stake(tenant) else {
        let search = search.await;
        upstream.looked(tenant, looked(&search));
        return Some((search, None));
    };
    let began = Instant::now();
    let mut call = Call::Running(Box::pin(ask(errand)));
    let patient = errand.house.config.cache.finish_abandoned;
    let search = loop {
        tokio::select! {
            biased;
            () = lead.deserted(), if !patient => return None,
            search = search.as_mut() => break search,
            answer = call.answered() => call = Call::Answered(Box::new(answer)),
        }
    };
    let looked = looked(&search);
    upstream.looked(tenant, looked);
    let ahead = Ahead { call, began, stake };
    // A hit drops the call.
    Some((search, (looked == Looked::Miss).then_some(ahead)))
}

fn looked(search: &Search<'_>) -> Looked {
    match &search.outcome {
        Ok(_) => Looked::Hit,
        Err(_) => Looked::Miss,
    }
}
