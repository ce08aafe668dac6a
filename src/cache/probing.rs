//! How often one client of a shared scope may look for near questions of others.
//!
//! Who asks many slightly different questions learns from hits and misses what others asked
//!. Past the limit a client's requests are forwarded:
//! slower, never refused.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache as Recents;

use crate::front::tenant::Principal;

/// From this similarity on a lookup tells that somebody asked something like it.
pub(super) const NEAR: f32 = 0.8;
/// Clients that are counted; the least recent of more are forgotten.
const COUNTED: u64 = 100_000;

/// Near lookups by client in the current minute.
#[derive(Debug)]
pub(super) struct Probing {
    limit: u32,
    counts: Recents<Principal, Arc<AtomicU32>>,
}

impl Probing {
    /// At most `limit` near lookups a minute and client; 0: no limit.
    pub(super) fn new(limit: u32) -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        let counts = Recents::builder().max_capacity(COUNTED).time_to_live(MINUTE).build();
        Self { limit, counts }
    }

    /// Counts one, and says whether it is too many.
    pub(super) fn is_too_much(&self, who: Principal) -> bool {
        if self.limit == 0 {
            return false;
        }
        let count = self.counts.get_with(who, Arc::default);
        count.fetch_add(1, Ordering::Relaxed) >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_minute() {
        let probing = Probing::new(3);
        let passed = |who| (0..10).filter(|_| !probing.is_too_much(Principal(who))).count();
        assert_eq!((passed(1), passed(2), passed(1)), (3, 3, 0));
        assert!((0..1000).all(|_| !Probing::new(0).is_too_much(Principal(1))));
    }
}
