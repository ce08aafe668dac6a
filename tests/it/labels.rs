//! What people say of hits: asking anew right after one, and marks that reach every key of an answer.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use reprise::{
    cache::{Mark, explain::Explanation},
    exchange::Asked,
    front::{Origin as Side, Peer},
    store::EntryId,
};

use crate::{
    client::{Answer, Ask},
    origin::{Origin, Reply},
    proxy::{Proxy, Setup},
    talk,
};

const QUESTION: &str = "How do I reset my password?";
const PARAPHRASE: &str = "How can I reset my password?";
const OTHER_PARAPHRASE: &str = "How could I reset my password?";

fn labels(proxy: &Proxy) -> f64 {
    proxy.house().cache.verdict_report().wrong_hits[0].labels
}

fn detail(answer: &Answer) -> String {
    answer.cache_status().detail.unwrap_or_default()
}

/// Sends it and waits until it was learned from: an answer is written after that.
async fn forwarded(proxy: &Proxy, ask: &Ask) -> Answer {
    let written = proxy.house().cache.writes().written;
    let answer = proxy.send(ask).await;
    assert_eq!(answer.x_cache(), "MISS");
    proxy.written(written + 1).await;
    answer
}

async fn explained(proxy: &Proxy, question: &str) -> Explanation {
    let ask = Ask::chat(question);
    let mut headers = http::HeaderMap::new();
    for (name, value) in &ask.headers {
        let name: http::HeaderName = name.parse().unwrap();
        headers.append(name, value.parse().unwrap());
    }
    let peer = Peer { origin: Side::Tcp(([127, 0, 0, 1], 1).into()), tls: None };
    let asked = Asked { target: ask.target.parse().unwrap(), headers, body: ask.body.clone() };
    proxy.house().explain(peer, asked).await.unwrap().cache.unwrap().1
}

/// A hit, and the same client asking for a fresh answer right after it, twice. Says what is then
/// believed of another paraphrase.
async fn retried(fresh: &'static str) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let origin = Origin::start(move |_, _| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        Reply::json(talk::whole(if first { "Press reset." } else { fresh }, "stop"))
    })
    .await;
    let proxy = Setup::new(&origin).with_the_real_model(&folder).open().await;
    let anew = |question: &str| Ask::chat(question).header("cache-control", "no-cache");
    forwarded(&proxy, &Ask::chat(QUESTION)).await;
    assert_eq!(labels(&proxy), 0.0);

    let hit = proxy.send(&Ask::chat(PARAPHRASE)).await;
    assert_eq!((hit.x_cache(), detail(&hit).as_str()), ("HIT", "semantic"));
    assert_eq!(labels(&proxy), 0.0, "a hit alone says nothing");
    let answer = forwarded(&proxy, &anew(PARAPHRASE)).await;
    assert_eq!(detail(&answer), "no_cache");
    assert_eq!(labels(&proxy), 1.0, "asking anew after it does");
    forwarded(&proxy, &anew(PARAPHRASE)).await;
    assert_eq!(labels(&proxy), 1.0, "once");
    assert_eq!(proxy.house().cache.verdict_report().wrong_hits[0].audited, 0.0, "it is no audit");
    let believed = explained(&proxy, OTHER_PARAPHRASE).await.verdict.unwrap().decision.alpha;
    proxy.stop().await;
    believed
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_anew_right_after_a_hit_is_a_label() {
    let (agreed, differed) = (retried("Press reset.").await, retried("Call support.").await);
    assert!(agreed > differed, "{agreed} {differed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_anew_without_a_hit_before_is_no_label() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).with_the_real_model(&folder).open().await;
    forwarded(&proxy, &Ask::chat(QUESTION)).await;
    let anew = |question: &str| Ask::chat(question).header("cache-control", "no-cache");
    for ask in [anew(PARAPHRASE), anew(QUESTION)] {
        forwarded(&proxy, &ask).await;
    }
    // An exact repeat was no judgement of similarity.
    assert_eq!(detail(&proxy.send(&Ask::chat(QUESTION)).await), "exact");
    forwarded(&proxy, &anew(QUESTION)).await;
    assert_eq!(labels(&proxy), 0.0);
    proxy.stop().await;
}

/// Three keys of one answer: its own, one that was learned, one too close to be worth a vector.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_mark_on_any_key_takes_all_of_them_out_of_every_tier() {
    const ASKED: [&str; 3] = [
        QUESTION,
        "My password is gone, what are the steps to a reset?",
        "How do I reset my password",
    ];
    for marked in 0..ASKED.len() {
        let folder = tempfile::tempdir().unwrap();
        let origin =
            Origin::start(|_, _| Reply::json(talk::whole("Press the red button twice.", "stop")))
                .await;
        // Every question is forwarded and compared.
        let setup = Setup::new(&origin).with("cache.semantic.mode = \"shadow\"");
        let proxy = setup.with_the_real_model(&folder).open().await;
        let mut keys: Vec<EntryId> = vec![];
        for question in ASKED {
            let answer = forwarded(&proxy, &Ask::chat(question)).await;
            keys.push(answer.header("x-reprise-entry").parse().unwrap());
        }
        let gone = proxy.house().cache.mark(keys[marked], Mark::Wrong).await.unwrap();
        assert!(gone.is_some_and(|gone| gone > 0), "{gone:?}");
        for (question, key) in ASKED.iter().zip(&keys) {
            assert!(proxy.house().cache.entry(*key).await.unwrap().is_none(), "{question}");
            let exact = Ask::chat(question).header("cache-control", "only-if-cached");
            assert_eq!(proxy.send(&exact).await.status, 504, "{question}");
        }
        let near = explained(&proxy, PARAPHRASE).await.near;
        assert!(near.is_empty(), "{} keys left in the store", near.len());
        proxy.stop().await;
    }
}
