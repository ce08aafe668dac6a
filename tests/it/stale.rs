//! Past the end of life: grace.

use crate::{
    client::{Answer, Ask},
    origin::{Gate, Origin, Reply, Step},
    proxy::{Proxy, Setup},
    talk,
};

/// Asks until the answer is a stale one.
async fn until_stale(proxy: &Proxy, ask: &Ask) -> Answer {
    loop {
        let answer = proxy.send(ask).await;
        assert_eq!(answer.x_cache(), "HIT");
        if answer.cache_status().detail.as_deref() == Some("stale") {
            return answer;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn within_grace_the_old_answer_is_served_and_refreshed_once() {
    let gate = Gate::new();
    let script = gate.clone();
    let origin = Origin::start(move |seen, call| {
        let reply = talk::model(seen, call);
        if call == 0 { reply } else { reply.after(Step::Await(script.clone())) }
    })
    .await;
    let proxy = Setup::new(&origin).with("cache.grace = \"1h\"").open().await;
    let ask = Ask::stream("why?");
    let short = ask.clone().header("x-reprise-ttl", "1s");
    let first = proxy.send(&short).await;
    let stale = until_stale(&proxy, &ask).await;
    assert_eq!(stale.body, first.body);
    let status = stale.cache_status();
    assert!(status.hit && status.ttl.unwrap() <= 0, "{status:?}");
    // Many more while the refresh waits: no second one.
    origin.called(2).await;
    for _ in 0..20 {
        assert_eq!(proxy.send(&ask).await.body, first.body);
    }
    assert_eq!(origin.calls(), 2);
    gate.open();
    proxy.landed().await;
    let fresh = proxy.send(&ask).await;
    assert!(fresh.text().contains("call 1"), "{}", fresh.text());
    assert_eq!(fresh.cache_status().detail.as_deref(), Some("exact"));
    assert!(proxy.outcomes("hit_stale") >= 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_is_not_noticed_within_grace() {
    let origin =
        Origin::start(
            |seen, call| {
                if call == 0 { talk::model(seen, call) } else { Reply::raw([Step::Cut]) }
            },
        )
        .await;
    let proxy = Setup::new(&origin).with("cache.grace = \"1h\"").open().await;
    let ask = Ask::chat("why?").header("x-reprise-ttl", "20ms");
    let first = proxy.send(&ask).await;
    until_stale(&proxy, &ask).await;
    let mut on_error = 0;
    while origin.calls() < 4 {
        let answer = proxy.send(&ask).await;
        assert_eq!((answer.x_cache(), &answer.body), ("HIT", &first.body));
        // For a second after a failed renewal nobody tries again.
        on_error += usize::from(answer.cache_status().detail.as_deref() == Some("stale_on_error"));
    }
    assert!(on_error > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn grace_is_kept_through_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::new();
    let script = gate.clone();
    let origin = Origin::start(move |seen, call| {
        let reply = talk::model(seen, call);
        if call < 2 { reply } else { reply.after(Step::Await(script.clone())) }
    })
    .await;
    let open = || Setup::new(&origin).with("cache.grace = \"1h\"").semantic(&folder).open();
    let ask = Ask::stream("why?").header("x-reprise-ttl", "1ms");
    let volatile = Ask::chat("what is the weather today?").header("x-reprise-ttl", "1ms");
    let proxy = open().await;
    let first = proxy.send(&ask).await;
    proxy.send(&volatile).await;
    proxy.stop().await;
    let proxy = open().await;
    let crowd: Vec<_> = (0..50).map(|_| proxy.spawn(&ask)).collect();
    for answer in crowd {
        let answer = answer.await.unwrap();
        let status = answer.cache_status();
        assert_eq!((answer.x_cache(), &answer.body), ("HIT", &first.body));
        assert_eq!(status.detail.as_deref(), Some("stale"));
        assert!(status.hit && status.ttl.unwrap() <= 0, "{status:?}");
    }
    // One renewal behind all of them.
    origin.called(3).await;
    assert_eq!(origin.calls(), 3);
    gate.open();
    proxy.landed().await;
    let fresh = proxy.send(&ask).await;
    assert!(fresh.text().contains("call 2"), "{}", fresh.text());
    // What moves with the clock is never served stale.
    assert_eq!(proxy.send(&volatile).await.x_cache(), "MISS");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_outgrows_its_log_ends() {
    let origin = Origin::start(|seen, call| {
        if call == 0 {
            return talk::model(seen, call);
        }
        Reply::stream((0..32).map(|_| bytes::Bytes::from(vec![b'x'; 64 << 10])))
    })
    .await;
    let proxy = Setup::new(&origin).small_log().with("cache.grace = \"1h\"").open().await;
    let ask = Ask::stream("why?").header("x-reprise-ttl", "20ms");
    proxy.send(&ask).await;
    until_stale(&proxy, &ask).await;
    crate::proxy::eventually("the refresh ends", || proxy.house().tasks.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_grace_the_end_of_life_is_the_end() {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).with("cache.ttl = \"20ms\"").open().await;
    let ask = Ask::chat("why?");
    proxy.send(&ask).await;
    while proxy.send(&ask).await.x_cache() == "HIT" {}
    assert_eq!(proxy.outcomes("hit_stale"), 0);
}
