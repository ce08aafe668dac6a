//! What an optimization leaves: little in memory, and a count that outlives the process.

use super::*;

fn optimize(store: &Embedded) {
    let _alone = store.shared.maintenance.lock();
    store.shared.read(shards::Shards::optimize).unwrap();
}

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
    optimize(&store);
    for shard in ["near", "records"] {
        assert_eq!(segments(dir.path(), shard), ["hnsw", "plain"], "{shard}");
    }
    store.put((400..600).map(record).collect()).await.unwrap();
    for seed in 0..600 {
        assert_stored(&store, &record(seed)).await;
    }
    assert_eq!(store.count(Selector::All).await, Ok(600));
}

/// Partitions too small for a graph are done, not waiting: a restart must not optimize for them.
#[tokio::test]
async fn what_waits_for_an_optimization_is_known_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_restless(dir.path(), usize::MAX);
    store.put((0..300).map(record).collect()).await.unwrap();
    store.shared.count_unindexed();
    assert_eq!(store.report().unindexed, 300);
    optimize(&store);
    store.put((300..320).map(record).collect()).await.unwrap();
    drop(store);
    assert_eq!(open_restless(dir.path(), usize::MAX).report().unindexed, 20);
}
