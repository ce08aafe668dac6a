//! What the admin API and its watchers are told.

use std::time::Duration;

use http::StatusCode;

use super::*;

#[tokio::test(start_paused = true)]
async fn the_five_parts_sum_to_the_whole() {
    let observer = observer();
    let mut guard = observer.begin(observer.request_id(&HeaderMap::new()));
    guard.outcome = Outcome::Miss;
    for (stage, ms) in [(Stage::Read, 3), (Stage::Embed, 5), (Stage::Queue, 7), (Stage::First, 90)]
    {
        tokio::time::advance(Duration::from_millis(ms)).await;
        guard.stages.lap(stage);
    }
    guard.head(StatusCode::OK);
    tokio::time::advance(Duration::from_millis(45)).await;
    guard.finish(BodyEnd::Complete);
    let stats = serde_json::to_value(observer.stats(&Rooms)).unwrap();
    let mean = |part: &str| stats["parts"]["miss"][part]["mean_ms"].as_f64().unwrap();
    assert_eq!(mean("network"), 3.0);
    assert_eq!(mean("pre_processing"), 5.0);
    assert_eq!(mean("queueing"), 7.0);
    assert_eq!(mean("inference"), 135.0);
    assert_eq!(mean("post_processing"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn statistics_add_up() {
    let observer = observer();
    for _ in 0..3 {
        request(&observer, Outcome::HitExact, |_| {});
    }
    request(&observer, Outcome::Collapsed, |_| {});
    request(&observer, Outcome::Bypass, |record| record.reason = Some("no_store"));
    request(&observer, Outcome::Error, |_| {});
    let mut slow = observer.begin(observer.request_id(&HeaderMap::new()));
    slow.outcome = Outcome::Miss;
    tokio::time::advance(Duration::from_secs(2)).await;
    slow.finish(BodyEnd::Complete);

    let stats = serde_json::to_value(observer.stats(&Rooms)).unwrap();
    assert_eq!(stats["requests"]["hit_exact"], 3);
    assert_eq!(stats["requests"]["hit_stale"], 0);
    assert_eq!(stats["bypass_reasons"]["no_store"], 1);
    assert_eq!(stats["bypass_reasons"]["lookup_deadline"], 0);
    assert_eq!(stats["hit_rate"], 0.8, "4 of the 5 that the cache was asked for");
    assert_eq!(stats["latency"]["miss"]["count"], 1);
    let p50 = stats["latency"]["miss"]["p50_ms"].as_f64().unwrap();
    assert!((p50 / 2000.0 - 1.0).abs() < 0.016, "{p50}");
    assert!(stats["latency"].get("hit_stale").is_none());
    assert_eq!(stats["stages"]["miss"]["total"]["mean_ms"], 2000.0);
    assert_eq!(stats["stages"]["miss"]["other"]["mean_ms"], 2000.0);
    assert!(stats["stages"]["miss"].get("embed").is_none());
    assert_eq!(stats["uptime_seconds"], 2.0);
    assert_eq!(stats["store"]["records"], 7);
    assert_eq!(stats["upstreams"][0]["replicas"][1]["url"], "http://b");
}

#[test]
fn a_hit_rate_of_nothing_is_zero() {
    assert_eq!(stats::hit_rate(|_| 0), 0.0);
}

#[test]
fn a_watcher_sees_everything_once() {
    let observer = observer();
    let mut cursor = Cursor::default();
    request(&observer, Outcome::Miss, |record| record.similarity = Some(0.93));
    request(&observer, Outcome::HitSemantic, |record| record.similarity = Some(0.97));
    observer.sample();
    let first = observer.live(&Rooms, &mut cursor);
    assert_eq!(first.requests.len(), 2);
    assert_eq!(first.requests[1].outcome, "hit_semantic");
    assert_eq!(first.hour.len(), 1);
    assert_eq!(first.hour[0].requests.iter().sum::<u64>(), 2);
    assert!(first.hour[0].hits.is_some() && first.hour[0].misses.is_some());
    let similarity = &first.stats.similarity;
    assert_eq!((similarity.served[47], similarity.passed_by[43]), (1, 1));
    let second = observer.live(&Rooms, &mut cursor);
    assert_eq!((second.requests.len(), second.hour.len(), second.skipped), (0, 0, 0));
    request(&observer, Outcome::Bypass, |_| {});
    assert_eq!(observer.live(&Rooms, &mut cursor).requests.len(), 1);
}
