//! A tenant's question is embedded once, wherever it is asked.

use std::sync::atomic::Ordering;

use serde_json::json;

use crate::{client::Ask, origin::Origin, proxy::Setup, talk, words::Words};

fn told(system: &str, question: &str) -> Ask {
    Ask::body(&json!({"model": "m", "messages": [
        {"role": "system", "content": system}, {"role": "user", "content": question},
    ]}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_in_another_partition_needs_no_embedding_and_another_tenant_does() {
    let (folder, words) = (tempfile::tempdir().unwrap(), Words::new());
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).semantic_by(&folder, &words).open().await;
    let embedded = || words.texts.load(Ordering::SeqCst);
    let question = "how do I reset my password";
    proxy.send(&told("be brief", question)).await;
    proxy.written(1).await;
    let once = embedded();
    let other = proxy.send(&told("be polite", question)).await;
    assert_eq!(other.x_cache(), "MISS", "another partition shares no answer");
    proxy.written(2).await;
    // Kept by meaning all the same, with the remembered vector.
    let near = told("be polite", "my password how do I reset");
    assert_eq!(proxy.send(&near).await.cache_status().detail.as_deref(), Some("semantic"));
    assert_eq!(embedded(), once + 1, "the new words alone");
    // Such a hit has no entry of its own: its repeat is looked up again, but not embedded.
    assert_eq!(proxy.send(&near).await.cache_status().detail.as_deref(), Some("semantic"));
    assert_eq!((embedded(), proxy.house().cache.vectors_found()), (once + 1, 2));
    let stranger = told("be brief", question).header("authorization", "Bearer bob");
    assert_eq!(proxy.send(&stranger).await.x_cache(), "MISS");
    assert_eq!(
        embedded(),
        once + 2,
        "what alice asked must not be told by the time that bob waits"
    );
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_forgets_vectors_too() {
    let (folder, words) = (tempfile::tempdir().unwrap(), Words::new());
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).semantic_by(&folder, &words).open().await;
    proxy.send(&Ask::chat("how do I reset my password")).await;
    proxy.written(1).await;
    let once = words.texts.load(Ordering::SeqCst);
    proxy.house().cache.purge(reprise::store::Selector::All).await.unwrap();
    proxy.send(&told("be brief", "how do I reset my password")).await;
    assert_eq!(words.texts.load(Ordering::SeqCst), once + 1);
    proxy.stop().await;
}
