//! Identical requests at once make one upstream call, and everybody gets everything.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;

use crate::{
    client::Ask,
    origin::{Gate, Origin, Reply, Step},
    proxy::{Setup, eventually, patiently},
    talk,
    words::{Mood, Words},
};

const CROWD: u64 = 1_000;

/// A stream that stops after its first event until the gate opens.
fn halting(gate: &Gate, pieces: &[&str]) -> Reply {
    let mut steps: Vec<Step> = talk::events(pieces).into_iter().map(Step::Send).collect();
    steps.insert(1, Step::Await(gate.clone()));
    Reply::stream(steps)
}

fn joined(events: Vec<Bytes>) -> Vec<u8> {
    events.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_at_once_make_one_call() {
    let gate = Gate::new();
    let script = gate.clone();
    let origin = Origin::start(move |_, _| halting(&script, &["one", " two"])).await;
    let proxy = Arc::new(Setup::new(&origin).open().await);
    let ask = Ask::stream("why?");
    let crowd: Vec<_> = (0..CROWD).map(|_| proxy.spawn(&ask)).collect();
    proxy.joined(CROWD - 1).await;
    gate.open();
    let expected = joined(talk::events(&["one", " two"]));
    let mut collapsed = 0;
    for answer in crowd {
        let answer = answer.await.unwrap();
        assert_eq!(answer.body, expected);
        assert!(answer.complete);
        collapsed += u64::from(answer.cache_status().collapsed);
    }
    assert_eq!((origin.calls(), collapsed), (1, CROWD - 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_hangs_up_after_the_first_event_and_the_others_get_everything() {
    let gate = Gate::new();
    let script = gate.clone();
    let origin = Origin::start(move |_, _| halting(&script, &["one", " two"])).await;
    let setup = Setup::new(&origin).with("cache.finish_abandoned = false");
    let proxy = setup.open().await;
    let ask = Ask::stream("why?");
    let mut leader = proxy.live(&ask).await;
    leader.read(talk::piece("one").len()).await;
    let crowd: Vec<_> = (0..CROWD).map(|_| proxy.spawn(&ask)).collect();
    proxy.joined(CROWD).await;
    drop(leader);
    gate.open();
    let expected = joined(talk::events(&["one", " two"]));
    for answer in crowd {
        let answer = patiently(answer).await.unwrap();
        assert_eq!(answer.body, expected);
        assert!(answer.complete);
    }
    assert_eq!(origin.calls(), 1);
    assert_eq!(proxy.send(&ask).await.x_cache(), "HIT");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_late_gets_everything_from_the_start() {
    let gate = Gate::new();
    let script = gate.clone();
    let origin = Origin::start(move |_, _| {
        let events = talk::events(&["one", " two", " three"]);
        let gated =
            events.into_iter().flat_map(|one| [Step::Send(one), Step::Await(script.clone())]);
        Reply::stream(gated)
    })
    .await;
    let proxy = Setup::new(&origin).open().await;
    let ask = Ask::stream("why?");
    let mut first = proxy.live(&ask).await;
    let mut heard = first.read(talk::piece("one").len()).await;
    gate.step();
    heard.extend(first.read(talk::piece(" two").len()).await);
    let mut late = proxy.live(&ask).await;
    let caught_up = late.read(heard.len()).await;
    assert_eq!(caught_up, heard);
    gate.open();
    let expected = joined(talk::events(&["one", " two", " three"]));
    assert_eq!([caught_up, late.rest().await.body].concat(), expected);
    assert_eq!([heard, first.rest().await.body].concat(), expected);
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_shape_waits_for_the_end_and_is_served_from_it() {
    for leads_as_stream in [true, false] {
        let gate = Gate::new();
        let script = gate.clone();
        let origin = Origin::start(move |seen, call| {
            talk::model(seen, call).after(Step::Await(script.clone()))
        })
        .await;
        let proxy = Setup::new(&origin).open().await;
        let (stream, whole) = (Ask::stream("why?"), Ask::chat("why?"));
        let (lead, follow) = if leads_as_stream { (stream, whole) } else { (whole, stream) };
        let leader = proxy.spawn(&lead);
        origin.called(1).await;
        let followers: Vec<_> = (0..20).map(|_| proxy.spawn(&follow)).collect();
        proxy.joined(20).await;
        gate.open();
        assert!(leader.await.unwrap().text().contains("call 0"));
        for follower in followers {
            let answer = follower.await.unwrap();
            assert!(answer.text().contains("call 0"), "{}", answer.text());
            assert_eq!(answer.text().contains("[DONE]"), !leads_as_stream);
            assert_eq!(answer.x_cache(), "MISS");
            assert!(answer.cache_status().collapsed);
        }
        assert_eq!(origin.calls(), 1);
        assert_eq!(proxy.outcomes("collapsed"), 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_fails_before_its_head_fails_everybody_once() {
    let gate = Gate::new();
    let script = gate.clone();
    let origin =
        Origin::start(move |_, _| Reply::raw([Step::Await(script.clone()), Step::Cut])).await;
    let proxy = Setup::new(&origin).open().await;
    let ask = Ask::stream("why?");
    let crowd: Vec<_> = (0..100).map(|_| proxy.spawn(&ask)).collect();
    proxy.joined(99).await;
    gate.open();
    for answer in crowd {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 502);
        assert_eq!(answer.json()["error"]["code"], "upstream_reset");
    }
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_proves_unkeepable_was_shared_but_is_asked_for_again() {
    let gate = Gate::new();
    let script = gate.clone();
    let cut_off = [talk::piece("one"), talk::finish("length"), talk::done()];
    let said = cut_off.clone();
    let origin =
        Origin::start(move |_, _| Reply::stream(said.clone()).after(Step::Await(script.clone())))
            .await;
    let proxy = Setup::new(&origin).open().await;
    let ask = Ask::stream("why?");
    let crowd: Vec<_> = (0..100).map(|_| proxy.spawn(&ask)).collect();
    proxy.joined(99).await;
    gate.open();
    for answer in crowd {
        assert_eq!(answer.await.unwrap().body, cut_off.concat());
    }
    assert_eq!(origin.calls(), 1);
    assert_eq!(proxy.send(&ask).await.x_cache(), "MISS");
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_of_the_other_shape_of_an_unkeepable_answer_share_a_second_call() {
    let gate = Gate::new();
    let script = gate.clone();
    let origin = Origin::start(move |_, call| {
        let reply = if call == 0 {
            Reply::stream([talk::piece("one"), talk::finish("length"), talk::done()])
        } else {
            Reply::json(talk::whole("one", "length"))
        };
        reply.after(Step::Await(script.clone()))
    })
    .await;
    let proxy = Setup::new(&origin).open().await;
    let leader = proxy.spawn(&Ask::stream("why?"));
    origin.called(1).await;
    let crowd: Vec<_> = (0..50).map(|_| proxy.spawn(&Ask::chat("why?"))).collect();
    proxy.joined(50).await;
    gate.open();
    assert_eq!(leader.await.unwrap().status, 200);
    for answer in crowd {
        assert_eq!(answer.await.unwrap().body, talk::whole("one", "length"));
    }
    // A follower that boards after the second flight has landed leads a third one.
    assert!(origin.calls() <= 5, "{}", origin.calls());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_want_a_fresh_answer_share_nothing() {
    let gate = Gate::new();
    let script = gate.clone();
    let origin =
        Origin::start(move |seen, call| talk::model(seen, call).after(Step::Await(script.clone())))
            .await;
    let proxy = Setup::new(&origin).open().await;
    let ask = Ask::stream("why?").header("cache-control", "no-cache");
    let crowd: Vec<_> = (0..10).map(|_| proxy.spawn(&ask)).collect();
    origin.called(10).await;
    gate.open();
    for answer in crowd {
        let status = answer.await.unwrap().cache_status();
        assert_eq!((status.fwd.as_deref(), status.collapsed), (Some("request"), false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followers_cookies_are_its_own() {
    let gate = Gate::new();
    let script = gate.clone();
    let origin = Origin::start(move |seen, call| {
        let reply = talk::model(seen, call).header("set-cookie", "session=leader");
        reply.after(Step::Await(script.clone()))
    })
    .await;
    let proxy = Setup::new(&origin).with("cache.scope = \"shared\"").open().await;
    let crowd: Vec<_> = (0..5).map(|_| proxy.spawn(&Ask::stream("why?"))).collect();
    proxy.joined(4).await;
    gate.open();
    let mut cookies = 0;
    for answer in crowd {
        let answer = answer.await.unwrap();
        let collapsed = answer.cache_status().collapsed;
        assert!(!(collapsed && answer.headers.contains_key("set-cookie")));
        cookies += usize::from(answer.headers.contains_key("set-cookie"));
    }
    assert_eq!(cookies, 1);
}

/// A semantic hit is good for whoever asked for one, not for who joined and asked for less.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_never_gets_a_hit_that_its_own_control_forbids() {
    let folder = tempfile::tempdir().unwrap();
    let words = Words::new();
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).semantic_by(&folder, &words).open().await;
    proxy.send(&Ask::chat("how do I reset my password")).await;
    proxy.written(1).await;
    for (header, value) in [("x-reprise-mode", "exact"), ("cache-control", "max-age=0")] {
        let gate = Gate::new();
        words.feel(Mood::Slow(gate.clone()));
        let ask = Ask::chat("my password how do I reset");
        let texts = words.texts.load(Ordering::SeqCst);
        let leader = proxy.spawn(&ask);
        eventually("it embeds", || words.texts.load(Ordering::SeqCst) > texts).await;
        let joined = proxy.house().flights.report().joined;
        let follower = proxy.spawn(&ask.clone().header(header, value));
        proxy.joined(joined + 1).await;
        gate.open();
        words.feel(Mood::Well);
        let calls = origin.calls();
        let follower = follower.await.unwrap();
        assert_eq!(follower.x_cache(), "MISS", "{header}: {value}");
        assert_eq!(origin.calls(), calls + 1);
        assert_eq!(leader.await.unwrap().cache_status().detail.as_deref(), Some("semantic"));
        proxy.landed().await;
        let id = follower.header("x-reprise-entry").parse().unwrap();
        proxy.written(2).await;
        proxy.house().cache.delete(id).await.unwrap();
    }
}
