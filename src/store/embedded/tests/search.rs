//! Neighbours are the right ones: from quantized vectors, and while graphs are being built.

use super::*;
use crate::store::contract::at_cosine;

#[tokio::test]
async fn int8_candidates_lead_to_the_neighbours_of_an_exact_search() {
    let recall = recall_at_8(Quantization::Int8).await;
    assert!(recall >= 0.98, "{recall}");
}

/// 384 numbers without any pattern are the worst that signs can be asked to tell apart.
#[tokio::test]
async fn binary_candidates_lead_to_most_neighbours_of_an_exact_search() {
    let recall = recall_at_8(Quantization::Binary).await;
    assert!(recall >= 0.9, "{recall}");
}

/// Also over a store that was kept in full until now; similarities stay those of the full vectors.
async fn recall_at_8(quantization: Quantization) -> f64 {
    const ENTRIES: u64 = 1_500;
    const QUESTIONS: u64 = 60;
    const WANTED: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let partition: Arc<str> = "one".into();
    let in_one = |seed| Record { partition: Arc::clone(&partition), ..record(seed) };
    let store = open_restless(dir.path(), usize::MAX);
    store.put((0..ENTRIES).map(in_one).collect()).await.unwrap();
    drop(store);
    let store = open_restless_with(dir.path(), usize::MAX, quantization);
    compactor::optimize(&store.shared);
    assert_eq!(store.report().unindexed, 0);

    let mut found = 0;
    for question in 0..QUESTIONS {
        let vector = at_cosine(&unit_vector(question), &unit_vector(!question), 0.8);
        let mut exact: Vec<_> = (0..ENTRIES)
            .map(|seed| (crate::embed::cosine(&vector, &unit_vector(seed)), record(seed).id))
            .collect();
        exact.sort_by(|a, b| b.0.total_cmp(&a.0));
        let near = store.nearest(Arc::clone(&partition), vector, WANTED).await.unwrap();
        for neighbour in near {
            let (cosine, _) = exact.iter().find(|(_, id)| *id == neighbour.id).unwrap();
            assert!((neighbour.similarity - cosine).abs() < 1e-5, "{neighbour:?}");
            found += usize::from(exact[..WANTED].iter().any(|(_, id)| *id == neighbour.id));
        }
    }
    found as f64 / (QUESTIONS as usize * WANTED) as f64
}

#[tokio::test]
async fn lookups_are_right_while_the_store_is_optimized() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_restless(dir.path(), 500);
    let partition: Arc<str> = "one".into();
    let in_one = |seed| Record {
        partition: Arc::clone(&partition),
        // Each hundredth is only found by id.
        vector: (seed % 100 != 99).then(|| unit_vector(seed)),
        ..record(seed)
    };
    let finds = async |seed: u64, limit| {
        let nearest =
            store.nearest(Arc::clone(&partition), unit_vector(seed), limit).await.unwrap();
        assert_eq!(nearest.len(), limit);
        assert_eq!(nearest[0].id == record(seed).id, seed % 100 != 99, "{seed}");
    };
    let compactions = || store.shared.compactions.load(std::sync::atomic::Ordering::Relaxed);
    let (mut next, mut during) = (0, 0);
    while compactions() < 2 || during == 0 {
        // More would only make the optimizations longer.
        if next < 2_000 {
            store.put((next..next + 50).map(in_one).collect()).await.unwrap();
            next += 50;
        } else {
            // Where cores are scarce, who optimizes gets none beside one that asks all the time.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        during += usize::from(store.shared.maintenance.is_locked());
        for seed in [next - 1, next - 2, next / 2, 0] {
            finds(seed, 3).await;
        }
        assert_eq!(store.count(Selector::All).await, Ok(next));
    }
    assert!(store.report().unindexed < next);
    for seed in (0..next).step_by(11) {
        finds(seed, 1).await;
    }
    let elsewhere = store.nearest("two".into(), unit_vector(0), 5).await;
    assert_eq!(elsewhere, Ok(vec![]));
}
