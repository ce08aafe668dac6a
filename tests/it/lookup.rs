//! A cache that is late, full or broken is gone around.

use std::sync::Arc;

use reprise::{embed::EmbedFault, store::StoreFault};

use crate::{
    client::Ask,
    origin::{Gate, Origin},
    proxy::{Setup, eventually},
    talk,
    words::{Broken, Mood, Words},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_late_embedder_is_not_waited_for_and_its_vector_still_kept() {
    let folder = tempfile::tempdir().unwrap();
    let words = Words::new();
    let gate = Gate::new();
    words.feel(Mood::Slow(gate.clone()));
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin)
        .with("cache.semantic.lookup_deadline = \"50ms\"")
        .semantic_by(&folder, &words)
        .open()
        .await;
    // It comes while the embedder waits at its gate.
    let answer = proxy.send(&Ask::stream("how do I reset my password")).await;
    assert_eq!(answer.x_cache(), "MISS");
    assert_eq!(answer.cache_status().detail.as_deref(), Some("lookup_deadline"));
    eventually("it is counted", || proxy.reasons("lookup_deadline") == 1).await;
    // Exact repeats need no vector.
    assert_eq!(proxy.send(&Ask::stream("how do I reset my password")).await.x_cache(), "HIT");
    gate.open();
    proxy.written(1).await;
    proxy.stop().await;
    // With more patience: on a busy machine fifty milliseconds may pass over nothing.
    let proxy = Setup::new(&origin).semantic(&folder).open().await;
    let near = proxy.send(&Ask::stream("my password how do I reset")).await;
    assert_eq!(near.cache_status().detail.as_deref(), Some("semantic"));
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedder_that_fails_costs_only_its_tier() {
    let folder = tempfile::tempdir().unwrap();
    let words = Words::new();
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).semantic_by(&folder, &words).open().await;
    for (mood, reason) in [
        (Mood::Fault(EmbedFault::Dead), "embed_dead"),
        (Mood::Fault(EmbedFault::Busy), "embed_busy"),
        (Mood::Fault(EmbedFault::Failed), "embed_failed"),
        (Mood::BeyondWindow, "beyond_window"),
    ] {
        words.feel(mood);
        let ask = Ask::chat(&format!("how about {reason}"));
        let answer = proxy.send(&ask).await;
        assert_eq!(answer.cache_status().detail.as_deref(), Some(reason));
        assert_eq!((answer.status.as_u16(), answer.x_cache()), (200, "MISS"));
        assert_eq!(proxy.send(&ask).await.x_cache(), "HIT");
        eventually("it is counted", || proxy.reasons(reason) == 1).await;
    }
    // They are in the store all the same, to be found by id.
    proxy.written(4).await;
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_costs_only_its_tier() {
    for (fault, reason) in [
        (StoreFault::Busy, "store_busy"),
        (StoreFault::Unavailable("gone".into()), "store_unavailable"),
        (StoreFault::Failed("no".into()), "store_failed"),
        (StoreFault::Full("disk".into()), "store_failed"),
    ] {
        let words = Words::new();
        let origin = Origin::start(talk::model).await;
        let setup = Setup::new(&origin).with("cache.semantic.lookup_deadline = \"20s\"");
        let proxy = setup.keeping(Arc::new(Broken(fault)), &words).open().await;
        let ask = Ask::stream("why?");
        let answer = proxy.send(&ask).await;
        assert_eq!(answer.cache_status().detail.as_deref(), Some(reason));
        assert_eq!((answer.status.as_u16(), answer.x_cache()), (200, "MISS"));
        assert_eq!(proxy.send(&ask).await.x_cache(), "HIT", "memory still works");
        eventually("the loss is counted", || proxy.house().cache.writes().failed == 1).await;
        assert_eq!(proxy.house().cache.writes().written, 0);
    }
}

/// A store that is slower than the traffic loses answers, and says how many.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_write_queue_drops_and_counts() {
    let words = Words::new();
    let origin = Origin::start(talk::model).await;
    let setup = Setup::new(&origin)
        .with("store.queue = 1")
        .with("cache.semantic.lookup_deadline = \"20s\"");
    let store = Arc::new(Broken(StoreFault::Unavailable("gone".into())));
    let proxy = setup.keeping(store, &words).open().await;
    for question in 0..20 {
        let ask = Ask::stream(&format!("why {question}?"));
        assert_eq!(proxy.send(&ask).await.status, 200);
        assert_eq!(proxy.send(&ask).await.x_cache(), "HIT");
    }
    // One is being written, for a long time, and one waits; a second may have been taken with the first.
    let writes = || proxy.house().cache.writes();
    eventually("the others are counted", || writes().dropped >= 17).await;
    assert_eq!(writes().written, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_shadow_mode_a_near_prompt_is_counted_and_forwarded() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(talk::model).await;
    let setup = Setup::new(&origin).with("cache.semantic.mode = \"shadow\"");
    let proxy = setup.semantic(&folder).open().await;
    proxy.send(&Ask::chat("how do I reset my password")).await;
    proxy.written(1).await;
    let answer = proxy.send(&Ask::chat("my password how do I reset")).await;
    assert_eq!(answer.x_cache(), "MISS");
    assert!(answer.text().contains("call 1"));
    let status = answer.cache_status();
    assert_eq!((status.hit, status.detail.as_deref()), (false, Some("shadow")));
    assert!(answer.header("x-reprise-similarity").parse::<f32>().unwrap() > 0.99);
    eventually("it is counted", || proxy.reasons("shadow") == 1).await;
    assert_eq!(proxy.outcomes("hit_semantic"), 0);
    proxy.stop().await;
}
