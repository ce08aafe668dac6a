//! Single-flight that lasts as long as a generation: lead or follow.
//!
//! Identical requests in one scope board the same [`Flight`]. The first one's journey (lookup, then
//! upstream) runs in a task of its own, so that its client may leave; the others read the same
//! [`log::Log`] from its beginning. A flight passes through two announcements, each made once: its
//! [`Course`] (a hit, a stream, a fault) and its [`Landing`] (what was kept of it).

pub mod log;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::watch;

use self::log::{Budget, Log, Writer};
use super::{Hit, entry::Entry, semantic::Times};
use crate::{
    fault::Fault,
    store::EntryId,
    wire::{NotStorable, Shape},
};

/// Which way a flight takes. `H` is the head of an upstream's answer, opaque to the cache.
#[derive(Debug)]
pub enum Course<H> {
    /// The cache had the answer, and looking took so long.
    Hit(Hit, Times),
    /// The upstream answers; its bytes are in the log.
    Stream {
        /// Status and headers.
        head: Arc<H>,
        /// The body as it comes.
        log: Arc<Log>,
    },
    /// The upstream failed before its first byte.
    Fault(Fault),
    /// The leader vanished before it knew: board again.
    Lost,
}

impl<H> Clone for Course<H> {
    fn clone(&self) -> Self {
        match self {
            Self::Hit(hit, times) => Self::Hit(hit.clone(), *times),
            Self::Stream { head, log } => Self::Stream { head: head.clone(), log: log.clone() },
            Self::Fault(fault) => Self::Fault(fault.clone()),
            Self::Lost => Self::Lost,
        }
    }
}

/// What became of a stream.
#[derive(Clone, Debug)]
pub enum Landing {
    /// It is complete and kept.
    Kept(Arc<Entry>),
    /// It was not kept, and why.
    Gone(NotStorable),
}

/// One running request that others may join.
#[derive(Debug)]
struct Flight<H> {
    id: EntryId,
    shape: Shape,
    course: watch::Sender<Option<Course<H>>>,
    landing: watch::Sender<Option<Landing>>,
}

impl<H> Flight<H> {
    fn new(id: EntryId, shape: Shape) -> Arc<Self> {
        Arc::new(Self {
            id,
            shape,
            course: watch::Sender::new(None),
            landing: watch::Sender::new(None),
        })
    }

    fn passenger(self: &Arc<Self>) -> Passenger<H> {
        Passenger { course: self.course.subscribe(), flight: self.clone() }
    }
}

/// A client aboard. While one exists, somebody wants the answer: it is held to the end of the
/// client's response body.
#[derive(Debug)]
pub struct Passenger<H> {
    flight: Arc<Flight<H>>,
    course: watch::Receiver<Option<Course<H>>>,
}

impl<H> Passenger<H> {
    /// The shape that the leader asked for: in which the log's bytes are.
    pub fn shape(&self) -> Shape {
        self.flight.shape
    }

    /// Waits until it is known which way the flight takes.
    pub async fn course(&mut self) -> Course<H> {
        let seen = self.course.wait_for(Option::is_some).await;
        seen.ok().and_then(|course| course.clone()).unwrap_or(Course::Lost)
    }

    /// Waits until it is known what was kept.
    pub async fn landing(&self) -> Landing {
        let mut landing = self.flight.landing.subscribe();
        let seen = landing.wait_for(Option::is_some).await;
        let seen = seen.ok().and_then(|landing| landing.clone());
        seen.unwrap_or(Landing::Gone(NotStorable::Incomplete))
    }

    /// What was kept, if that is known already.
    pub fn landed(&self) -> Option<Landing> {
        self.flight.landing.borrow().clone()
    }
}

/// All flights of this process.
#[derive(Debug)]
pub struct Flights<H> {
    table: Mutex<HashMap<EntryId, Arc<Flight<H>>>>,
    budget: Arc<Budget>,
    log_limit: usize,
    joined: AtomicU64,
}

/// What boarding gives.
#[derive(Debug)]
pub enum Seat<H> {
    /// Nobody is on the way: make the journey, announce it through this.
    Leader(Lead<H>, Passenger<H>),
    /// Somebody is: follow.
    Follower(Passenger<H>),
}

/// How flights are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct FlightReport {
    /// Flights on their way.
    pub running: u64,
    /// Requests that joined another's flight so far.
    pub joined: u64,
    /// Bytes in all logs.
    pub log_bytes: u64,
}

impl<H> Flights<H> {
    /// `log_limit` bytes for one log, `budget` bytes for all of them.
    pub fn new(log_limit: usize, budget: usize) -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::new(HashMap::new()),
            budget: Budget::new(budget),
            log_limit,
            joined: AtomicU64::new(0),
        })
    }

    /// Joins the flight of this id, or becomes its leader.
    pub fn board(self: &Arc<Self>, id: EntryId, shape: Shape) -> Seat<H> {
        let mut table = self.table.lock();
        if let Some(flight) = table.get(&id) {
            self.joined.fetch_add(1, Ordering::Relaxed);
            return Seat::Follower(flight.passenger());
        }
        let flight = Flight::new(id, shape);
        table.insert(id, flight.clone());
        let passenger = flight.passenger();
        Seat::Leader(Lead { flights: self.clone(), flight }, passenger)
    }

    /// A flight that nobody can join: for a client that wants its very own fresh answer.
    pub fn alone(self: &Arc<Self>, id: EntryId, shape: Shape) -> (Lead<H>, Passenger<H>) {
        let flight = Flight::new(id, shape);
        let passenger = flight.passenger();
        (Lead { flights: self.clone(), flight }, passenger)
    }

    /// Counts for metrics.
    pub fn report(&self) -> FlightReport {
        FlightReport {
            running: self.table.lock().len() as u64,
            joined: self.joined.load(Ordering::Relaxed),
            log_bytes: self.budget.used() as u64,
        }
    }
}

/// The duty to announce a flight's course and landing. Dropped early (a panic, an abort), it
/// announces the loss, and one of the followers leads anew.
#[derive(Debug)]
pub struct Lead<H> {
    flights: Arc<Flights<H>>,
    flight: Arc<Flight<H>>,
}

impl<H> Lead<H> {
    /// Announces the course. A hit or a fault has nothing left to land.
    pub fn announce(&self, course: Course<H>) {
        self.flight.course.send_replace(Some(course));
    }

    /// A log for this flight's answer.
    pub fn log(&self) -> Writer {
        Log::new(self.flights.log_limit, &self.flights.budget)
    }

    /// Announces what was kept; the flight is over. Whatever shall be found by those who come
    /// after must be in the cache before this.
    pub fn land(self, landing: Landing) {
        self.flight.landing.send_replace(Some(landing));
    }

    /// Resolves when nobody is aboard, and closes the doors: no one can board after that.
    pub async fn deserted(&self) {
        loop {
            self.flight.course.closed().await;
            let mut table = self.flights.table.lock();
            // Somebody may have boarded between the last one's leaving and this lock.
            if self.flight.course.receiver_count() == 0 {
                self.unlist(&mut table);
                return;
            }
        }
    }

    /// Lets nobody join any more, while those aboard go on: the log is no longer whole.
    pub fn close_doors(&self) {
        self.unlist(&mut self.flights.table.lock());
    }

    fn unlist(&self, table: &mut HashMap<EntryId, Arc<Flight<H>>>) {
        // Only our own flight: another may have been boarded under the same id since.
        if table.get(&self.flight.id).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            table.remove(&self.flight.id);
        }
    }
}

impl<H> Drop for Lead<H> {
    fn drop(&mut self) {
        self.close_doors();
        let unset = |value: &Option<_>| value.is_none();
        if unset(&self.flight.course.borrow()) {
            self.flight.course.send_replace(Some(Course::Lost));
        }
        if self.flight.landing.borrow().is_none() {
            self.flight.landing.send_replace(Some(Landing::Gone(NotStorable::Incomplete)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Kind;

    const ID: EntryId = EntryId(1);

    fn lead(seat: Seat<()>) -> (Lead<()>, Passenger<()>) {
        match seat {
            Seat::Leader(lead, passenger) => (lead, passenger),
            Seat::Follower(_) => panic!("somebody leads already"),
        }
    }

    fn follow(seat: Seat<()>) -> Passenger<()> {
        match seat {
            Seat::Follower(passenger) => passenger,
            Seat::Leader(..) => panic!("nobody leads"),
        }
    }

    #[tokio::test]
    async fn one_leads_and_all_others_hear_the_same() {
        let flights = Flights::new(1 << 20, 1 << 20);
        let (lead, _own) = lead(flights.board(ID, Shape::Whole));
        let followers: Vec<_> = (0..100).map(|_| follow(flights.board(ID, Shape::Whole))).collect();
        assert_eq!(flights.report().joined, 100);
        lead.announce(Course::Fault(Fault::new(Kind::Connect, "down")));
        for mut passenger in followers {
            assert!(matches!(passenger.course().await, Course::Fault(_)));
        }
        lead.land(Landing::Gone(NotStorable::Status));
        assert_eq!(flights.report().running, 0);
    }

    #[tokio::test]
    async fn a_lost_leader_is_succeeded_by_exactly_one() {
        let flights = Flights::new(1 << 20, 1 << 20);
        let first = lead(flights.board(ID, Shape::Whole));
        let mut follower = follow(flights.board(ID, Shape::Whole));
        drop(first);
        assert!(matches!(follower.course().await, Course::Lost));
        let _second = lead(flights.board(ID, Shape::Whole));
        follow(flights.board(ID, Shape::Whole));
    }

    #[tokio::test]
    async fn closed_doors_keep_those_aboard_and_start_a_new_flight() {
        let flights = Flights::new(1 << 20, 1 << 20);
        let (first, _own) = lead(flights.board(ID, Shape::Whole));
        let aboard = follow(flights.board(ID, Shape::Whole));
        first.close_doors();
        let second = lead(flights.board(ID, Shape::Whole));
        drop(first); // must not end the second one's listing
        follow(flights.board(ID, Shape::Whole));
        assert!(matches!(aboard.landing().await, Landing::Gone(_)));
        drop(second);
    }

    #[tokio::test]
    async fn a_flight_is_deserted_only_when_everybody_left() {
        let flights = Flights::new(1 << 20, 1 << 20);
        let (lead, own) = lead(flights.board(ID, Shape::Whole));
        let other = follow(flights.board(ID, Shape::Whole));
        let deserted = lead.deserted();
        tokio::pin!(deserted);
        drop(own);
        assert!(futures_util::poll!(deserted.as_mut()).is_pending());
        drop(other);
        deserted.await;
        assert_eq!(flights.report().running, 0);
    }

    #[tokio::test]
    async fn a_flight_alone_is_never_joined() {
        let flights = Flights::<()>::new(1 << 20, 1 << 20);
        let _alone = flights.alone(ID, Shape::Whole);
        let _lead = lead(flights.board(ID, Shape::Whole));
    }
}
