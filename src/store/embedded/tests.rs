//! The embedded store against real files, real threads and real deaths.

mod crash;
mod limits;
mod optimize;
mod search;

use std::path::Path;

use super::*;
use crate::store::contract::{self, DIMENSION, assert_stored, record, unit_vector};

fn options(path: &Path) -> EmbeddedOptions {
    let identity = Identity {
        name: "test".into(),
        digest: "0123456789abcdef".into(),
        dimension: DIMENSION,
        window_tokens: 256,
    };
    EmbeddedOptions {
        path: path.to_owned(),
        identity,
        queue: 1024,
        compact_after: 10_000,
        max_bytes: 1 << 40,
        quantization: Quantization::None,
    }
}

fn open(path: &Path) -> Embedded {
    Embedded::open(options(path)).unwrap()
}

/// Flushes all the time and builds graphs over a few dozen vectors.
fn open_restless(path: &Path, compact_after: usize) -> Embedded {
    open_restless_with(path, compact_after, Quantization::None)
}

fn open_restless_with(path: &Path, compact_after: usize, quantization: Quantization) -> Embedded {
    let habits = Habits {
        flush_every: Duration::from_millis(5),
        journal_max_bytes: 64 << 10,
        compact_after,
        max_bytes: u64::MAX,
    };
    let layout = Layout { dimension: DIMENSION, optimize_above: 66, graph_above: 40, quantization };
    loop {
        match Embedded::open_with(&options(path), layout, habits) {
            // The one before was dropped in the middle of an optimization, which holds on to it.
            Err(OpenError::Locked(_)) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

fn collection(path: &Path) -> PathBuf {
    path.join("v2-test-0123456789abcdef-384")
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract::check(async || open(dir.path())).await;
}

#[tokio::test]
async fn it_keeps_the_contract_while_it_flushes_and_optimizes_all_the_time() {
    let dir = tempfile::tempdir().unwrap();
    contract::check(async || open_restless(dir.path(), 50)).await;
}

#[tokio::test]
async fn it_keeps_the_contract_with_quantized_candidates() {
    for quantization in [Quantization::Int8, Quantization::Binary] {
        let dir = tempfile::tempdir().unwrap();
        contract::check(async || open_restless_with(dir.path(), 50, quantization)).await;
    }
}

#[tokio::test]
async fn another_embedder_gets_a_collection_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put(vec![record(1)]).await.unwrap();
    let mut other = options(dir.path());
    other.identity.digest = "fedcba9876543210".into();
    let other = Embedded::open(other).unwrap();
    assert_eq!(other.get(record(1).id).await, Ok(None));
    drop((store, other));
    assert!(open(dir.path()).get(record(1).id).await.unwrap().is_some());
}

#[tokio::test]
async fn two_cannot_have_one_store_and_closing_hands_it_on() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let second = Embedded::open(options(dir.path()));
    assert!(matches!(second, Err(OpenError::Locked(_))));
    drop(first);
    open(dir.path());
}

#[tokio::test]
async fn a_corrupt_segment_is_set_aside_and_a_fresh_store_serves() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put(vec![record(1)]).await.unwrap();
    assert_eq!(store.report().trouble, None);
    drop(store);
    let segments = std::fs::read_dir(collection(dir.path()).join("near/segments")).unwrap();
    for segment in segments {
        std::fs::write(segment.unwrap().path().join("segment.json"), b"{ not a segment").unwrap();
    }

    let store = open(dir.path());
    assert_eq!(store.get(record(1).id).await, Ok(None));
    store.put(vec![record(2)]).await.unwrap();
    assert_stored(&store, &record(2)).await;
    let trouble = store.report().trouble.unwrap();
    assert!(trouble.contains("set aside"), "{trouble}");
    let names = std::fs::read_dir(dir.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.contains(".corrupt-")).count(), 1);
}

#[tokio::test]
async fn answers_that_a_damaged_file_took_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put(vec![record(1), Record { vector: None, ..record(2) }]).await.unwrap();
    store.flush().await.unwrap();
    drop(store);
    assert_eq!(open(dir.path()).report().trouble, None);
    let segments = std::fs::read_dir(collection(dir.path()).join("records/segments")).unwrap();
    for segment in segments {
        for entry in std::fs::read_dir(segment.unwrap().path()).unwrap() {
            let file = entry.unwrap().path();
            if file.file_name().unwrap().to_string_lossy().contains("id_tracker") {
                std::fs::remove_file(file).unwrap();
            }
        }
    }

    let store = open(dir.path());
    assert_eq!(store.get(record(1).id).await, Ok(None));
    let trouble = store.report().trouble.unwrap();
    assert!(trouble.contains("at least 1;"), "{trouble}");
    store.put(vec![record(3)]).await.unwrap();
    assert_stored(&store, &record(3)).await;
    let near = store.nearest(record(1).partition, record(1).vector.unwrap(), 5).await.unwrap();
    assert_eq!(near, vec![], "its vector is gone, too");
    drop(store);
    assert_eq!(open(dir.path()).report().trouble, None, "it is said once");
}

#[tokio::test]
async fn bytes_behind_the_journals_last_frame_cost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put(vec![record(1)]).await.unwrap();
    drop(store);
    std::fs::write(collection(dir.path()).join("journal"), b"half a frame").unwrap();
    let store = open(dir.path());
    assert_stored(&store, &record(1)).await;
    assert_eq!(store.report().trouble, None);
}

#[tokio::test]
async fn wrong_vectors_are_refused_before_they_touch_anything() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let short = Record { vector: Some([1.0; 3].into()), ..record(1) };
    let mut infinite = unit_vector(1).to_vec();
    infinite[5] = f32::NAN;
    let infinite = Record { vector: Some(infinite.into()), ..record(1) };
    for wrong in [short, infinite] {
        let vector = wrong.vector.clone().unwrap();
        assert!(matches!(store.put(vec![wrong]).await, Err(StoreFault::Failed(_))));
        let nearest = store.nearest("p".into(), vector, 1).await;
        assert!(matches!(nearest, Err(StoreFault::Failed(_))));
    }
    assert_eq!(store.put(vec![record(1)]).await, Ok(()));
}

#[tokio::test]
async fn shards_that_keep_failing_are_opened_again_with_all_that_was_put() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_restless(dir.path(), usize::MAX);
    store.put((0..50).map(record).collect()).await.unwrap();
    let lost = store.shared.shards.write().take().unwrap();
    lost.close();
    let mut failures = 0;
    let recovered = loop {
        match store.get(record(7).id).await {
            Ok(found) => break found,
            Err(fault) => {
                assert!(matches!(fault, StoreFault::Unavailable(_)), "{fault}");
                failures += 1;
                // Lets the writer look around.
                store.flush().await.ok();
            }
        }
    };
    assert!(failures >= 1);
    assert!(recovered.is_some());
    for seed in 0..50 {
        assert_stored(&store, &record(seed)).await;
    }
    assert_eq!(store.put(vec![record(60)]).await, Ok(()));
    assert_eq!(store.count(Selector::All).await, Ok(51));
}
