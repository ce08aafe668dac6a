//! Who answers: one upstream by path, headers and model, and others after it when it fails.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::request::Parts;

use super::House;
use crate::{
    fault::{Fault, Kind, Retry, Whose},
    observe::RecordGuard,
    upstream::{Call, Outgoing, Reply, Upstream},
};

/// The upstream for a request, whose model is `None` until it was read.
pub(super) fn route(
    house: &House,
    parts: &Parts,
    model: Option<&str>,
) -> Result<Arc<Upstream>, Fault> {
    let found = house.upstreams.route(parts.uri.path(), &parts.headers, model);
    found.cloned().ok_or_else(|| nobody(parts, model))
}

/// Notes whose request it is to be.
pub(super) fn note(house: &House, upstream: &Upstream, parts: &Parts, record: &mut RecordGuard) {
    let dialect = upstream.dialects().at(parts.uri.path());
    let dialect = dialect.map_or("none", |dialect| dialect.name());
    record.route = house.observer.route(upstream.name(), dialect);
}

fn nobody(parts: &Parts, model: Option<&str>) -> Fault {
    let path = parts.uri.path();
    let message = match model {
        Some(_) => format!("no upstream's routes and models cover this model at {path}"),
        None => format!("no upstream's routes cover the path {path}"),
    };
    Fault::new(Kind::NoRoute, message)
}

/// A request that can be sent more than once.
pub(super) struct Errand<'a> {
    pub(super) head: &'a Parts,
    pub(super) body: &'a Bytes,
    /// `None`: nobody has read it, so what it does must not be done twice.
    pub(super) call: Option<Call<'a>>,
}

/// Asks `first`, and those that stand in for it for as long as each one fails. Boxed: an exchange is
/// large, and every request's future would carry it.
///
/// # Errors
/// The last fault, where nobody had any answer.
pub(super) fn ask<'a>(
    house: &'a House,
    first: &'a Arc<Upstream>,
    errand: Errand<'a>,
) -> BoxFuture<'a, Result<Reply, Fault>> {
    Box::pin(in_turn(house, first, errand))
}

async fn in_turn(house: &House, first: &Arc<Upstream>, errand: Errand<'_>) -> Result<Reply, Fault> {
    let mut outcome = Err(Fault::new(Kind::Internal, "nobody was asked"));
    let after = house.upstreams.after(first);
    for place in 0..=after.len() {
        // By number: the compiler cannot prove a chain of both sendable.
        let Some(upstream) = place.checked_sub(1).map_or(Some(first), |at| after.get(at)) else {
            break;
        };
        let is_last = place == after.len();
        if !is_last && upstream.is_out() {
            // Whoever asked for a pause gets it while somebody else is there.
            upstream.failed_over();
            continue;
        }
        let (head, body) = (errand.head.clone(), errand.body.clone());
        let sent = match errand.call {
            Some(call) => upstream.call(head, body, call).await,
            None => upstream.send(head, Outgoing::Whole(body)).await,
        };
        let goes_on = !is_last && errand.may_go_on(&sent);
        if sent.is_ok() || outcome.is_err() {
            outcome = sent;
        }
        if !goes_on {
            break;
        }
        upstream.failed_over();
    }
    outcome
}

impl Errand<'_> {
    fn may_go_on(&self, sent: &Result<Reply, Fault>) -> bool {
        match sent {
            Ok(reply) if reply.declined => true,
            Ok(reply) => self.call.is_some() && reply.head.status.is_server_error(),
            Err(fault) if fault.retry == Retry::Safe => true,
            Err(fault) => self.call.is_some() && fault.kind.whose() == Whose::Upstream,
        }
    }
}
