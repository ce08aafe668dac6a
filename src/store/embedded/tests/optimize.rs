//! What an optimization leaves: little in memory, and a count that outlives the process.

use super::*;

/// The kinds of index that the segments of one shard have.
fn segments(path: &Path, shard: &str) -> Vec<String> {
    let segments = std::fs::read_dir(collection(path).join(shard).join("segments")).unwrap();
    let mut kinds: Vec<_> = segments
        .map(|segment| {
            let text = std::fs::read(segment.unwrap().path().join("segment.json")).unwrap();
            let state: serde_json::Value = serde_json::from_slice(&text).unwrap();
            state["config"]["vector_data"][""]["index"]["type"].as_str().unwrap().to_owned()
        })
        .collect();
    kinds.sort();
    kinds
}

/// A segment that takes changes keeps all its indexes in memory, also those that belong on disk.
#[tokio::test]
async fn both_shards_are_left_with_what_came_since_in_memory_and_the_rest_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_restless(dir.path(), usize::MAX);
    store.put((0..500).map(record).collect()).await.unwrap();
    assert_eq!(segments(dir.path(), "records"), ["plain"]);
    compactor::optimize(&store.shared);
    for shard in ["near", "records"] {
        assert_eq!(segments(dir.path(), shard), ["hnsw", "plain"], "{shard}");
    }
    store.put((400..600).map(record).collect()).await.unwrap();
    for seed in 0..600 {
        assert_stored(&store, &record(seed)).await;
    }
    drop(store);
    let store = open_restless(dir.path(), usize::MAX);
    // Each kind of selector by its index on disk, and by the one in memory of what came since.
    let one = record(17);
    for selector in [
        Selector::Answer(one.answer),
        Selector::Tenant(one.tenant.to_string()),
        Selector::Model(one.model.to_string()),
        Selector::Route(one.route.to_string()),
        Selector::Tag(one.tags[0].clone()),
    ] {
        assert_eq!(store.count(selector).await, Ok(1));
    }
    assert_eq!(store.count(Selector::All).await, Ok(600));
    assert_eq!(store.count(Selector::Before(record(100).generated_ms)).await, Ok(100));
    assert_eq!(store.count(Selector::ExpiredAt(record(550).expires_ms)).await, Ok(551));
    let (answers, oldest) = store
        .shared
        .read(|shards| Ok((shards.answers(&Selector::All)?, shards.oldest(3)?)))
        .unwrap();
    assert_eq!(answers.len(), 600);
    assert_eq!(oldest, [0, 1, 2].map(|seed| record(seed).id));
    assert_eq!(store.delete(Selector::Tag(one.tags[0].clone())).await, Ok(1));
    assert_eq!(store.get(one.id).await, Ok(None));
    assert_eq!(store.delete(Selector::Before(record(100).generated_ms)).await, Ok(99));
    assert_eq!(store.count(Selector::All).await, Ok(500));
}

/// Partitions too small for a graph are done, not waiting: a restart must not optimize for them.
#[tokio::test]
async fn what_waits_for_an_optimization_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_restless(dir.path(), usize::MAX);
    store.put((0..300).map(record).collect()).await.unwrap();
    assert_eq!(store.report().unindexed, 300);
    compactor::optimize(&store.shared);
    store.put((300..320).map(record).collect()).await.unwrap();
    // A record written over waits again, one that goes makes nobody else's place.
    store.put((0..10).map(record).collect()).await.unwrap();
    store.delete(Selector::Answer(record(50).answer)).await.unwrap();
    drop(store);
    assert_eq!(open_restless(dir.path(), usize::MAX).report().unindexed, 31);
}
