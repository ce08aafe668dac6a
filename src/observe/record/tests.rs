use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;

use super::*;
use crate::{
    config::LogFormat,
    observe::{
        AccessLog, PriceTable, Settings,
        log::tests::{config, written},
        tests::observer,
    },
};

fn begin(observer: &Arc<Observer>) -> RecordGuard {
    observer.begin(observer.request_id(&HeaderMap::new()))
}

/// The access records that `say` leaves, as JSON.
fn access(say: impl FnOnce()) -> Vec<Value> {
    let log = written(&config(LogFormat::Json, "info", true), say);
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_is_dropped_counts_once_as_a_client_that_left() {
    let observer = observer();
    let guard = begin(&observer);
    assert_eq!(observer.requests(Outcome::Error), 0);
    let lines = access(|| drop(guard));
    assert_eq!(observer.requests(Outcome::Error), 1);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["end"], "client_left");
    assert_eq!(lines[0]["outcome"], "error");
    assert!(lines[0].get("status").is_none(), "there was no head: {}", lines[0]);
}

#[tokio::test(start_paused = true)]
async fn finishing_counts_once_too() {
    let observer = observer();
    let mut guard = begin(&observer);
    guard.outcome = Outcome::HitExact;
    let lines = access(|| guard.finish(BodyEnd::Complete));
    assert_eq!(observer.requests(Outcome::HitExact), 1);
    assert_eq!(observer.requests(Outcome::Error), 0);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["end"], "complete");
}

#[tokio::test(start_paused = true)]
async fn the_task_of_a_client_that_leaves_is_aborted_and_still_accounted_for() {
    let observer = observer();
    let mut guard = begin(&observer);
    let task = tokio::spawn(async move {
        guard.outcome = Outcome::Miss;
        std::future::pending::<()>().await;
    });
    tokio::task::yield_now().await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(observer.requests(Outcome::Miss), 1);
}

#[tokio::test(start_paused = true)]
async fn a_record_says_everything_that_is_known() {
    let observer = observer();
    let mut guard = begin(&observer);
    guard.route = observer.route("vllm", "openai");
    guard.method = Method::POST;
    guard.path = "/v1/chat/completions".into();
    guard.outcome = Outcome::HitSemantic;
    guard.verdict = Some("serve");
    guard.tenant = Some("0123abcd".into());
    guard.model = Some("m\n1".into());
    guard.entry = Some(EntryId(0xff));
    guard.similarity = Some(0.5);
    guard.shape = Some("stream");
    guard.bytes_in = 10;
    guard.tokens_saved = 33;
    guard.upstream_saved = Duration::from_millis(1500);
    guard.replica = Some("http://127.0.0.1:8000".into());
    tokio::time::advance(Duration::from_micros(1700)).await;
    guard.stages.lap(Stage::Embed);
    guard.head(StatusCode::OK);
    tokio::time::advance(Duration::from_millis(2)).await;
    guard.sent(100);
    tokio::time::advance(Duration::from_millis(3)).await;
    guard.sent(11);
    let lines = access(|| guard.finish(BodyEnd::Complete));
    let line = &lines[0];
    let expected = serde_json::json!({
        "target": "access", "level": "INFO", "route": "vllm", "dialect": "openai",
        "method": "POST", "path": "/v1/chat/completions", "status": 200,
        "outcome": "hit_semantic", "verdict": "serve", "end": "complete", "tenant": "0123abcd",
        "model": "m\n1", "entry": "000000000000000000000000000000ff", "similarity": 0.5,
        "shape": "stream", "replica": "http://127.0.0.1:8000", "bytes_in": 10, "bytes_out": 111,
        "tokens_saved": 33, "upstream_saved_ms": 1500.0, "first_token_ms": 3.7, "embed_ms": 1.7,
        "body_ms": 5.0, "other_ms": 0.0, "total_ms": 6.7,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&line[name], value, "{name}");
    }
    let unknown: std::collections::BTreeSet<_> = line
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| !expected.as_object().unwrap().contains_key(*name))
        .collect();
    assert!(
        unknown.into_iter().eq(["request_id", "timestamp"]),
        "what is not known is left out: {line}"
    );
}

#[tokio::test(start_paused = true)]
async fn prompt_text_is_dropped_unless_configured() {
    let text: Arc<str> = "my secret question".into();
    let told = |prompts| {
        let observer = Observer::new(Settings {
            prompts,
            access: AccessLog::Written,
            reasons: &[],
            verdicts: &[],
            prices: PriceTable::default(),
        })
        .unwrap();
        let mut guard = begin(&observer);
        guard.prompt(&text);
        access(|| drop(guard)).remove(0)
    };
    assert_eq!(told(Prompts::Shown)["prompt"], "my secret question");
    assert!(!told(Prompts::Withheld).to_string().contains("secret"));
}

#[tokio::test(start_paused = true)]
async fn a_long_path_is_cut_at_a_character() {
    let observer = observer();
    let mut guard = begin(&observer);
    guard.path = "é".repeat(1000);
    let lines = access(|| drop(guard));
    assert_eq!(lines[0]["path"].as_str().unwrap().len(), MAX_TEXT);
}
