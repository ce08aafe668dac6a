//! Readers that do not read: nobody else notices.

use bytes::Bytes;

use crate::{
    client::{Ask, Live},
    origin::{Gate, Origin, Reply, Seen, Step},
    proxy::{Proxy, Setup, eventually, patiently},
    talk,
};

/// More than any pair of socket buffers on the way to a client holds.
const FLOOD: usize = 48 << 20;

/// The largest lead of a fast reader over a slow one, and a chunk or two on top.
const BOUND: u64 = (256 + 128) << 10;

fn flood() -> Vec<Bytes> {
    let piece = Bytes::from(vec![b'x'; 64 << 10]);
    vec![piece; FLOOD / (64 << 10)]
}

fn tokens(count: usize) -> Vec<Bytes> {
    let mut events: Vec<_> =
        (0..count).map(|token| Bytes::from(format!(": token {token:>45}\n\n"))).collect();
    events.extend(talk::events(&["one"]));
    events
}

/// Long answers for those who ask for long ones.
fn long_or_short(seen: &Seen, _: usize) -> Reply {
    let is_long = String::from_utf8_lossy(&seen.body).contains("long");
    Reply::stream(tokens(if is_long { 100_000 } else { 50 }))
}

async fn others_keep_their_pace(setup: Setup) {
    let origin = Origin::start_h2(long_or_short).await;
    let proxy = setup.http2_to(&origin).open().await;
    let stalled = proxy.live(&Ask::stream("a long one")).await;
    for question in 0..20 {
        let answer = proxy.send(&Ask::stream(&format!("a short one {question}"))).await;
        assert_eq!(answer.body, tokens(50).concat());
        assert!(answer.complete);
    }
    assert_eq!(origin.connections(), 1);
    let late = patiently(stalled.rest()).await;
    assert!(late.complete);
    assert_eq!(late.body, tokens(100_000).concat());
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_reader_does_not_slow_others_on_its_upstream_connection() {
    others_keep_their_pace(Setup::nowhere()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_one_whose_answer_has_outgrown_its_log() {
    others_keep_their_pace(Setup::nowhere().small_log()).await;
}

/// Reads to the end while watching how much the logs hold.
async fn read_watching(proxy: &Proxy, mut live: Live) -> usize {
    let (mut read, mut most) = (0, 0);
    while let Some(piece) = live.next().await {
        read += piece.unwrap().len();
        most = most.max(proxy.house().flights.report().log_bytes);
    }
    assert!(most <= BOUND, "{most} bytes in logs");
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_limit_a_lone_slow_reader_gets_everything_and_memory_is_bounded() {
    let origin = Origin::start(|_, _| Reply::stream(flood())).await;
    let proxy = Setup::new(&origin).small_log().open().await;
    let ask = Ask::stream("why?");
    let live = proxy.live(&ask).await;
    // It has read nothing yet: the log fills up and the upstream waits.
    let flights = || proxy.house().flights.report();
    eventually("the log is full", || flights().log_bytes > 256 << 10 && flights().running == 0)
        .await;
    assert!(flights().log_bytes <= BOUND);
    assert_eq!(patiently(read_watching(&proxy, live)).await, FLOOD);
    assert_eq!(proxy.live(&ask).await.head.headers["x-cache"], "MISS");
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_limit_a_laggard_is_cut_and_the_fast_reader_gets_everything() {
    let gate = Gate::new();
    let script = gate.clone();
    let origin = Origin::start(move |_, _| {
        let steps =
            flood().into_iter().flat_map(|piece| [Step::Send(piece), Step::Await(script.clone())]);
        Reply::stream(steps)
    })
    .await;
    let proxy = Setup::new(&origin).small_log().open().await;
    let ask = Ask::stream("why?");
    let slow = proxy.live(&ask).await;
    let mut fast = proxy.live(&ask).await;
    // In step with its reader, so that only one of the two lags.
    let flights = || proxy.house().flights.report();
    for piece in flood() {
        patiently(fast.read(piece.len())).await;
        assert!(flights().log_bytes <= BOUND);
        gate.step();
    }
    assert!(patiently(fast.rest()).await.complete);
    let slow = patiently(slow.rest()).await;
    assert!(!slow.complete);
    assert!(slow.body.len() < FLOOD);
    assert_eq!(origin.calls(), 1);
    eventually("both are counted", || proxy.finished() == 2).await;
    // It was its own slowness, not the upstream.
    assert_eq!((proxy.ends("complete"), proxy.ends("timed_out")), (1, 1));
}
