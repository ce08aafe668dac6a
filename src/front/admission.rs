//! Admission: how many requests may be in flight at once.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    time::Duration,
};

use crate::fault::{Fault, Kind};

/// What a refused client is asked to wait: about what a hit takes to make room a thousand times
/// over, and short enough for a person to wait out.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The door: `limit` requests inside at once, nobody queues. A queue would only turn overload into
/// latency; whoever is over the limit learns it at once and can go elsewhere. Clones are the same
/// door.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Door>);

#[derive(Debug)]
struct Door {
    inside: AtomicUsize,
    limit: AtomicUsize,
}

/// Proof that one request is inside. Hold it in the response body: it is over when the body is.
#[derive(Debug)]
#[must_use = "dropping it ends the request's admission"]
pub struct Admitted(Arc<Door>);

impl Admission {
    /// A door for `limit` requests.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Door { inside: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }))
    }

    /// Another limit from now on. Whoever is inside stays.
    pub fn resize(&self, limit: usize) {
        self.0.limit.store(limit, Relaxed);
    }

    /// Takes a place, or says [`Kind::Overloaded`] with a `Retry-After`.
    pub fn admit(&self) -> Result<Admitted, Fault> {
        let limit = self.0.limit.load(Relaxed);
        let enter = |inside: usize| (inside < limit).then_some(inside + 1);
        match self.0.inside.fetch_update(AcqRel, Acquire, enter) {
            Ok(_) => Ok(Admitted(Arc::clone(&self.0))),
            Err(_) => Err(Fault::new(Kind::Overloaded, "too many requests in flight; try again")
                .safe_to_retry()
                .retry_after(RETRY_AFTER)),
        }
    }

    /// Requests inside now.
    pub fn in_flight(&self) -> usize {
        self.0.inside.load(Acquire)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Retry;

    #[test]
    fn one_too_many_is_refused_at_once_and_a_place_comes_back_on_drop() {
        let door = Admission::new(2);
        let first = door.admit().unwrap();
        let _second = door.admit().unwrap();
        let fault = door.admit().unwrap_err();
        assert_eq!((fault.kind, fault.retry), (Kind::Overloaded, Retry::Safe));
        assert_eq!(fault.retry_after, Some(Duration::from_secs(1)));
        assert_eq!(door.in_flight(), 2);
        drop(first);
        assert_eq!(door.in_flight(), 1);
        let _third = door.admit().unwrap();
    }

    #[test]
    fn a_smaller_door_lets_nobody_in_until_enough_have_left() {
        let door = Admission::new(3);
        let inside = [door.admit(), door.admit(), door.admit()];
        door.resize(2);
        let [first, second, _third] = inside;
        assert!(door.admit().is_err());
        drop(first);
        assert!(door.admit().is_err());
        drop(second);
        let _fourth = door.admit().unwrap();
        door.resize(3);
        let _fifth = door.admit().unwrap();
        assert!(door.admit().is_err());
    }

    #[test]
    fn clones_are_the_same_door() {
        let door = Admission::new(1);
        let _inside = door.clone().admit().unwrap();
        assert!(door.admit().is_err());
    }
}
