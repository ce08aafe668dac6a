//! Identical requests at once make one upstream call, and everybody gets everything.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    client::Ask,
    origin::{Gate, Origin, Reply, Step},
    proxy::{Setup, patiently},
    talk,
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
