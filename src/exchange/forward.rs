//! Answers that the cache has no part in: forwarded untouched, streaming both ways.

use bytes::Bytes;
use http::{Response, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use super::{Body, House, report};
use crate::{
    cache::reason::Reason,
    fault::Fault,
    front::{body::Upload, hygiene},
    observe::{Outcome, RecordGuard, Stage},
    upstream::{Outgoing, Reply, Upstream},
};

/// Forwards a request as it streams in, untouched.
pub(super) async fn pass_through(
    house: &House,
    upstream: &Upstream,
    parts: &mut Parts,
    incoming: Incoming,
    reason: Reason,
    record: &mut RecordGuard,
) -> Result<Response<Body>, Fault> {
    let body = if incoming.is_end_stream() {
        Outgoing::Whole(Bytes::new())
    } else {
        let idle = house.config.limits.body_idle.get();
        Outgoing::Stream(Upload::new(incoming, idle).boxed())
    };
    send(upstream, parts, body, reason, record).await
}

/// Forwards a request that was read already, with its own bytes.
pub(super) async fn forward(
    upstream: &Upstream,
    parts: &mut Parts,
    body: Bytes,
    reason: Reason,
    record: &mut RecordGuard,
) -> Result<Response<Body>, Fault> {
    send(upstream, parts, Outgoing::Whole(body), reason, record).await
}

async fn send(
    upstream: &Upstream,
    parts: &mut Parts,
    body: Outgoing,
    reason: Reason,
    record: &mut RecordGuard,
) -> Result<Response<Body>, Fault> {
    record.reason = Some(reason.name());
    hygiene::strip_control(&mut parts.headers);
    let Reply { head, body, timing, replica, .. } = upstream.send(parts.clone(), body).await?;
    record.outcome = Outcome::Bypass;
    record.replica = Some(replica);
    record.stages.record(Stage::Queue, timing.queue);
    if let Some(connect) = timing.connect {
        record.stages.record(Stage::Connect, connect);
    }
    record.stages.record(Stage::First, timing.first_byte);
    Ok(report::bypass(head, reason, Body::direct(body)))
}
