//! Answers that the cache has no part in: forwarded untouched, streaming both ways.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use super::{Body, House, Sent, report, routing};
use crate::{
    cache::reason::Reason,
    fault::Fault,
    front::{body::Upload, hygiene},
    observe::{Outcome, RecordGuard, Stage},
    upstream::{Outgoing, Reply, Upstream},
    wire::grpc,
};

/// Forwards a request as it streams in, untouched.
pub(super) async fn pass_through(
    house: &House,
    upstream: &Arc<Upstream>,
    parts: &mut Parts,
    sent: Sent,
    reason: Reason,
    record: &mut RecordGuard,
) -> Result<Response<Body>, Fault> {
    if sent.is_end_stream() {
        return forward(house, upstream, parts, Bytes::new(), reason, record).await;
    }
    record.reason = Some(reason.name());
    hygiene::strip_control(&mut parts.headers);
    // A call of gRPC may listen for long before it says more.
    let idle = match grpc::is_call(&parts.headers) {
        true => house.config.timeouts.lifetime.get(),
        false => house.config.limits.body_idle.get(),
    };
    let body = Outgoing::Stream(Upload::new(sent, idle).boxed());
    let reply = upstream.send(parts.clone(), body).await?;
    Ok(passed(reply, reason, record))
}

/// Forwards a request that is all here, with its own bytes.
pub(super) async fn forward(
    house: &House,
    upstream: &Arc<Upstream>,
    parts: &mut Parts,
    body: Bytes,
    reason: Reason,
    record: &mut RecordGuard,
) -> Result<Response<Body>, Fault> {
    record.reason = Some(reason.name());
    hygiene::strip_control(&mut parts.headers);
    let errand = routing::Errand { head: parts, body: &body, call: None };
    let reply = routing::ask(house, upstream, errand).await?;
    Ok(passed(reply, reason, record))
}

fn passed(reply: Reply, reason: Reason, record: &mut RecordGuard) -> Response<Body> {
    let Reply { head, body, timing, replica, .. } = reply;
    record.outcome = Outcome::Bypass;
    record.replica = Some(replica);
    record.stages.record(Stage::Queue, timing.queue);
    if let Some(connect) = timing.connect {
        record.stages.record(Stage::Connect, connect);
    }
    record.stages.record(Stage::First, timing.first_byte);
    report::bypass(head, reason, Body::direct(body))
}
