//! Clients that leave before their answer is complete.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{
    client::Ask,
    origin::{Gate, Origin, Reply, Step},
    proxy::{Proxy, Setup, eventually, patiently},
    talk,
};

/// From the last client's leaving to the closing of the upstream's connection.
const PROMISED: Duration = Duration::from_millis(100);

/// An origin that stops before its head or after its first event.
async fn halting(gate: &Gate, before_head: bool) -> Origin {
    let script = gate.clone();
    Origin::start(move |_, _| {
        let mut steps: Vec<Step> =
            talk::events(&["one", " two"]).into_iter().map(Step::Send).collect();
        if before_head {
            return Reply::stream(steps).after(Step::Await(script.clone()));
        }
        steps.insert(1, Step::Await(script.clone()));
        Reply::stream(steps)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_answer_is_finished_and_kept() {
    for before_head in [false, true] {
        let gate = Gate::new();
        let origin = halting(&gate, before_head).await;
        let proxy = Setup::new(&origin).open().await;
        let ask = Ask::stream("why?");
        let client = proxy.spawn(&ask);
        origin.called(1).await;
        client.abort();
        eventually("the client's leaving is noticed", || proxy.finished() == 1).await;
        gate.open();
        proxy.landed().await;
        let answer = proxy.send(&ask).await;
        assert_eq!(answer.x_cache(), "HIT", "{before_head}");
        assert_eq!(answer.body, talk::events(&["one", " two"]).concat());
        assert_eq!(origin.calls(), 1);
    }
}

/// How long it took until the upstream's connection was closed, at best of some tries: the machine
/// may be busy with other work.
async fn closing_time(proxy: &Proxy, origin: &Origin, before_head: bool) -> Duration {
    let mut best = Duration::MAX;
    for attempt in 1..=5 {
        let ask = Ask::stream(&format!("why? {attempt}"));
        let left = if before_head {
            let client = proxy.spawn(&ask);
            origin.called(attempt).await;
            client.abort();
            Instant::now()
        } else {
            let mut client = proxy.live(&ask).await;
            client.read(talk::piece("one").len()).await;
            drop(client);
            Instant::now()
        };
        patiently(origin.hangups(attempt)).await;
        best = best.min(left.elapsed());
    }
    best
}

#[tokio::test(flavor = "multi_thread")]
async fn when_nobody_is_left_the_upstream_is_cancelled() {
    for before_head in [false, true] {
        let gate = Gate::new();
        let origin = halting(&gate, before_head).await;
        let setup = Setup::new(&origin).with("cache.finish_abandoned = false");
        let proxy = setup.open().await;
        let took = closing_time(&proxy, &origin, before_head).await;
        assert!(took < PROMISED, "{took:?}");
        eventually("no journey is left", || proxy.house().tasks.is_empty()).await;
        // What was not finished is not kept, and a new client begins anew.
        gate.open();
        assert_eq!(proxy.send(&Ask::stream("why? 1")).await.x_cache(), "MISS");
        assert_eq!(origin.calls(), 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_stays_keeps_the_answer_coming() {
    for before_head in [false, true] {
        let gate = Gate::new();
        let origin = halting(&gate, before_head).await;
        let setup = Setup::new(&origin).with("cache.finish_abandoned = false");
        let proxy = setup.open().await;
        let ask = Ask::stream("why?");
        let leader = proxy.spawn(&ask);
        origin.called(1).await;
        let follower = proxy.spawn(&ask);
        proxy.joined(1).await;
        leader.abort();
        eventually("the leader's leaving is noticed", || proxy.finished() == 1).await;
        gate.open();
        let answer = follower.await.unwrap();
        assert_eq!(answer.body, talk::events(&["one", " two"]).concat());
        assert!(answer.complete);
        assert_eq!((origin.calls(), origin.hangups_so_far()), (1, 0));
    }
}

/// hyper drops a body when its announced last byte is out: the client seems to leave before the end.
#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_with_the_last_byte_abandons_nothing() {
    let origin = Origin::start(talk::model).await;
    let setup = Setup::new(&origin).with("cache.finish_abandoned = false");
    let proxy = setup.open().await;
    for question in 0..50 {
        let ask = Ask::chat(&format!("why? {question}"));
        assert_eq!(proxy.send(&ask).await.x_cache(), "MISS");
        assert_eq!(proxy.send(&ask).await.x_cache(), "HIT");
    }
    assert_eq!(proxy.ends("complete"), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_kept_is_not_finished_for_nobody() {
    let gate = Gate::new();
    let script = gate.clone();
    let origin = Origin::start(move |_, _| {
        Reply::stream([Step::Send(talk::piece("no")), Step::Await(script.clone())]).status(500)
    })
    .await;
    let proxy = Setup::new(&origin).open().await;
    let mut client = proxy.live(&Ask::stream("why?")).await;
    client.read(1).await;
    drop(client);
    patiently(origin.hangups(1)).await;
}

/// The leader left before its head came, and then the answer outgrew the log: nobody reads it, so
/// nobody may hold it back for ever.
#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_answer_past_the_limit_ends() {
    let gate = Gate::new();
    let script = gate.clone();
    let origin = Origin::start(move |_, _| {
        let steps = (0..64).map(|_| Bytes::from(vec![b'x'; 64 << 10]));
        Reply::stream(steps).after(Step::Await(script.clone()))
    })
    .await;
    let proxy = Setup::new(&origin).small_log().open().await;
    let client = proxy.spawn(&Ask::stream("why?"));
    origin.called(1).await;
    client.abort();
    eventually("the client's leaving is noticed", || proxy.finished() == 1).await;
    gate.open();
    eventually("the journey ends", || proxy.house().tasks.is_empty()).await;
    assert_eq!(proxy.house().flights.report().log_bytes, 0);
}
