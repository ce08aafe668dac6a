//! A language model as judge, beside the whole proxy: what is served hangs on it.

use std::net::SocketAddr;

use reprise::cache::{JudgeReport, judge::llm::PROBES, verdict::Agreement};
use serde_json::Value;

use crate::{
    client::Ask,
    origin::{Origin, Reply, Seen},
    proxy::{Proxy, Setup},
    talk,
};

/// Says something that no cheaper judge can compare: the model has no token for the sign in it.
fn undecided(_: &Seen, call: usize) -> Reply {
    Reply::json(talk::whole(
        &format!("Call {call} says: look at the front page \u{16a0}\u{16a2}"),
        "stop",
    ))
}

/// Knows the probes and calls everything else the same.
fn honest(seen: &Seen, _: usize) -> Reply {
    let request: Value = serde_json::from_slice(&seen.body).unwrap();
    let texts = request["messages"][1]["content"].as_str().unwrap();
    let texts: Value = serde_json::from_str(texts).unwrap();
    let differs = PROBES.iter().any(|probe| {
        probe.truth == Agreement::Different
            && texts["answer_1"] == probe.stored
            && texts["answer_2"] == probe.fresh
    });
    Reply::json(talk::whole(if differs { "different" } else { "same" }, "stop"))
}

fn yes(_: &Seen, _: usize) -> Reply {
    Reply::json(talk::whole("Yes, the same.", "stop"))
}

/// A proxy with the real embedding model, every would-be hit audited, and a judge at this address.
async fn beside(judge: SocketAddr, origin: &Origin, folder: &tempfile::TempDir) -> Proxy {
    let setup = Setup::new(origin)
        .with(&format!("cache.semantic.judge.url = \"http://{judge}/v1\""))
        .with("cache.semantic.judge.model = \"judge\"")
        .with("cache.semantic.audit = 1.0");
    let proxy = setup.with_the_real_model(folder).open().await;
    proxy.send(&Ask::chat("How do I reset my password?")).await;
    proxy.written(1).await;
    proxy
}

/// Asks the question in other plain words, and waits until it was learned from.
async fn again(proxy: &Proxy, round: usize) {
    let politeness = ["please, ", "", "hello, ", "hi, ", "so, "][round % 5];
    let question = format!("{politeness}how can I reset my password{}", "?".repeat(1 + round / 5));
    let written = proxy.house().cache.writes().written;
    let answer = proxy.send(&Ask::chat(&question)).await;
    if answer.x_cache() == "MISS" {
        proxy.written(written + 1).await;
    }
}

fn judge(proxy: &Proxy) -> JudgeReport {
    proxy.house().cache.verdict_report().judge.unwrap()
}

/// What becomes of a plain paraphrase of a question that was never asked before.
async fn a_plain_paraphrase(proxy: &Proxy) -> String {
    let written = proxy.house().cache.writes().written;
    proxy.send(&Ask::chat("How do I bake good bread?")).await;
    proxy.written(written + 1).await;
    let answer = proxy.send(&Ask::chat("How can I bake good bread?")).await;
    answer.cache_status().detail.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_judges_words_become_labels() {
    let folder = tempfile::tempdir().unwrap();
    let (origin, server) = (Origin::start(undecided).await, Origin::start(honest).await);
    let proxy = beside(server.address, &origin, &folder).await;
    for round in 0..6 {
        again(&proxy, round).await;
    }
    let report = proxy.house().cache.verdict_report();
    let (rate, judge) = (&report.wrong_hits[0], report.judge.unwrap());
    assert_eq!(judge.state, "sound");
    assert!(judge.judged_total > 0 && judge.false_acceptances < 0.05, "{judge:?}");
    assert!(rate.audited > 0.0 && rate.point == 0.0, "{rate:?}");
    assert!(server.calls() >= 9, "eight probes and a case");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_that_always_says_yes_ends_serving_before_it_teaches() {
    let folder = tempfile::tempdir().unwrap();
    let (origin, server) = (Origin::start(undecided).await, Origin::start(yes).await);
    let proxy = beside(server.address, &origin, &folder).await;
    let mut round = 0;
    while judge(&proxy).state == "probation" {
        again(&proxy, round).await;
        round += 1;
        assert!(round < 4, "its first case, of which two may be hits that are never audited");
    }
    assert_eq!((judge(&proxy).state, judge(&proxy).judged_total), ("unsound", 0));
    assert_eq!(proxy.house().cache.verdict_report().wrong_hits[0].audited, 0.0);
    assert_eq!(a_plain_paraphrase(&proxy).await, "suspended");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_judge_ends_serving_within_ten_judgements() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(undecided).await;
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let proxy = beside(address, &origin, &folder).await;
    let mut round = 0;
    while judge(&proxy).state != "silent" {
        again(&proxy, round).await;
        round += 1;
        assert!(
            round < 13,
            "two hits are never audited, ten judgements end it: {:?}",
            judge(&proxy)
        );
    }
    assert_eq!(a_plain_paraphrase(&proxy).await, "suspended");
    proxy.stop().await;
}
