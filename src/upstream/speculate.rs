//! Calls that begin before it is known whether they are wanted.
//!
//! While a question is looked for by id, embedded and looked for by meaning, its upstream waits. Where
//! a hit is unlikely the call may as well begin at once: a miss then pays nothing for its lookup. A hit
//! makes it a call in vain, so two rules bound those: only tenants whose recent lookups rarely hit, and
//! only a share of all lookups.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use moka::sync::Cache;
use tokio::time::Instant;

use super::{Upstream, budget::Budget};
use crate::config;

/// Where more than one lookup in ten hits, the load of calls in vain outweighs a miss's few
/// milliseconds.
const CHANCE_MAX: f32 = 0.1;

/// What one lookup weighs in the estimate: it follows the last thirty or so.
const WEIGHT: f32 = 1.0 / 32.0;

/// Calls in vain that a quiet time may save up; also how many may be undecided at once.
const SAVED_MAX: f64 = 10.0;

/// Tenants whose chance is remembered.
const TENANTS_MAX: u64 = 10_000;

/// What a lookup in the store came to that may go on by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// An answer that was served.
    Hit,
    /// Nothing that may be served.
    Miss,
}

/// How often, and for whom.
#[derive(Debug)]
pub(super) struct Speculation {
    budget: Budget,
    /// How likely a tenant's next lookup hits, as the bits of an `f32`.
    chances: Cache<Arc<str>, Arc<AtomicU32>>,
    begun: AtomicU64,
    in_vain: AtomicU64,
}

impl Speculation {
    /// `None` where the configuration wants none.
    pub(super) fn new(settings: &config::Upstream) -> Option<Self> {
        (settings.speculate > 0.0).then(|| Self {
            budget: Budget::new(settings.speculate, 0.0, SAVED_MAX),
            chances: Cache::new(TENANTS_MAX),
            begun: AtomicU64::new(0),
            in_vain: AtomicU64::new(0),
        })
    }

    /// Takes one call out of the budget, where `tenant`'s lookup is unlikely to hit.
    fn take(&self, tenant: &str) -> bool {
        // Of whom nothing is known, nothing is known to hit: not before its first miss.
        let chance = self.chances.get(tenant).map(|bits| f32::from_bits(bits.load(Relaxed)));
        let may =
            chance.is_some_and(|chance| chance < CHANCE_MAX) && self.budget.spend(Instant::now());
        self.begun.fetch_add(u64::from(may), Relaxed);
        may
    }

    fn learn(&self, tenant: &Arc<str>, looked: Looked) {
        self.budget.earn();
        let new = || Arc::new(AtomicU32::new(CHANCE_MAX.to_bits()));
        let chance = self.chances.get_with(tenant.clone(), new);
        let target = match looked {
            Looked::Hit => 1.0,
            Looked::Miss => 0.0,
        };
        // Two at once may lose one of the steps: it is an estimate.
        let before = f32::from_bits(chance.load(Relaxed));
        chance.store((before + WEIGHT * (target - before)).to_bits(), Relaxed);
    }
}

/// The right to one call that may turn out to be in vain: that it was, unless [`Stake::wanted`] says
/// otherwise.
#[derive(Debug)]
pub struct Stake {
    upstream: Arc<Upstream>,
    outcome: Looked,
}

impl Stake {
    /// The call is wanted: it put no load on anybody that would not have been there.
    pub fn wanted(mut self) {
        self.outcome = Looked::Miss;
    }
}

impl Drop for Stake {
    fn drop(&mut self) {
        let Some(speculation) = &self.upstream.speculation else { return };
        match self.outcome {
            Looked::Miss => speculation.budget.give_back(),
            Looked::Hit => {
                speculation.in_vain.fetch_add(1, Relaxed);
            }
        }
    }
}

impl Upstream {
    /// The right to begin a call for `tenant` whose lookup still runs; `None` where it may hit, where the
    /// share is used up, or where others wait for their turn.
    pub fn stake(self: &Arc<Self>, tenant: &str) -> Option<Stake> {
        let speculation = self.speculation.as_ref()?;
        let idle = self.waiting().0 == 0 && !self.is_out();
        let may = idle && speculation.take(tenant);
        may.then(|| Stake { upstream: self.clone(), outcome: Looked::Hit })
    }

    /// Learns from a lookup of `tenant` in the store that may go on by meaning.
    pub fn looked(&self, tenant: &Arc<str>, looked: Looked) {
        if let Some(speculation) = &self.speculation {
            speculation.learn(tenant, looked);
        }
    }

    /// Calls begun ahead of their lookup's end, and those of them that were in vain, since the start.
    pub fn speculated(&self) -> (u64, u64) {
        let counts = |one: &Speculation| (one.begun.load(Relaxed), one.in_vain.load(Relaxed));
        self.speculation.as_ref().map_or((0, 0), counts)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{config::Overrides, upstream::Upstreams};

    fn upstream(share: f64) -> Arc<Upstream> {
        let overrides =
            Overrides { upstream: Some("http://127.0.0.1:1".into()), ..Overrides::default() };
        let mut config = config::load(None, &BTreeMap::new(), &overrides).unwrap();
        config.upstream[0].speculate = share;
        Upstreams::open(&config).unwrap().all()[0].clone()
    }

    #[tokio::test]
    async fn only_where_hits_are_rare() {
        let upstream = upstream(1.0);
        let (rare, often): (Arc<str>, Arc<str>) = ("rare".into(), "often".into());
        assert!(upstream.stake(&rare).is_none(), "nothing is known yet");
        for turn in 0..100 {
            upstream.looked(&rare, Looked::Miss);
            upstream.looked(&often, if turn % 4 == 0 { Looked::Hit } else { Looked::Miss });
        }
        assert!(upstream.stake(&rare).is_some());
        assert!(upstream.stake(&often).is_none());
        for _ in 0..4 {
            upstream.looked(&rare, Looked::Hit);
        }
        assert!(upstream.stake(&rare).is_none(), "they are rare no more");
    }

    #[tokio::test]
    async fn calls_in_vain_are_a_share_of_the_lookups() {
        const LOOKUPS: u64 = 10_000;
        let upstream = upstream(0.01);
        let tenant: Arc<str> = "t".into();
        let mut begun = 0;
        for lookup in 0..LOOKUPS {
            let looked = if lookup % 25 == 24 { Looked::Hit } else { Looked::Miss };
            if let Some(stake) = upstream.stake(&tenant) {
                begun += 1;
                if looked == Looked::Miss {
                    stake.wanted();
                }
            }
            upstream.looked(&tenant, looked);
        }
        let (counted, in_vain) = upstream.speculated();
        assert_eq!(counted, begun);
        // One in 25 would have been in vain without the bound.
        assert!((100..=110).contains(&in_vain), "{in_vain} of {LOOKUPS}");
    }

    #[tokio::test]
    async fn so_many_are_undecided_at_once() {
        let upstream = upstream(0.05);
        let tenant: Arc<str> = "t".into();
        upstream.looked(&tenant, Looked::Miss);
        let mut stakes: Vec<_> = (0..20).map_while(|_| upstream.stake(&tenant)).collect();
        assert_eq!(stakes.len(), 10);
        stakes.pop().unwrap().wanted();
        assert!(upstream.stake(&tenant).is_some(), "one that was wanted gives its place back");
    }

    #[tokio::test]
    async fn none_unless_configured() {
        let upstream = upstream(0.0);
        upstream.looked(&"t".into(), Looked::Miss);
        assert!(upstream.stake("t").is_none());
        assert_eq!(upstream.speculated(), (0, 0));
    }
}
