//! Explanations say what happens next, and leave no trace.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::HeaderMap;
use reprise::{
    cache::{HitKind, Tier, explain::Explanation, reason::Reason},
    exchange::{Asked, Told},
    front::{Origin as Side, Peer},
};

use crate::{
    client::{Ask, CHAT},
    origin::Origin,
    proxy::{Proxy, Setup},
    talk,
    words::Words,
};

async fn told(proxy: &Proxy, ask: &Ask) -> Told {
    let mut headers = HeaderMap::new();
    for (name, value) in &ask.headers {
        let name: http::HeaderName = name.parse().unwrap();
        headers.append(name, value.parse().unwrap());
    }
    let peer = Peer { origin: Side::Tcp(([127, 0, 0, 1], 1).into()), tls: None };
    let body: Bytes = ask.body.clone();
    let asked = Asked { target: ask.target.parse().unwrap(), headers, body };
    proxy.house().explain(peer, asked).await.unwrap()
}

async fn explained(proxy: &Proxy, ask: &Ask) -> Explanation {
    told(proxy, ask).await.cache.unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_says_what_happens_next_and_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let words = Words::new();
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).semantic_by(&folder, &words).open().await;
    let asked = Ask::chat("how do I reset my password");
    let near = Ask::chat("my password how do I reset");

    for _ in 0..3 {
        let before = explained(&proxy, &asked).await;
        assert_eq!(before.outcome, Some(Err(Reason::NoNeighbour)));
        assert!(before.exact.is_none() && before.near.is_empty());
    }
    assert_eq!((origin.calls(), proxy.finished()), (0, 0));
    assert_eq!(proxy.house().cache.memory(), (0, 0));
    assert_eq!(words.texts.load(Ordering::SeqCst), 3, "only the explanations' own embeddings");

    let first = proxy.send(&asked).await;
    proxy.written(1).await;
    let exact = explained(&proxy, &asked).await;
    assert_eq!(exact.outcome, Some(Ok(HitKind::Exact)));
    let (entry, tier, acceptable) = exact.exact.unwrap();
    assert_eq!((tier, acceptable), (Tier::Memory, Ok(())));
    assert_eq!(entry.id.to_string(), first.header("x-reprise-entry"));

    let by_meaning = explained(&proxy, &near).await;
    let Some(Ok(HitKind::Semantic { similarity })) = by_meaning.outcome else { panic!("a miss") };
    assert!(similarity > 0.999);
    assert_eq!(by_meaning.answer, Some(entry.id));
    // Guards are off here; what they would have found is shown all the same.
    assert_eq!(by_meaning.near.len(), 1);
    let standing = by_meaning.verdict.unwrap();
    assert!(standing.guards.is_empty() && standing.line.is_some());
    assert!(proxy.send(&near).await.cache_status().hit, "and so it is");

    let finished = proxy.finished();
    let stranger = explained(&proxy, &near.clone().header("authorization", "Bearer bob")).await;
    assert_eq!(stranger.outcome, Some(Err(Reason::NoNeighbour)), "another's answers are not shown");
    assert!(stranger.near.is_empty() && stranger.exact.is_none());
    let own = near.clone().header("x-reprise-mode", "exact");
    assert_eq!(explained(&proxy, &own).await.outcome, Some(Err(Reason::ModeExact)));
    let fresh = asked.clone().header("cache-control", "no-cache");
    assert_eq!(explained(&proxy, &fresh).await.outcome, Some(Err(Reason::NoCache)));
    let strict = near.header("x-reprise-min-similarity", "1");
    let strict = explained(&proxy, &strict).await;
    assert!(matches!(strict.outcome, Some(Ok(_) | Err(Reason::BelowSimilarity))));
    assert_eq!((origin.calls(), proxy.finished()), (1, finished));
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cache_has_no_part_in_is_explained_too() {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).open().await;
    let ask = Ask::chat("how do I reset my password");
    let elsewhere = Ask { target: "/v1/models".into(), ..ask.clone() };
    assert_eq!(told(&proxy, &elsewhere).await.cache.err(), Some(Reason::NotCacheable));
    let unreadable = Ask { body: "{".into(), ..ask.clone() };
    assert_eq!(told(&proxy, &unreadable).await.cache.err(), Some(Reason::Unreadable));
    let off = ask.clone().header("x-reprise-mode", "off");
    let off = told(&proxy, &off).await;
    assert_eq!((off.cache.err(), off.model.as_deref()), (Some(Reason::ModeOff), Some("m")));
    let memory_alone = told(&proxy, &ask).await;
    assert_eq!(memory_alone.question.as_deref(), Some("how do I reset my password"));
    let (key, explanation) = memory_alone.cache.unwrap();
    assert_eq!(explanation.outcome, Some(Err(Reason::SemanticOff)));
    let answered = proxy.send(&Ask { target: CHAT.into(), ..ask }).await;
    assert_eq!(key.id.to_string(), answered.header("x-reprise-entry"), "the same key");
}
