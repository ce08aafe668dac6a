//! Admission: how many requests may be in flight at once.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fault::{Fault, Kind};

/// What a refused client is asked to wait: about what a hit takes to make room a thousand times
/// over, and short enough for a person to wait out.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The door: `limit` requests inside at once, nobody queues. A queue would only turn overload into
/// latency; whoever is over the limit learns it at once and can go elsewhere.
#[derive(Clone, Debug)]
pub struct Admission {
    inside: Arc<Semaphore>,
    limit: usize,
}

/// Proof that one request is inside. Hold it in the response body: it is over when the body is.
#[derive(Debug)]
#[must_use = "dropping it ends the request's admission"]
pub struct Admitted {
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    /// A door for `limit` requests.
    pub fn new(limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self { inside: Arc::new(Semaphore::new(limit)), limit }
    }

    /// Takes a place, or says [`Kind::Overloaded`] with a `Retry-After`.
    pub fn admit(&self) -> Result<Admitted, Fault> {
        match Arc::clone(&self.inside).try_acquire_owned() {
            Ok(permit) => Ok(Admitted { _permit: permit }),
            Err(_) => Err(Fault::new(Kind::Overloaded, "too many requests in flight; try again")
                .safe_to_retry()
                .retry_after(RETRY_AFTER)),
        }
    }

    /// Requests inside now.
    pub fn in_flight(&self) -> usize {
        self.limit - self.inside.available_permits()
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
    fn clones_are_the_same_door() {
        let door = Admission::new(1);
        let _inside = door.clone().admit().unwrap();
        assert!(door.admit().is_err());
    }
}
