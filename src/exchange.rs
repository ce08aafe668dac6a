//! Room 2: the whole story of a request, top to bottom.
//!
//! [`story`] reads as the request lives: hygiene, route, tenant, control, body, prompt, plan, key,
//! memory, flight. What it cannot answer from memory becomes a [`journey`] in a task of its own,
//! because the answer may be wanted by others when this client has gone.

mod ahead;
mod batch;
mod boarding;
mod call;
mod drain;
mod explain;
mod forward;
mod journey;
mod keep;
mod reading;
mod replay;
mod report;
mod routing;
mod several;
mod upgrade;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tokio_util::task::TaskTracker;

use self::{
    batch::{Forward, Item},
    boarding::board,
    call::{Keying, cacheable, call, renamed},
    forward::{forward, pass_through},
    journey::{AnswerHead, Errand},
    replay::replay,
};
pub use self::{
    explain::{Asked, Told},
    keep::{Addressed, Unkept},
    reading::Readings,
};
use crate::{
    cache::{
        Cache, HitKind,
        flight::{Course, Flights, Seat},
        policy::{self, Control},
        reason::Reason,
        semantic::Times,
    },
    config::{self, Config, NoStore, Replay},
    fault::{Fault, Kind},
    front::{
        Handler, Peer,
        admission::Admission,
        body::{BodyLimits, Room, leave, read_whole},
        hygiene,
        quota::{Quotas, Standing},
        tenant::{Scope, Tenants},
    },
    observe::{Observer, Outcome, RecordGuard, Stage},
    relay,
    upstream::Upstreams,
    wire::{Dialect, grpc},
};

/// The body that clients read.
pub type Body = relay::Body<AnswerHead>;

/// The rooms that an exchange walks through. It never changes: a new configuration is a new house
/// that shares what it can, and whoever is inside the old one leaves it in their own time.
#[derive(Clone)]
pub struct House {
    /// The settings.
    pub config: Config,
    /// Who asks.
    pub tenants: Tenants,
    /// How many at once.
    pub admission: Admission,
    /// How many of one tenant.
    pub quotas: Quotas,
    /// How much of them at once.
    pub bodies: Room,
    /// What is known.
    pub cache: Arc<Cache>,
    /// What is on its way.
    pub flights: Arc<Flights<AnswerHead>>,
    /// Who knows the rest.
    pub upstreams: Upstreams,
    /// Who watches.
    pub observer: Arc<Observer>,
    /// Journeys; awaited at the end of the drain.
    pub tasks: TaskTracker,
    /// Bodies that were read before, under this configuration.
    pub readings: Readings,
}

impl House {
    /// The life of an upstream's answers.
    fn ttl(&self, upstream: &crate::upstream::Upstream) -> Duration {
        let ttl = self.settings(upstream).and_then(|one| one.ttl);
        ttl.unwrap_or(self.config.cache.ttl).get()
    }

    /// What an upstream's `no-store` means.
    fn no_store(&self, upstream: &crate::upstream::Upstream) -> NoStore {
        self.settings(upstream).map(|one| one.no_store).unwrap_or_default()
    }

    fn settings(&self, upstream: &crate::upstream::Upstream) -> Option<&config::Upstream> {
        self.config.upstream.iter().find(|one| one.name == upstream.name())
    }
}

/// Opens the house to the front: to each request the one that stands then.
pub struct Doorman(pub Arc<ArcSwap<House>>);

impl Handler for Doorman {
    type Body = Body;

    async fn handle(&self, peer: Peer, request: Request<Incoming>) -> Response<Body> {
        let house = &self.0.load_full();
        let (parts, incoming) = request.into_parts();
        if let Some(dialect) = several::carried(house, &parts) {
            return several::serve(self.0.clone(), peer, parts, incoming, dialect);
        }
        exchange(house, peer, parts, Sent::Left(incoming)).await
    }
}

/// A request's body: on its way, or here.
type Sent = Either<Incoming, Full<Bytes>>;

/// One request and its answer, recorded and counted.
async fn exchange(house: &Arc<House>, peer: Peer, mut parts: Parts, sent: Sent) -> Response<Body> {
    let request_id = house.observer.request_id(&parts.headers);
    let mut record = house.observer.begin(request_id);
    record.method = parts.method.clone();
    record.path = parts.uri.path().to_owned();
    record.trace(&mut parts.headers);
    let admitted = house.admission.admit();
    let told = match &admitted {
        Ok(_) => story(house, peer, &mut parts, sent, &mut record).await,
        Err(fault) => Err(fault.clone()),
    };
    if house.config.cache.replay == Replay::Paced {
        let left = record.upstream_saved.saturating_sub(record.stages.elapsed());
        tokio::time::sleep(left).await;
    }
    let response = told.unwrap_or_else(|fault| {
        record.outcome = Outcome::Error;
        record.fault = Some(fault.kind);
        if grpc::is_call(&parts.headers) {
            return report::grpc_refusal(&fault);
        }
        report::refusal(&fault, dialect_of(house, &parts).as_deref(), &record)
    });
    let (mut head, body) = response.into_parts();
    report::sign(&mut head.headers, &record);
    if let Some(standing) = parts.extensions.get::<Standing>() {
        standing.tell(&mut head.headers);
    }
    record.head(head.status);
    Response::from_parts(head, body.holding(record, admitted.ok()))
}

/// Everything that is decided about a request before its answer flows.
///
/// What goes on without an answer from memory is boxed: hyper moves the whole future several times, and those
/// branches are most of its bytes.
async fn story(
    house: &Arc<House>,
    peer: Peer,
    parts: &mut Parts,
    sent: Sent,
    record: &mut RecordGuard,
) -> Result<Response<Body>, Fault> {
    let wish = upgrade::Wish::of(parts);
    hygiene::request(parts, &peer, &house.config.listen.trusted)?;
    let upstream = &routing::route(house, parts, None)?;
    routing::note(house, upstream, parts, record);
    if let Some(wish) = wish {
        return Box::pin(upgrade::tunnel(house, upstream, parts, wish, record)).await;
    }
    let (scope, dialect) = match cacheable(house, upstream, parts) {
        Ok(known) => known,
        Err(reason) => {
            return Box::pin(pass_through(house, upstream, parts, sent, reason, record)).await;
        }
    };
    record.tenant = Some(scope.tenant());
    let control = match terms(house, &scope, parts) {
        Ok(control) => control,
        Err(fault) => {
            leave(&parts.headers, sent).await;
            return Err(fault);
        }
    };

    record.stages.restart_lap();
    let limits = BodyLimits::from(&house.config.limits);
    let (body, reserved) = read_whole(&parts.headers, sent, limits, &house.bodies).await?;
    record.bytes_in = body.len() as u64;
    record.stages.lap(Stage::Read);

    let prompt = match reading::read(house, &dialect, parts, &body).await {
        Ok(prompt) => prompt,
        Err(why) => {
            return Box::pin(forward(house, upstream, parts, body, why.into(), record)).await;
        }
    };
    let by_path = upstream;
    let upstream = &routing::route(house, parts, Some(&prompt.model))?;
    if !Arc::ptr_eq(by_path, upstream) {
        routing::note(house, upstream, parts, record);
    }
    let (body, prompt) = renamed(house, upstream, &*dialect, parts, (body, prompt));
    record.model = Some(prompt.model.clone());
    record.shape = Some(prompt.shape.name());
    if let Ok(question) = &prompt.question {
        record.prompt(question);
    }
    let plan = match policy::decide(&house.config.cache, house.ttl(upstream), &control, &prompt) {
        Ok(plan) => plan,
        Err(reason) => {
            return Box::pin(forward(house, upstream, parts, body, reason, record)).await;
        }
    };
    let keying = Keying {
        house,
        scope,
        control: &control,
        upstream,
        dialect: &*dialect,
        parts,
        peer: &peer,
    };
    let key = keying.key(&prompt);
    record.stages.lap(Stage::Key);

    let known = house.cache.exact(&key, &plan);
    record.stages.lap(Stage::Exact);
    let served = known.as_ref().ok().and_then(|hit| {
        let response = replay(house, &*dialect, prompt.shape, hit, Times::default(), record)?;
        Some((response, hit.kind))
    });
    if let Some((response, HitKind::Exact)) = served {
        return Ok(response);
    }
    let batch = dialect.items(call(house, parts, &body)).map_or_else(Vec::new, |one| one.prompts);
    let item = |prompt| Item { key: keying.key(&prompt), prompt };
    let items = batch.into_iter().map(item).collect();
    let errand = Arc::new(Errand {
        house: house.clone(),
        upstream: upstream.clone(),
        dialect,
        key,
        prompt,
        plan,
        head: parts.clone(),
        body,
        _reserved: Arc::new(reserved),
        tags: control.tags.clone(),
        items,
        known: known.as_ref().err().copied().flatten(),
        trace: record.trace,
    });
    if let Some((stale, kind)) = served {
        if kind == HitKind::Stale {
            refresh(&errand);
        }
        return Ok(stale);
    }
    let forward = if control.only_if_cached { Forward::Forbidden } else { Forward::Allowed };
    if let Some(response) = Box::pin(batch::answer(&errand, forward, record)).await {
        return Ok(response);
    }
    if control.only_if_cached {
        return Box::pin(only_if_cached(&errand, record)).await;
    }
    Box::pin(board(errand, record)).await
}

/// What the tenant may still ask, and what the request's headers ask of the cache.
fn terms(house: &House, scope: &Scope, parts: &mut Parts) -> Result<Control, Fault> {
    if let Some(standing) = house.quotas.take(&scope.tenant(), &house.config.limits)? {
        parts.extensions.insert(standing);
    }
    let control = Control::read(&parts.headers)?;
    hygiene::strip_cache_control(&mut parts.headers);
    Ok(control)
}

// === answers from the cache ===

/// Behind a stale answer a fresh one is fetched, by one refresher: whoever boards first.
fn refresh(errand: &Arc<Errand>) {
    let house = &errand.house;
    let seat = house.flights.board(errand.key.id, errand.prompt.shape);
    if let Seat::Leader(lead, mut passenger) = seat {
        house.tasks.spawn(journey::travel(errand.fresh(Reason::Stale), lead));
        // It is wanted to its end, but read by nobody: a place in its log that is never left would
        // hold back an answer that outgrew it.
        house.tasks.spawn(async move {
            if let Course::Stream { head, .. } = passenger.course().await {
                drop(head.first_reader(true));
                passenger.landing().await;
            }
        });
    }
}

/// `Cache-Control: only-if-cached`: the cache's answer or none (RFC 9111, 5.2.1.7).
async fn only_if_cached(
    errand: &Arc<Errand>,
    record: &mut RecordGuard,
) -> Result<Response<Body>, Fault> {
    let search = ahead::lookup(errand).await;
    note(record, search.times);
    let served = search.outcome.map_err(Reason::name).and_then(|hit| {
        if hit.kind == HitKind::Stale {
            refresh(errand);
        }
        let shape = errand.prompt.shape;
        replay(&errand.house, &*errand.dialect, shape, &hit, search.times, record)
            .ok_or(Reason::UsageUnknown.name())
    });
    served.map_err(|reason| {
        record.reason = Some(reason);
        Fault::new(
            Kind::OnlyIfCached,
            format!("not cached ({reason}), and only-if-cached was asked"),
        )
    })
}

// === small decisions ===

/// Notes how long a lookup's steps took.
fn note(record: &mut RecordGuard, times: Times) {
    for (stage, span) in [
        (Stage::Exact, times.by_id),
        (Stage::Embed, times.embed),
        (Stage::Search, times.search),
        (Stage::Verdict, times.verdict),
    ] {
        if !span.is_zero() {
            record.stages.record(stage, span);
        }
    }
}

/// In whose shape an error is told.
fn dialect_of(house: &House, parts: &Parts) -> Option<Arc<dyn Dialect>> {
    let found = house.upstreams.route(parts.uri.path(), &parts.headers, None)?;
    let dialects = found.dialects();
    dialects.at(parts.uri.path()).or_else(|| dialects.first()).cloned()
}
