//! What one tenant may keep in the store.

use crate::{
    client::Ask,
    origin::Origin,
    proxy::{Proxy, Setup, eventually},
    talk,
};

async fn ask(proxy: &Proxy, question: &str) -> String {
    proxy.send(&Ask::chat(question)).await.x_cache().to_owned()
}

/// As the process does it: what answers were worth is written down.
async fn stop(proxy: Proxy) {
    proxy.house().cache.save_learned().unwrap();
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_keeps_what_is_asked_for_and_never_more_than_its_quota() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(talk::model).await;
    let open = || {
        Setup::new(&origin)
            .with("store.tenant_entries = 4")
            .with("cache.semantic.min_similarity = 1.0")
            .semantic(&folder)
            .open()
    };
    let records = |proxy: &Proxy| proxy.house().cache.store().unwrap().report().records;
    let proxy = open().await;
    assert_eq!(ask(&proxy, "the one that everybody asks").await, "MISS");
    proxy.written(1).await;
    for _ in 0..3 {
        assert_eq!(ask(&proxy, "the one that everybody asks").await, "HIT");
    }
    for number in 0..12 {
        ask(&proxy, &format!("number {number} that is asked once")).await;
        proxy.written(2 + number).await;
        assert!(records(&proxy) <= 4, "{}", records(&proxy));
    }
    assert_eq!(proxy.house().cache.writes().evicted_entries, 9);
    // Another tenant has its own.
    let other = Ask::chat("mine").header("authorization", "Bearer bob");
    proxy.send(&other).await;
    proxy.written(14).await;
    assert_eq!((records(&proxy), proxy.house().cache.writes().evicted_entries), (5, 9));
    stop(proxy).await;

    // What it was worth is known after a restart, and the quota holds from the first write on.
    let proxy = open().await;
    assert_eq!(records(&proxy), 5);
    for number in 20..23 {
        ask(&proxy, &format!("number {number} that is asked once")).await;
    }
    eventually("all are written", || proxy.house().cache.writes().written == 3).await;
    assert_eq!((records(&proxy), proxy.house().cache.writes().evicted_entries), (5, 3));
    stop(proxy).await;
    let proxy = open().await;
    let calls = origin.calls();
    assert_eq!(ask(&proxy, "the one that everybody asks").await, "HIT");
    assert_eq!(ask(&proxy, "number 22 that is asked once").await, "HIT");
    assert_eq!(ask(&proxy, "number 11 that is asked once").await, "MISS");
    assert_eq!(origin.calls(), calls + 1);
    stop(proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_bounded_and_what_is_larger_than_all_of_them_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(talk::model).await;
    let proxy =
        Setup::new(&origin).with("store.tenant_bytes = \"300B\"").semantic(&folder).open().await;
    assert_eq!(ask(&proxy, "why").await, "MISS");
    eventually("it is refused", || proxy.house().cache.writes().over_quota == 1).await;
    // Memory is no part of the quota.
    assert_eq!(ask(&proxy, "why").await, "HIT");
    assert_eq!(proxy.house().cache.store().unwrap().report().records, 0);
    proxy.stop().await;
}
