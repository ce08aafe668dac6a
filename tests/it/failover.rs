//! A 200 that is an error, a model server that is late or down, and who answers instead.

use bytes::Bytes;
use http::Method;

use crate::{
    client::Ask,
    origin::{Gate, Origin, Reply, Step},
    proxy::{Setup, eventually, patiently},
    talk::{self, done, finish, piece},
};

const REFUSAL: &str = "data: {\"error\":{\"message\":\"no GPU is free\",\"code\":503}}\n\n";

fn refusing() -> Reply {
    Reply::stream([Step::Send(Bytes::from(REFUSAL)), Step::Send(done())])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_begins_with_an_error_has_an_errors_status() {
    let origin = Origin::start(|_, _| refusing()).await;
    let proxy = Setup::new(&origin).open().await;
    for call in 1..=2 {
        let answer = proxy.send(&Ask::stream("why?")).await;
        assert_eq!((answer.status.as_u16(), answer.complete), (503, true));
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.json()["error"]["message"], "no GPU is free");
        assert_eq!(origin.calls(), call, "it is not kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_asked_of_another_replica_and_of_another_upstream() {
    let refuses = Origin::start(|_, _| refusing()).await;
    let good = Origin::start(talk::model).await;
    let twin = format!("[\"http://{}\", \"http://{}\"]", refuses.address, good.address);
    let proxy = Setup::new(&refuses).replicas(&twin).open().await;
    for number in 0..8 {
        let answer = proxy.send(&Ask::stream(&format!("why {number}?"))).await;
        assert_eq!(answer.status, 200);
        assert!(answer.text().ends_with("data: [DONE]\n\n"));
    }
    assert!(refuses.calls() > 0);

    let proxy = Setup::new(&refuses).spare(&good).open().await;
    let (before, ask) = (good.calls(), Ask::stream("why indeed?"));
    let answer = proxy.send(&ask).await;
    assert_eq!((answer.status.as_u16(), good.calls()), (200, before + 1));
    assert_eq!(proxy.send(&ask).await.x_cache(), "HIT", "what the spare said is kept");
    let model = proxy.house().upstreams.all()[0].clone();
    assert_eq!(model.failovers_total(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_from_errors_and_breaks_but_an_unread_request_does_not() {
    let good = Origin::start(talk::model).await;
    for broken in [
        Origin::start(|_, _| Reply::json(Bytes::from_static(b"{}")).status(500)).await,
        Origin::start(|_, _| Reply::raw([Step::Cut])).await,
        Origin::start(|_, _| Reply::stream([Step::Send(Bytes::from(": ping\n\n")), Step::Cut]))
            .await,
    ] {
        let proxy = Setup::new(&broken).spare(&good).open().await;
        assert_eq!(proxy.send(&Ask::stream("why?")).await.status, 200);
        let calls = (broken.calls(), good.calls());
        let upload = Ask::new(Method::POST, "/v1/files", "bytes");
        let answer = proxy.send(&upload).await;
        assert_eq!((broken.calls(), good.calls()), (calls.0 + 1, calls.1));
        assert!(!answer.complete || answer.status != 200 || answer.text().starts_with(": ping"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_fail_the_client_hears_an_upstream_not_us() {
    let busy = Origin::start(|_, _| {
        Reply::json(Bytes::from_static(b"{\"error\":{}}")).status(429).header("retry-after", "9")
    })
    .await;
    let down = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = Setup::at(down).spare(&busy).open().await;
    let answer = proxy.send(&Ask::chat("why?")).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "9"));
    let proxy = Setup::new(&busy).spare_at(down).open().await;
    let answer = proxy.send(&Ask::chat("why?")).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "9"));
}

/// Whoever said `Retry-After` is left alone while somebody else is there.
#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honoured() {
    let busy = Origin::start(|_, _| {
        Reply::json(Bytes::from_static(b"{}")).status(429).header("retry-after", "60")
    })
    .await;
    let good = Origin::start(talk::model).await;
    let proxy = Setup::new(&busy).spare(&good).open().await;
    for number in 0..10 {
        assert_eq!(proxy.send(&Ask::chat(&format!("why {number}?"))).await.status, 200);
    }
    assert_eq!((busy.calls(), good.calls()), (1, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_token_that_is_late_is_an_error_of_its_own() {
    let gate = Gate::new();
    let script = gate.clone();
    let origin = Origin::start(move |_, _| {
        Reply::stream([Step::Send(Bytes::from(": wait\n\n")), Step::Await(script.clone())])
    })
    .await;
    let proxy = Setup::new(&origin).with("timeouts.first_token = \"100ms\"").open().await;
    let answer = proxy.send(&Ask::stream("why?")).await;
    assert_eq!(answer.status, 504);
    assert_eq!(answer.json()["error"]["code"], "upstream_first_token_timeout");
    patiently(origin.hangups(1)).await;
}

/// Silence before the first token is thinking; silence after it is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_may_think_for_longer_than_it_may_fall_silent() {
    let gate = Gate::new();
    let script = gate.clone();
    // In one piece, for between two of them it may not fall silent.
    let said = Bytes::from([piece("at last"), finish("stop"), done()].concat());
    let origin = Origin::start(move |_, _| {
        Reply::stream([Step::Await(script.clone()), Step::Send(said.clone())]).length(said.len())
    })
    .await;
    let proxy = Setup::new(&origin).with("timeouts.idle = \"50ms\"").open().await;
    let waiting = proxy.spawn(&Ask::stream("why?"));
    origin.called(1).await;
    // Longer than the idle limit: if that counted, the answer would be lost.
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    gate.open();
    let answer = waiting.await.unwrap();
    assert!(answer.complete && answer.text().contains("at last"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_first_token_is_hedged_and_the_loser_is_stopped() {
    let gate = Gate::new();
    let script = gate.clone();
    let slow =
        Origin::start(move |seen, call| talk::model(seen, call).after(Step::Await(script.clone())))
            .await;
    let quick = Origin::start(talk::model).await;
    let twin = format!("[\"http://{}\", \"http://{}\"]", slow.address, quick.address);
    let proxy = Setup::new(&slow).replicas(&twin).upstream("hedge = \"30ms\"").open().await;
    let mut asked = 0;
    while slow.calls() == 0 {
        asked += 1;
        assert_eq!(proxy.send(&Ask::stream(&format!("why {asked}?"))).await.status, 200);
    }
    patiently(slow.hangups(1)).await;
    let model = proxy.house().upstreams.all()[0].clone();
    // On a busy machine the quick one may have been hedged, too.
    let hedged = model.hedges_total();
    assert!(hedged >= 1);
    // Nobody else reads an unread request twice.
    let upload = Ask::new(Method::POST, "/v1/files", "bytes");
    for _ in 0..4 {
        let sent = || slow.calls() + quick.calls();
        let before = sent();
        let waiting = proxy.spawn(&upload);
        eventually("it is sent", || sent() > before).await;
        waiting.abort();
    }
    assert_eq!(model.hedges_total(), hedged);
}

/// A call that was lost on its way does nothing twice when it is asked again; an upload might.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_lost_is_asked_of_another_replica_and_an_upload_is_not() {
    let breaks = Origin::start(|_, _| Reply::raw([Step::Cut])).await;
    let good = Origin::start(talk::model).await;
    let twin = format!("[\"http://{}\", \"http://{}\"]", breaks.address, good.address);
    let proxy = Setup::new(&breaks).replicas(&twin).open().await;
    let mut asked = 0;
    while breaks.calls() == 0 {
        asked += 1;
        assert_eq!(proxy.send(&Ask::chat(&format!("why {asked}?"))).await.status, 200);
    }
    let proxy = Setup::new(&breaks).replicas(&twin).open().await;
    let before = breaks.calls();
    let mut statuses = Vec::new();
    while breaks.calls() == before {
        let upload = Ask::new(Method::POST, "/v1/files", "bytes");
        statuses.push(proxy.send(&upload).await.status.as_u16());
    }
    assert_eq!(statuses.last(), Some(&502));
}
