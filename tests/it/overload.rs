//! More than can be done: a line, turns, quotas, and a refusal at once.

use crate::{
    client::Ask,
    origin::{Gate, Origin, Step},
    proxy::{Setup, eventually},
    talk,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_upstream_has_a_line_and_a_full_line_refuses_at_once() {
    let gate = Gate::new();
    let script = gate.clone();
    let origin =
        Origin::start(move |seen, call| talk::model(seen, call).then(Step::Await(script.clone())))
            .await;
    let proxy = Setup::new(&origin).upstream("concurrency = 1\nqueue = 1").open().await;
    let model = proxy.house().upstreams.all()[0].clone();
    let first = proxy.spawn(&Ask::stream("one?"));
    origin.called(1).await;
    let second = proxy.spawn(&Ask::stream("two?"));
    eventually("the second waits", || model.waiting().0 == 1).await;
    let third = proxy.send(&Ask::stream("three?")).await;
    assert_eq!((third.status.as_u16(), third.header("retry-after")), (503, "10"));
    assert_eq!(third.json()["error"]["code"], "overloaded");
    // The turn lasts to the end of the body, not of the head.
    assert_eq!((origin.calls(), model.waiting()), (1, (1, 1)));
    gate.open();
    assert!(first.await.unwrap().complete);
    let second = second.await.unwrap();
    assert!(second.complete);
    let timing = second.header("server-timing").to_owned();
    let queue = timing.split(", ").find_map(|one| one.strip_prefix("queue;dur=")).unwrap();
    assert!(queue.parse::<f64>().unwrap() > 0.0, "{timing}");
    assert_eq!(proxy.send(&Ask::stream("three?")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_has_used_up_its_minute_is_told_and_others_are_not() {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).with("limits.tenant_requests = 2").open().await;
    let ask = Ask::chat("why?");
    for left in ["1", "0"] {
        let answer = proxy.send(&ask).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-ratelimit-limit-requests"), "2");
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), left);
    }
    let refused = proxy.send(&ask).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["error"]["code"], "rate_limited");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    let other = ask.clone().header("authorization", "Bearer bob");
    assert_eq!(proxy.send(&other).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_an_upstream_computed_count_and_hits_are_free() {
    let origin = Origin::start(talk::model).await;
    // An answer costs twelve.
    let proxy = Setup::new(&origin).with("limits.tenant_tokens = 20").open().await;
    let ask = Ask::chat("why?");
    assert_eq!(proxy.send(&ask).await.status, 200);
    let hit = proxy.send(&ask).await;
    assert_eq!(hit.x_cache(), "HIT");
    // Eight, and one more every three seconds; had the hit cost twelve, none would be left.
    let left: u64 = hit.header("x-ratelimit-remaining-tokens").parse().unwrap();
    assert!((8..20).contains(&left), "{left}");
    assert_eq!(proxy.send(&Ask::chat("what?")).await.status, 200);
    assert_eq!(proxy.send(&ask).await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_share_one_room() {
    let gate = Gate::new();
    let script = gate.clone();
    let origin =
        Origin::start(move |seen, call| talk::model(seen, call).after(Step::Await(script.clone())))
            .await;
    let proxy = Setup::new(&origin)
        .with("limits.body_bytes = \"64KiB\"\nlimits.bodies_bytes = \"64KiB\"")
        .open()
        .await;
    let large = |word: &str| Ask::chat(&word.repeat(10_000));
    let first = proxy.spawn(&large("why "));
    origin.called(1).await;
    let refused = proxy.send(&large("who ")).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "1"));
    gate.open();
    assert_eq!(first.await.unwrap().status, 200);
    eventually("it left the room", || proxy.house().bodies.taken() == 0).await;
    assert_eq!(proxy.send(&large("who ")).await.status, 200);
}
