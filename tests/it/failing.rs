//! Upstreams that are not there, or that die half-way.

use std::net::SocketAddr;

use http::Method;
use tokio::net::TcpListener;

use crate::{
    client::Ask,
    origin::{Origin, Reply, Step},
    proxy::{Setup, eventually},
    talk::{self, events, piece},
};

/// An address where nobody listens.
async fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_is_named_in_a_502() {
    let address = nowhere().await;
    let proxy = Setup::at(address).open().await;
    for ask in [Ask::stream("why?"), Ask::chat("why?"), Ask::new(Method::GET, "/v1/models", "")] {
        let answer = proxy.send(&ask).await;
        assert_eq!(answer.status, 502);
        let error = &answer.json()["error"];
        assert_eq!(error["code"], "upstream_connect");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("model") && message.contains(&address.to_string()), "{message}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert!(!answer.cache_status().hit);
    }
    eventually("they are counted", || proxy.outcomes("error") == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_dies_says_so_and_is_never_done() {
    let origin = Origin::start(|_, _| {
        Reply::stream([Step::Send(piece("one")), Step::Send(piece(" two")), Step::Cut])
    })
    .await;
    let proxy = Setup::new(&origin).open().await;
    for call in 1..=2 {
        let answer = proxy.send(&Ask::stream("why?")).await;
        assert!(!answer.complete);
        let heard = [piece("one"), piece(" two")].concat();
        let last = answer.body.strip_prefix(heard.as_slice()).unwrap();
        let last = std::str::from_utf8(last).unwrap().trim();
        let error: serde_json::Value =
            serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(error["error"]["code"], "upstream_cut");
        assert!(!answer.text().contains("[DONE]"));
        assert_eq!(origin.calls(), call);
        eventually("it is counted", || proxy.ends("upstream_failed") == call as u64).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_cut_breaks_the_connection() {
    let body = talk::whole("one", "stop");
    let half = body.slice(..body.len() / 2);
    let origin = Origin::start(move |_, _| {
        let announced = Reply::json(half.clone()).length(half.len() * 2);
        announced.then(Step::Cut)
    })
    .await;
    let proxy = Setup::new(&origin).open().await;
    for ask in [Ask::chat("why?"), Ask::new(Method::GET, "/v1/models", "")] {
        let answer = proxy.send(&ask).await;
        assert!(!answer.complete);
        assert!(answer.body.len() <= body.len() / 2);
    }
    eventually("both are counted", || proxy.ends("upstream_failed") == 2).await;
}

/// A last word of ours would fill up an announced length, and the cut would look complete.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_announced_length_that_is_cut_stays_short() {
    let whole = events(&["one", " two"]).concat();
    let length = whole.len();
    let origin = Origin::start(move |_, _| {
        Reply::stream([Step::Send(whole[..whole.len() - 20].to_vec().into()), Step::Cut])
            .length(whole.len())
    })
    .await;
    let proxy = Setup::new(&origin).open().await;
    let answer = proxy.send(&Ask::stream("why?")).await;
    assert!(!answer.complete);
    assert!(answer.body.len() < length);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_upstream_has_limits_of_its_own() {
    let gate = crate::origin::Gate::new();
    let script = gate.clone();
    let origin = Origin::start(move |_, call| {
        let silent = Step::Await(script.clone());
        if call == 0 {
            Reply::stream([piece("one")]).after(silent)
        } else {
            Reply::stream([Step::Send(piece("one")), silent])
        }
    })
    .await;
    let proxy = Setup::new(&origin).with("timeouts.first_byte = \"100ms\"").open().await;
    let late = proxy.send(&Ask::stream("why?")).await;
    assert_eq!(late.status, 504);
    assert_eq!(late.json()["error"]["code"], "upstream_first_byte_timeout");
    // Each by itself: on a busy machine a head may take a tenth of a second, too.
    let proxy = Setup::new(&origin).with("timeouts.idle = \"100ms\"").open().await;
    let silent = proxy.send(&Ask::stream("why?")).await;
    assert!(!silent.complete && silent.text().contains("upstream_idle_timeout"));
    eventually("it is counted", || proxy.ends("timed_out") == 1).await;
}
