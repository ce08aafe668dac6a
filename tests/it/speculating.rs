//! Where hits are rare, the call to the upstream begins beside the lookup.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    client::{Answer, Ask},
    origin::{Gate, Origin, Reply, Seen, Step},
    proxy::{Proxy, Setup, eventually, patiently},
    talk,
    words::{Mood, Words},
};

const KNOWN: &str = "how do I reset my password";
const NEAR: &str = "my password how do I reset";

async fn open(origin: &Origin, folder: &TempDir, words: &Arc<Words>) -> Proxy {
    let setup = Setup::new(origin).upstream("speculate = 0.05");
    setup.semantic_by(folder, words).open().await
}

/// One answer is known, and one lookup has not hit: the next is taken for a miss.
async fn prime(proxy: &Proxy) {
    proxy.send(&Ask::chat(KNOWN)).await;
    proxy.written(1).await;
}

fn counts(proxy: &Proxy) -> (u64, u64) {
    proxy.house().upstreams.all()[0].speculated()
}

fn timing(answer: &Answer, stage: &str) -> f64 {
    let entries = answer.header("server-timing").split(", ");
    let found = entries.filter_map(|entry| entry.strip_prefix(stage)?.strip_prefix(";dur="));
    found.map(|span| span.parse::<f64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_is_at_the_upstream_before_its_embedding_is_done() {
    let (folder, words) = (tempfile::tempdir().unwrap(), Words::new());
    let origin = Origin::start(talk::model).await;
    let proxy = open(&origin, &folder, &words).await;
    prime(&proxy).await;
    let gate = Gate::new();
    words.feel(Mood::Slow(gate.clone()));
    let asked = proxy.spawn(&Ask::stream("where is the nearest bank"));
    origin.called(2).await;
    assert!(!asked.is_finished(), "the verdict is waited for");
    gate.open();
    let answer = asked.await.unwrap();
    assert_eq!(answer.cache_status().fwd.as_deref(), Some("miss"));
    assert!(answer.complete);
    let stages =
        ["read", "key", "exact", "embed", "search", "verdict", "queue", "connect", "first"];
    let sum: f64 = stages.iter().map(|stage| timing(&answer, stage)).sum();
    assert!(sum <= timing(&answer, "total") + 0.02, "{}", answer.header("server-timing"));
    proxy.written(2).await;
    assert_eq!((origin.calls(), counts(&proxy)), (2, (1, 0)));
    // It is kept like any other.
    assert_eq!(proxy.send(&Ask::stream("where is the nearest bank")).await.x_cache(), "HIT");
    proxy.stop().await;
}

/// A model server whose first answer is whole, and all others halt at the gate: before their head, or
/// after their first event.
fn halting(gate: &Gate, at: Halt) -> impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static {
    let gate = gate.clone();
    move |seen, call| {
        let halt = Step::Await(gate.clone());
        match (call, at) {
            (0, _) => talk::model(seen, call),
            (_, Halt::BeforeHead) => talk::model(seen, call).after(halt),
            (_, Halt::AfterEvent) => Reply::stream([talk::piece("half").into(), halt]),
        }
    }
}

#[derive(Clone, Copy)]
enum Halt {
    BeforeHead,
    AfterEvent,
}

/// From a hit to the end of the call that began ahead of it.
const PROMISED: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_stops_the_call_and_nothing_of_it_is_kept() {
    for (at, http2) in
        [(Halt::BeforeHead, false), (Halt::AfterEvent, false), (Halt::AfterEvent, true)]
    {
        // At best of some tries, for the machine may be busy with other work.
        let mut took = Duration::MAX;
        for _ in 0..3 {
            took = took.min(stopping_time(at, http2).await);
            if took < PROMISED {
                break;
            }
        }
        assert!(took < PROMISED, "{took:?}");
    }
}

/// How long the call went on behind the hit.
async fn stopping_time(at: Halt, http2: bool) -> Duration {
    let (folder, words, gate) = (tempfile::tempdir().unwrap(), Words::new(), Gate::new());
    let origin = match http2 {
        false => Origin::start(halting(&gate, at)).await,
        true => Origin::start_h2(halting(&gate, at)).await,
    };
    let setup = if http2 { Setup::nowhere().http2_to(&origin) } else { Setup::new(&origin) };
    let setup = setup.upstream("speculate = 0.05").semantic_by(&folder, &words);
    let proxy = setup.open().await;
    prime(&proxy).await;
    let embedding = Gate::new();
    words.feel(Mood::Slow(embedding.clone()));
    let asked = proxy.spawn(&Ask::stream(NEAR));
    origin.called(2).await;
    assert_eq!(origin.hangups_so_far(), 0);
    embedding.open();
    let answer = asked.await.unwrap();
    let answered = Instant::now();
    patiently(origin.hangups(1)).await;
    let took = answered.elapsed();
    let status = answer.cache_status();
    assert_eq!((status.hit, status.detail.as_deref()), (true, Some("semantic")));
    assert!(!answer.text().contains("half"), "{}", answer.text());
    proxy.landed().await;
    assert_eq!((origin.calls(), counts(&proxy)), (2, (1, 1)));
    assert_eq!(proxy.house().cache.writes().written, 1, "the first answer alone");
    // Hits are not rare now.
    words.feel(Mood::Well);
    let again = proxy.send(&Ask::stream("password how do I reset my")).await;
    assert_eq!(again.cache_status().detail.as_deref(), Some("semantic"));
    assert_eq!((origin.calls(), counts(&proxy)), (2, (1, 1)));
    proxy.stop().await;
    took
}

/// The call begins before the store is asked by id, too, and an answer found there stops it.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_found_by_id_stops_the_call() {
    let (folder, words) = (tempfile::tempdir().unwrap(), Words::new());
    let origin = Origin::start(talk::model).await;
    let clients = ["ann", "ben", "cat", "dan", "eve"];
    let by = |client: &str, question: &str| {
        Ask::chat(question).header("authorization", &format!("Bearer {client}"))
    };
    let proxy = open(&origin, &folder, &words).await;
    for client in clients {
        proxy.send(&by(client, KNOWN)).await;
    }
    proxy.stop().await;
    // Nothing is in memory now.
    let proxy = open(&origin, &folder, &words).await;
    for client in clients {
        proxy.send(&by(client, "where is the nearest bank")).await;
        let hit = proxy.send(&by(client, KNOWN)).await;
        assert_eq!(hit.cache_status().detail.as_deref(), Some("exact"));
    }
    eventually("no journey runs", || proxy.house().tasks.is_empty()).await;
    let (begun, in_vain) = counts(&proxy);
    // A store that answers before it is waited for leaves no time for a call. Five times it will not.
    assert!(begun >= 1 && in_vain == begun, "{begun} {in_vain}");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_shares_the_call_that_began_ahead() {
    let (folder, words) = (tempfile::tempdir().unwrap(), Words::new());
    let origin = Origin::start(talk::model).await;
    let proxy = Arc::new(open(&origin, &folder, &words).await);
    prime(&proxy).await;
    let embedding = Gate::new();
    words.feel(Mood::Slow(embedding.clone()));
    let ask = Ask::stream("where is the nearest bank");
    let crowd: Vec<_> = (0..50).map(|_| proxy.spawn(&ask)).collect();
    origin.called(2).await;
    proxy.joined(49).await;
    embedding.open();
    let mut bodies = Vec::new();
    for answer in crowd {
        let answer = answer.await.unwrap();
        assert!(answer.complete);
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!((bodies.len(), origin.calls(), counts(&proxy)), (1, 2, (1, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_while_it_is_looked_up_stops_the_call() {
    let (folder, words, gate) = (tempfile::tempdir().unwrap(), Words::new(), Gate::new());
    let origin = Origin::start(halting(&gate, Halt::BeforeHead)).await;
    let setup = Setup::new(&origin).upstream("speculate = 0.05");
    let setup = setup.with("cache.finish_abandoned = false").semantic_by(&folder, &words);
    let proxy = setup.open().await;
    prime(&proxy).await;
    words.feel(Mood::Slow(Gate::new()));
    let asked = proxy.spawn(&Ask::stream("where is the nearest bank"));
    origin.called(2).await;
    asked.abort();
    patiently(origin.hangups(1)).await;
    // A call is counted when its journey lets go of it, which is a moment after the flight has landed.
    eventually("no journey runs", || proxy.house().tasks.is_empty()).await;
    assert_eq!(counts(&proxy), (1, 1));
}
