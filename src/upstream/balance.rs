//! Which replica gets the next exchange.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::replica::Replica;

/// Power of two choices: of two replicas drawn at random, the one with less in flight. Nearly as
/// even as asking all of them, without the herd that follows a single best one (Mitzenmacher 2001).
#[derive(Debug, Default)]
pub(super) struct Balance {
    draws: AtomicU64,
}

impl Balance {
    /// One of `replicas`, none of `tried`; `None` when all were tried.
    pub(super) fn pick<'a>(
        &self,
        replicas: &'a [Arc<Replica>],
        tried: &[usize],
    ) -> Option<(usize, &'a Arc<Replica>)> {
        if tried.is_empty() && replicas.len() > 1 {
            let (one, other) = self.draw_two(replicas.len());
            let (a, b) = (replicas.get(one)?, replicas.get(other)?);
            return Some(if b.in_flight() < a.in_flight() { (other, b) } else { (one, a) });
        }
        let left = replicas.iter().enumerate().filter(|(index, _)| !tried.contains(index));
        left.min_by_key(|(_, replica)| replica.in_flight())
    }

    /// Two different numbers below `count`, which is at least two.
    fn draw_two(&self, count: usize) -> (usize, usize) {
        let bits = mix(self.draws.fetch_add(1, Relaxed));
        let one = scale(bits & 0xffff_ffff, count);
        let other = scale(bits >> 32, count - 1);
        (one, if other >= one { other + 1 } else { other })
    }
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
mod tests {
    use super::*;

    #[test]
    fn draws_are_two_and_even() {
        let balance = Balance::default();
        let mut pairs = [[0_u32; 5]; 5];
        for _ in 0..20_000 {
            let (one, other) = balance.draw_two(5);
            pairs[one][other] += 1;
        }
        for (one, row) in pairs.iter().enumerate() {
            for (other, count) in row.iter().enumerate() {
                let expected = if one == other { 0..=0 } else { 880..=1120 };
                assert!(expected.contains(count), "({one}, {other}) drawn {count} times");
            }
        }
    }
}
