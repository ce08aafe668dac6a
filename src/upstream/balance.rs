//! Which replica gets the next exchange.

use std::{
    cmp::Ordering,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::time::{Duration, Instant};

use super::{
    affinity::{Prefix, Ring},
    breaker::Standing,
    replica::Replica,
};

/// How much more than the mean a prompt's own replica may carry before the next one on the ring
/// takes it (bounded-load consistent hashing, Mirrokni, Thorup, Zadimoghaddam 2018).
const SPILL_ABOVE: f64 = 1.25;

/// Exchanges that a prompt's own replica may have above the mean in any case: with little traffic a
/// quarter is less than chance alone, and each needless spill puts one prefix into two caches.
const SPILL_SLACK: f64 = 4.0;

/// One exchange in so many at most goes to a replica that is spared for being slow, to see whether
/// it still is: a fifth of what would show in the pool's 99th percentile.
const PROBE_SHARE: u64 = 500;

/// It is asked in any case when it was spared for so long, so that one that recovered is back within
/// ten seconds...
const PROBE_WAIT: Duration = Duration::from_secs(8);

/// ...unless there were fewer draws meanwhile: where little is asked, the percentile comes first.
const PROBE_WAIT_DRAWS: u64 = 128;

/// Power of two choices, or prefix affinity where that is configured; around replicas that are out.
#[derive(Debug)]
pub(super) struct Balance {
    ring: Option<Ring>,
    draws: AtomicU64,
    /// The draw of the last probe.
    probed: AtomicU64,
}

/// How a replica was chosen: a label in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Branch {
    /// There is one.
    Only,
    /// The less loaded of two that were drawn.
    TwoChoices,
    /// One that is spared for being slow, to see whether it still is.
    Probe,
    /// The least loaded of all that may be asked.
    LeastLoaded,
    /// The one that holds this prompt's prefix.
    RingHit,
    /// The next one, because that one has too much to do.
    Spill,
    /// One whose ejection is over, to see whether it works again.
    Trial,
    /// Too many are ejected: ejections are ignored.
    NoHealthy,
}

impl Branch {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Only => "only",
            Self::TwoChoices => "two_choices",
            Self::Probe => "probe",
            Self::LeastLoaded => "least_loaded",
            Self::RingHit => "ring_hit",
            Self::Spill => "spill",
            Self::Trial => "trial",
            Self::NoHealthy => "no_healthy",
        }
    }
}

/// A choice.
pub(super) struct Pick<'a> {
    pub(super) index: usize,
    pub(super) replica: &'a Arc<Replica>,
    pub(super) branch: Branch,
}

impl Balance {
    pub(super) fn new(ring: Option<Ring>) -> Self {
        Self { ring, draws: AtomicU64::new(0), probed: AtomicU64::new(0) }
    }

    /// Whether [`Prefix`]es matter.
    pub(super) fn uses_prefix(&self) -> bool {
        self.ring.is_some()
    }

    /// One of `replicas`, none of `tried`; `None` when all were tried.
    pub(super) fn pick<'a>(
        &self,
        replicas: &'a [Arc<Replica>],
        tried: &[usize],
        prefix: Option<Prefix>,
        now: Instant,
    ) -> Option<Pick<'a>> {
        if let ([replica], []) = (replicas, tried) {
            // Nobody else could take it, so its standing does not matter.
            return Some(Pick { index: 0, replica, branch: Branch::Only });
        }
        let field = Field { replicas, tried, now };
        let near = prefix.zip(self.ring.as_ref());
        if let Some(pick) = near.and_then(|(prefix, ring)| field.by_ring(ring, prefix)) {
            return Some(pick);
        }
        if tried.is_empty() && replicas.len() > 1 {
            let draw = self.draws.fetch_add(1, Relaxed);
            let (one, other) = draw_two(draw, replicas.len());
            let probe =
                || [one, other].into_iter().find_map(|index| self.probe(&field, index, draw));
            if let Some(pick) = probe().or_else(|| field.better_of(one, other, draw)) {
                return Some(pick);
            }
        }
        field.by_search()
    }

    /// A probe, if one is due at this replica.
    fn probe<'a>(&self, field: &Field<'a, '_>, index: usize, draw: u64) -> Option<Pick<'a>> {
        let load = &field.replicas.get(index)?.load;
        let recently = draw.saturating_sub(self.probed.load(Relaxed)) < PROBE_SHARE;
        let due = |draws: u64, spared: Duration| {
            (draws >= PROBE_SHARE && !recently)
                || (draws >= PROBE_WAIT_DRAWS && spared >= PROBE_WAIT)
        };
        if field.standing(index)? != Standing::Ready || !load.pick_if(draw, field.now, due) {
            return None;
        }
        self.probed.store(draw, Relaxed);
        field.take(index, Branch::Probe)
    }
}

/// The replicas as one choice sees them.
struct Field<'a, 'b> {
    replicas: &'a [Arc<Replica>],
    tried: &'b [usize],
    now: Instant,
}

impl<'a> Field<'a, '_> {
    fn take(&self, index: usize, branch: Branch) -> Option<Pick<'a>> {
        Some(Pick { index, replica: self.replicas.get(index)?, branch })
    }

    fn standing(&self, index: usize) -> Option<Standing> {
        self.replicas.get(index).map(|replica| replica.breaker.standing(self.now))
    }

    /// A trial, if one is due here and nobody else makes it.
    fn trial(&self, index: usize) -> Option<Pick<'a>> {
        let due = self.standing(index)? == Standing::TrialDue;
        let claimed = due && self.replicas.get(index)?.breaker.claim_trial(self.now);
        if claimed { self.take(index, Branch::Trial) } else { None }
    }

    /// Power of two choices: nearly as even as asking all of them, without the herd that follows a
    /// single best one (Mitzenmacher 2001). `None` when one of the two may not be asked.
    fn better_of(&self, one: usize, other: usize, draw: u64) -> Option<Pick<'a>> {
        if let Some(trial) = self.trial(one).or_else(|| self.trial(other)) {
            return Some(trial);
        }
        let ready = |index| self.standing(index) == Some(Standing::Ready);
        if !ready(one) || !ready(other) {
            return None;
        }
        let (a, b) = (self.replicas.get(one)?, self.replicas.get(other)?);
        let better = if b.load.compare(&a.load) == Ordering::Less { other } else { one };
        self.replicas.get(better)?.load.pick(draw, self.now);
        self.take(better, Branch::TwoChoices)
    }

    /// The first replica in the prefix's order that is not too full.
    fn by_ring(&self, ring: &Ring, prefix: Prefix) -> Option<Pick<'a>> {
        let ready =
            || self.replicas.iter().filter(|one| one.breaker.standing(self.now) == Standing::Ready);
        let in_flight: usize = ready().map(|one| one.load.in_flight()).sum();
        let mean = (in_flight + 1) as f64 / ready().count().max(1) as f64;
        let most = (mean * SPILL_ABOVE).max(mean + SPILL_SLACK);
        let mut home = None;
        for index in ring.walk(prefix) {
            if self.tried.contains(&index) {
                continue;
            }
            if let Some(trial) = self.trial(index) {
                return Some(trial);
            }
            if self.standing(index)? != Standing::Ready {
                continue;
            }
            let home = *home.get_or_insert(index);
            if (self.replicas.get(index)?.load.in_flight() + 1) as f64 <= most {
                let branch = if index == home { Branch::RingHit } else { Branch::Spill };
                return self.take(index, branch);
            }
        }
        None
    }

    /// The least loaded of all that may be asked, or of all when more than half may not: sending
    /// everything to the few that are left would bring those down too (Envoy's panic threshold).
    fn by_search(&self) -> Option<Pick<'a>> {
        let left = || (0..self.replicas.len()).filter(|index| !self.tried.contains(index));
        if let Some(trial) = left().find_map(|index| self.trial(index)) {
            return Some(trial);
        }
        let ready = |index: &usize| self.standing(*index) == Some(Standing::Ready);
        let count = (0..self.replicas.len()).filter(ready).count();
        let panics = count * 2 < self.replicas.len();
        let healthy = if panics { None } else { self.least(left().filter(ready)) };
        match healthy {
            Some(index) => self.take(index, Branch::LeastLoaded),
            None => self.least(left()).and_then(|index| self.take(index, Branch::NoHealthy)),
        }
    }

    fn least(&self, indices: impl Iterator<Item = usize>) -> Option<usize> {
        let loaded = indices.filter_map(|index| Some((index, &self.replicas.get(index)?.load)));
        loaded.min_by(|(_, a), (_, b)| a.compare(b)).map(|(index, _)| index)
    }
}

/// Two different numbers below `count`, which is at least two.
fn draw_two(draw: u64, count: usize) -> (usize, usize) {
    let bits = mix(draw);
    let one = scale(bits & 0xffff_ffff, count);
    let other = scale(bits >> 32, count - 1);
    (one, if other >= one { other + 1 } else { other })
}

/// SplitMix64's output function (Steele, Lea, Flood 2014): a counter in, even bits out. Choosing a
/// replica needs spread, not secrecy.
fn mix(count: u64) -> u64 {
    let mut bits = count.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// 32 random bits to a number below `count`, by multiplication instead of division (Lemire 2019).
fn scale(bits: u64, count: usize) -> usize {
    usize::try_from((bits * count as u64) >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests;
