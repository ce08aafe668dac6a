use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use super::*;
use crate::{
    config::BalanceRule,
    upstream::{Upstream, open, tests::config},
};

const MS: Duration = Duration::from_millis(1);

const WARM_UP: usize = 1_000;

fn upstream(count: usize, balance: BalanceRule) -> Upstream {
    let urls: Vec<_> = (0..count).map(|port| format!("http://127.0.0.1:{}", port + 1)).collect();
    let mut config = config(&urls);
    config.upstream[0].balance = balance;
    open::upstream(&config.upstream[0], &config.timeouts).unwrap()
}

fn pick(upstream: &Upstream, tried: &[usize], now: Instant) -> (usize, Branch) {
    let pick = upstream.balance.pick(&upstream.replicas, tried, None, now).unwrap();
    (pick.index, pick.branch)
}

fn eject(replica: &Replica, now: Instant) {
    while replica.breaker.standing(now) == Standing::Ready {
        replica.breaker.failure(now);
    }
}

/// Clients that each wait for an answer and ask again at once. Returns how many exchanges each
/// replica had, the first thousand left out; `serve` says how long (replica, number, time since the start) takes, give or
/// take a fifth.
fn closed_loop(
    upstream: &Upstream,
    clients: usize,
    exchanges: usize,
    mut prefix: impl FnMut(usize) -> Option<Prefix>,
    mut serve: impl FnMut(usize, usize, Duration) -> Duration,
) -> Vec<usize> {
    let mut counts = vec![0; upstream.replicas.len()];
    let start = Instant::now();
    let mut now = start;
    let mut running: BinaryHeap<Reverse<(Instant, Instant, usize)>> = BinaryHeap::new();
    for asked in 0..exchanges {
        if running.len() == clients {
            let Reverse((end, began, index)) = running.pop().unwrap();
            now = end;
            let load = &upstream.replicas[index].load;
            load.record(now - began, now);
            load.end();
        }
        let near = prefix(asked);
        let index = upstream.balance.pick(&upstream.replicas, &[], near, now).unwrap().index;
        upstream.replicas[index].load.begin();
        counts[index] += usize::from(asked >= WARM_UP);
        let jitter = 80 + u32::try_from(mix(!asked as u64) % 41).unwrap();
        running.push(Reverse((now + serve(index, asked, now - start) * jitter / 100, now, index)));
    }
    counts
}

#[test]
fn draws_are_two_and_even() {
    let mut pairs = [[0_u32; 5]; 5];
    for draw in 0..20_000 {
        let (one, other) = draw_two(draw, 5);
        pairs[one][other] += 1;
    }
    for (one, row) in pairs.iter().enumerate() {
        for (other, count) in row.iter().enumerate() {
            let expected = if one == other { 0..=0 } else { 880..=1120 };
            assert!(expected.contains(count), "({one}, {other}) drawn {count} times");
        }
    }
}

/// Ten and a hundred milliseconds; every second the whole machine pauses for 150.
fn twins(now: Duration, index: usize) -> Duration {
    let second = now.as_millis() % 1_000;
    let pause = 150_u128.saturating_sub(second);
    let own = if index == 0 { 10 * MS } else { 100 * MS };
    own + Duration::from_millis(u64::try_from(pause).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_replica_ten_times_slower_gets_less_than_one_exchange_in_a_hundred() {
    for clients in [1, 4, 8, 32, 128] {
        let upstream = upstream(2, BalanceRule::Latency);
        let serve = |index, _, now| twins(now, index);
        let counts = closed_loop(&upstream, clients, 50_000, |_| None, serve);
        println!("{clients} clients: {counts:?}");
        assert!(counts[1] * 1000 <= (counts[0] + counts[1]) * 9, "{clients} clients: {counts:?}");
        assert!(counts[1] > 0, "it is tried from time to time");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_slow_has_its_share_again_within_ten_seconds() {
    for clients in [4, 32] {
        let upstream = upstream(2, BalanceRule::Latency);
        let recovers = Duration::from_secs(30);
        let mut since = [0_usize; 2];
        let serve = |index: usize, _, now: Duration| {
            if now > recovers + Duration::from_secs(10) {
                since[index] += 1;
            }
            if index == 1 && now < recovers { 100 * MS } else { 10 * MS }
        };
        let exchanges = 41 * clients * 100;
        closed_loop(&upstream, clients, exchanges, |_| None, serve);
        println!("{clients} clients: {since:?}");
        assert!(since[0] > 0 && since[1] * 3 > since[0], "{clients} clients: {since:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn equal_replicas_get_equal_shares() {
    let upstream = upstream(4, BalanceRule::Latency);
    let counts = closed_loop(&upstream, 32, 41_000, |_| None, |_, _, _| 10 * MS);
    assert!(counts.iter().all(|count| (9_000..=11_000).contains(count)), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn ejected_replicas_are_left_out_and_tried_once_their_time_is_over() {
    let upstream = upstream(3, BalanceRule::Latency);
    let now = Instant::now();
    eject(&upstream.replicas[1], now);
    for _ in 0..100 {
        assert_ne!(pick(&upstream, &[], now).0, 1);
    }
    assert_eq!(pick(&upstream, &[0, 2], now), (1, Branch::NoHealthy));
    let later = now + Duration::from_secs(1);
    let mut trials = 0;
    for _ in 0..100 {
        let (index, branch) = pick(&upstream, &[], later);
        assert_eq!(index == 1, branch == Branch::Trial);
        trials += usize::from(index == 1);
    }
    assert_eq!(trials, 1);
}

#[tokio::test(start_paused = true)]
async fn when_most_are_ejected_nobody_is() {
    let upstream = upstream(3, BalanceRule::Latency);
    let now = Instant::now();
    eject(&upstream.replicas[0], now);
    eject(&upstream.replicas[1], now);
    let mut counts = [0; 3];
    for _ in 0..30 {
        let (index, branch) = pick(&upstream, &[], now);
        assert_eq!(branch, Branch::NoHealthy);
        upstream.replicas[index].load.begin();
        counts[index] += 1;
    }
    assert_eq!(counts, [10, 10, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_single_replica_is_always_asked() {
    let upstream = upstream(1, BalanceRule::Latency);
    let now = Instant::now();
    eject(&upstream.replicas[0], now);
    assert_eq!(pick(&upstream, &[], now), (0, Branch::Only));
    assert!(upstream.balance.pick(&upstream.replicas, &[0], None, now).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_prefix_stays_at_home_spills_under_load_and_moves_only_with_its_replica() {
    let upstream = upstream(4, BalanceRule::Prefix);
    let now = Instant::now();
    let prefix = |number: u32| Prefix::of([number.to_le_bytes().as_slice()]);
    let at = |number| {
        let near = Some(prefix(number));
        let pick = upstream.balance.pick(&upstream.replicas, &[], near, now).unwrap();
        (pick.index, pick.branch)
    };
    let homes: Vec<_> = (0..200).map(at).collect();
    assert!(homes.iter().all(|(_, branch)| *branch == Branch::RingHit));
    let (home, _) = homes[0];
    (0..5).for_each(|_| upstream.replicas[home].load.begin());
    let (other, branch) = at(0);
    assert_eq!(branch, Branch::Spill);
    assert_ne!(other, home);
    assert_eq!(at(0).0, other, "it spills to the same one");
    (0..5).for_each(|_| upstream.replicas[home].load.end());
    eject(&upstream.replicas[home], now);
    for (number, (index, branch)) in homes.iter().enumerate() {
        let moved = at(u32::try_from(number).unwrap());
        assert_eq!(moved.1, Branch::RingHit);
        assert_eq!(moved.0 == *index, *index != home, "{branch:?}");
    }
}

/// Four replicas, each with room for the KV of 60 of 400 prompt beginnings.
#[tokio::test(start_paused = true)]
async fn affinity_triples_the_prefix_hit_rate_at_an_equal_spread() {
    let run = |rule| {
        let upstream = upstream(4, rule);
        let mut caches = vec![VecDeque::new(); 4];
        let mut hits = 0_usize;
        let subject = |asked: usize| mix(asked as u64) % 400;
        let near = |asked| Some(Prefix::of([subject(asked).to_le_bytes().as_slice()]));
        let counts = closed_loop(&upstream, 32, 40_000, near, |index, asked, _| {
            let cache: &mut VecDeque<u64> = &mut caches[index];
            let known = cache.iter().position(|one| *one == subject(asked));
            let took = match known.and_then(|place| cache.remove(place)) {
                Some(_) => 20 * MS,
                None => 60 * MS,
            };
            hits += usize::from(known.is_some());
            cache.push_back(subject(asked));
            if cache.len() > 60 {
                cache.pop_front();
            }
            took
        });
        (hits, counts)
    };
    let (spread_hits, _) = run(BalanceRule::Latency);
    let (hits, counts) = run(BalanceRule::Prefix);
    println!("hits {spread_hits} -> {hits} of 40000, counts {counts:?}");
    assert!(hits >= 3 * spread_hits, "{spread_hits} -> {hits}");
    assert!(counts.iter().all(|count| (8_000..=12_500).contains(count)), "{counts:?}");
}
