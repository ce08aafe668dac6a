//! Answers from a flight: joining the one of this very request, or beginning it.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;

use super::{
    Body, House,
    journey::{self, AnswerHead, Errand},
    note,
    replay::replay,
    report,
};
use crate::{
    cache::{
        Hit, HitKind,
        flight::{Course, Landing, Passenger, Seat},
        reason::Reason,
        semantic::Times,
    },
    fault::{Fault, Kind},
    observe::{Outcome, RecordGuard, Stage},
    relay::Following,
    store::EntryId,
    wire::{NotStorable, Shape},
};

/// Flights that end without a kept answer are led anew so often, then a request goes alone.
const BOARDINGS_MAX: usize = 4;

/// Joins the flight of this very request, or begins it.
pub(super) async fn board(
    mut errand: Arc<Errand>,
    record: &mut RecordGuard,
) -> Result<Response<Body>, Fault> {
    let house = errand.house.clone();
    let (id, shape) = (errand.key.id, errand.prompt.shape);
    for boarding in 0..=BOARDINGS_MAX {
        let unkept = house.cache.unkept(id);
        if unkept.is_some() && errand.known.is_none() {
            let known = Some(Reason::Uncacheable);
            errand = Arc::new(Errand { known, ..Errand::clone(&errand) });
        }
        let alone = errand.plan.read.is_err() || boarding == BOARDINGS_MAX;
        let seat = if alone || unkept == Some(NotStorable::NoStore) {
            own(&house, id, shape)
        } else {
            match house.flights.board(id, shape) {
                // It waits for an answer to be kept, which will not happen.
                Seat::Follower(other) if unkept.is_some() && other.shape() != shape => {
                    own(&house, id, shape)
                }
                seat => seat,
            }
        };
        let (mut passenger, leads) = match seat {
            Seat::Leader(lead, passenger) => {
                house.tasks.spawn(journey::travel(errand.clone(), lead));
                (passenger, true)
            }
            Seat::Follower(passenger) => (passenger, false),
        };
        match passenger.course().await {
            // Whoever leads may have asked for less than we do (`x-reprise-mode`, `max-age`).
            Course::Hit(hit, _) if !house.cache.allows(&hit, &errand.plan) => {}
            Course::Hit(hit, times) => {
                if let Some(response) =
                    replay(&errand.house, &*errand.dialect, shape, &hit, times, record)
                {
                    return Ok(response);
                }
                // It lacks what this shape needs: only a fresh answer, for this client alone, has
                // that; it then replaces what the cache holds.
                errand = errand.fresh(Reason::UsageUnknown);
            }
            // It is for whoever asked alone (RFC 9111, 5.2.2): all others go at once, each for its own.
            Course::Stream { head, .. }
                if !leads && head.not_kept == Some(NotStorable::NoStore) => {}
            Course::Stream { head, log } => {
                record.outcome = if leads { Outcome::Miss } else { Outcome::Collapsed };
                if passenger.shape() != shape {
                    if let Some(response) = other_shape(&errand, &passenger, record).await {
                        return Ok(response);
                    }
                } else if let Some(reader) = head.first_reader(leads).or_else(|| log.reader()) {
                    let left = head.length();
                    let dialect = errand.dialect.clone();
                    let place = Following { reader, passenger, dialect, shape, left };
                    return Ok(follow(&errand, &head, place, record));
                }
            }
            Course::Fault(fault) => return Err(fault),
            Course::Lost => {}
        }
    }
    Err(Fault::new(Kind::Internal, "every try at this answer was lost"))
}

/// A flight that nobody can join.
fn own(house: &House, id: EntryId, shape: Shape) -> Seat<AnswerHead> {
    let (lead, passenger) = house.flights.alone(id, shape);
    Seat::Leader(lead, passenger)
}

/// The running answer as it comes.
fn follow(
    errand: &Errand,
    head: &Arc<AnswerHead>,
    place: Following<AnswerHead>,
    record: &mut RecordGuard,
) -> Response<Body> {
    record.reason = Some(head.reason.name());
    record.replica = Some(head.replica.clone());
    record.entry = head.not_kept.is_none().then_some(errand.key.id);
    record.similarity = head.nearest.or(head.judged.map(|(similarity, _)| similarity));
    record.verdict = head.judged.map(|(_, verdict)| verdict);
    record.joined = head.trace.filter(|_| record.outcome == Outcome::Collapsed);
    if record.outcome == Outcome::Miss {
        note(record, head.times);
        record.stages.record(Stage::Queue, head.timing.queue);
        if let Some(connect) = head.timing.connect {
            record.stages.record(Stage::Connect, connect);
        }
        record.stages.record(Stage::First, head.timing.first_byte);
    }
    let body = match head.is_all() {
        true => Body::whole(Bytes::new()),
        false => Body::following(place),
    };
    report::flight(head, record, body)
}

/// A follower that wants the other shape waits for the end: a body cannot become a stream before
/// it is all there.
async fn other_shape(
    errand: &Errand,
    passenger: &Passenger<AnswerHead>,
    record: &mut RecordGuard,
) -> Option<Response<Body>> {
    let Landing::Kept(entry) = passenger.landing().await else { return None };
    let hit = Hit { entry, kind: HitKind::Exact };
    let response = replay(
        &errand.house,
        &*errand.dialect,
        errand.prompt.shape,
        &hit,
        Times::default(),
        record,
    )?;
    record.outcome = Outcome::Collapsed;
    let (mut head, body) = response.into_parts();
    report::collapsed(&mut head.headers);
    Some(Response::from_parts(head, body))
}
