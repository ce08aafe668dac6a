//! One access record a request, with the right outcome and the right end.

use bytes::Bytes;
use http::Method;

use crate::{
    client::Ask,
    origin::{Gate, Origin, Reply, Step},
    proxy::{Proxy, Setup, eventually},
    talk,
};

/// Waits for the next record and checks all counts.
async fn counted(proxy: &Proxy, outcomes: &[(&str, u64)], ends: &[(&str, u64)]) {
    let finished: u64 = outcomes.iter().map(|(_, count)| count).sum();
    eventually("records are finished", || proxy.finished() >= finished).await;
    for name in ["hit_exact", "hit_semantic", "hit_stale", "collapsed", "miss", "bypass", "error"] {
        let expected = outcomes.iter().find(|(known, _)| *known == name).map_or(0, |one| one.1);
        assert_eq!(proxy.outcomes(name), expected, "{name}");
    }
    for end in ["complete", "upstream_failed", "client_left", "timed_out"] {
        let expected = ends.iter().find(|(known, _)| *known == end).map_or(0, |one| one.1);
        assert_eq!(proxy.ends(end), expected, "{end}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_a_complete_answer() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).semantic(&folder).open().await;
    let ask = Ask::stream("how do I reset my password");
    proxy.send(&ask).await;
    counted(&proxy, &[("miss", 1)], &[("complete", 1)]).await;
    proxy.send(&ask).await;
    counted(&proxy, &[("miss", 1), ("hit_exact", 1)], &[("complete", 2)]).await;
    proxy.written(1).await;
    proxy.send(&Ask::chat("my password how do I reset")).await;
    let hits = [("miss", 1), ("hit_exact", 1), ("hit_semantic", 1)];
    counted(&proxy, &hits, &[("complete", 3)]).await;
    proxy.send(&ask.header("x-reprise-mode", "off")).await;
    let with_bypass = [hits.as_slice(), &[("bypass", 1)]].concat();
    counted(&proxy, &with_bypass, &[("complete", 4)]).await;
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_without_bytes_are_complete() {
    let origin = Origin::start(|seen, _| match seen.target.as_str() {
        "/head" => Reply::json(Bytes::new()).length(100),
        "/none" => Reply::raw([Bytes::from("HTTP/1.1 204 No Content\r\n\r\n")]),
        _ => Reply::json(Bytes::new()),
    })
    .await;
    let proxy = Setup::new(&origin).open().await;
    proxy.send(&Ask::new(Method::HEAD, "/head", "")).await;
    proxy.send(&Ask::new(Method::GET, "/none", "")).await;
    proxy.send(&Ask::new(Method::GET, "/empty", "")).await;
    counted(&proxy, &[("bypass", 3)], &[("complete", 3)]).await;
    proxy.send(&Ask::chat("why?")).await;
    counted(&proxy, &[("bypass", 3), ("miss", 1)], &[("complete", 4)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_content_as_an_answer_is_complete() {
    let origin =
        Origin::start(|_, _| Reply::raw([Bytes::from("HTTP/1.1 204 No Content\r\n\r\n")])).await;
    let proxy = Setup::new(&origin).open().await;
    for ask in [Ask::chat("why?"), Ask::stream("why?")] {
        assert_eq!(proxy.send(&ask).await.status, 204);
    }
    counted(&proxy, &[("miss", 2)], &[("complete", 2)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_and_upstreams_that_fail() {
    let gate = Gate::new();
    let script = gate.clone();
    let origin = Origin::start(move |seen, _| {
        let asked = String::from_utf8_lossy(&seen.body).into_owned();
        if asked.contains("cut") {
            return Reply::stream([Step::Send(talk::piece("one")), Step::Cut]);
        }
        Reply::stream([Step::Send(talk::piece("one")), Step::Await(script.clone())])
    })
    .await;
    let proxy = Setup::new(&origin).open().await;
    let mut client = proxy.live(&Ask::stream("leave")).await;
    client.read(1).await;
    drop(client);
    counted(&proxy, &[("miss", 1)], &[("client_left", 1)]).await;
    proxy.send(&Ask::stream("cut")).await;
    let ends = [("client_left", 1), ("upstream_failed", 1)];
    counted(&proxy, &[("miss", 2)], &ends).await;
    proxy.send(&Ask::stream("bad").header("x-reprise-mode", "?")).await;
    let ends = [ends.as_slice(), &[("complete", 1)]].concat();
    counted(&proxy, &[("miss", 2), ("error", 1)], &ends).await;
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_the_upstream_was_spared() {
    let gate = Gate::new();
    let script = gate.clone();
    let origin =
        Origin::start(move |seen, call| talk::model(seen, call).after(Step::Await(script.clone())))
            .await;
    let proxy = Setup::new(&origin).open().await;
    let ask = Ask::chat("why?");
    let crowd: Vec<_> = (0..3).map(|_| proxy.spawn(&ask)).collect();
    proxy.joined(2).await;
    gate.open();
    for answer in crowd {
        answer.await.unwrap();
    }
    proxy.send(&ask).await;
    counted(&proxy, &[("miss", 1), ("collapsed", 2), ("hit_exact", 1)], &[("complete", 4)]).await;
    // Twelve tokens each, of two that joined and one that hit.
    assert_eq!(proxy.metric("reprise_saved_tokens_total"), 36);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_may_be_in_flight_are_refused_at_once() {
    let gate = Gate::new();
    let script = gate.clone();
    let origin = Origin::start(move |_, _| {
        Reply::stream([Step::Send(talk::piece("one")), Step::Await(script.clone())])
    })
    .await;
    let proxy = Setup::new(&origin).with("limits.requests = 2").open().await;
    let held = [proxy.live(&Ask::stream("one")).await, proxy.live(&Ask::stream("two")).await];
    let refused = proxy.send(&Ask::stream("three")).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["error"]["code"], "overloaded");
    assert!(!refused.header("retry-after").is_empty());
    // The place is held to the end of the body, and then it is free.
    drop(held);
    eventually("there is room again", || proxy.house().admission.in_flight() == 0).await;
    gate.open();
    assert_eq!(proxy.send(&Ask::stream("three")).await.status, 200);
}
