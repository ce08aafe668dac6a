//! The judge against a real HTTP server that says what a test wants.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Json, Router, extract::State as Shared, http::StatusCode, routing::post};
use serde_json::Value;

use super::*;

/// What the server does with a request.
#[derive(Clone, Copy)]
enum Mood {
    /// Knows the probes, and calls everything else the same.
    Honest,
    Yes,
    Refuses,
    Stalls,
}

#[derive(Clone)]
struct Server {
    mood: Arc<Mutex<Mood>>,
    calls: Arc<AtomicUsize>,
    bodies: Arc<Mutex<Vec<Value>>>,
    url: String,
}

impl Server {
    async fn start(mood: Mood) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let server = Self {
            mood: Arc::new(Mutex::new(mood)),
            calls: Arc::default(),
            bodies: Arc::default(),
            url,
        };
        let router =
            Router::new().route("/v1/chat/completions", post(answer)).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }
}

async fn answer(
    Shared(server): Shared<Server>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    server.calls.fetch_add(1, Ordering::SeqCst);
    server.bodies.lock().push(body.clone());
    let mood = *server.mood.lock();
    let texts: Value =
        serde_json::from_str(body["messages"][1]["content"].as_str().unwrap()).unwrap();
    let known = PROBES
        .iter()
        .find(|probe| texts["answer_1"] == probe.stored && texts["answer_2"] == probe.fresh);
    let word = match mood {
        Mood::Honest if known.is_some_and(|probe| probe.truth == Agreement::Different) => {
            "different"
        }
        Mood::Honest | Mood::Yes => "Same.",
        Mood::Refuses => return Err(StatusCode::SERVICE_UNAVAILABLE),
        Mood::Stalls => std::future::pending().await,
    };
    Ok(Json(json!({"choices": [{"message": {"role": "assistant", "content": word}}]})))
}

fn judge(server: &Server, deadline: Duration) -> LlmJudge {
    let config = config::Judge {
        url: Some(server.url.clone()),
        model: "judge".into(),
        api_key: Some("k".into()),
        deadline: config::Span(deadline),
        concurrency: 2,
        queue: 1,
    };
    LlmJudge::open(&config).unwrap().unwrap()
}

const CASE: Case<'_> = Case { question: "Why?", fresh: "Since it is.", stored: "It just is." };

#[tokio::test]
async fn an_honest_judge_is_examined_and_heard() {
    let server = Server::start(Mood::Honest).await;
    let judge = judge(&server, Duration::from_secs(20));
    assert_eq!(judge.compare(CASE).await, Some(Agreement::Same));
    assert_eq!(server.calls.load(Ordering::SeqCst), 9, "eight probes go first");
    let last = server.bodies.lock().last().cloned().unwrap();
    assert_eq!((&last["model"], &last["temperature"]), (&json!("judge"), &json!(0)));
    assert_eq!(judge.report(), LlmReport { judged: 1, ..LlmReport::default() });
}

#[tokio::test]
async fn an_always_yes_judge_never_teaches() {
    let server = Server::start(Mood::Yes).await;
    let judge = judge(&server, Duration::from_secs(20));
    for _ in 0..30 {
        assert_eq!(judge.compare(CASE).await, None);
    }
    assert_eq!((judge.state(), judge.report().judged), (State::Unsound, 0));
    *server.mood.lock() = Mood::Honest;
    let mut cases = 0;
    while judge.compare(CASE).await.is_none() {
        cases += 1;
        assert!(cases < 20, "a mended judge is believed again");
    }
}

#[tokio::test]
async fn a_refusing_judge_goes_silent_and_comes_back() {
    let server = Server::start(Mood::Refuses).await;
    let judge = judge(&server, Duration::from_secs(20));
    for _ in 0..10 {
        assert_eq!(judge.compare(CASE).await, None);
    }
    assert_eq!((judge.state(), judge.report().unanswered), (State::Silent, 10));
    *server.mood.lock() = Mood::Honest;
    // Silent asks a pair a case until the examination is whole.
    let mut cases = 0;
    while judge.compare(CASE).await.is_none() {
        cases += 1;
        assert!(cases < 20);
    }
}

#[tokio::test]
async fn a_slow_judge_is_given_up_at_the_deadline_and_a_full_queue_drops() {
    let server = Server::start(Mood::Stalls).await;
    let judge = Arc::new(judge(&server, Duration::from_millis(300)));
    let begun = std::time::Instant::now();
    let cases: Vec<_> = (0..6)
        .map(|_| {
            tokio::spawn({
                let judge = judge.clone();
                async move { judge.compare(CASE).await }
            })
        })
        .collect();
    for case in cases {
        assert_eq!(case.await.unwrap(), None);
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
    let report = judge.report();
    assert!(report.unanswered >= 1, "{report:?}");
    assert_eq!(report.judged, 0);
    // Three places: two that run and one that waits.
    let held: Vec<_> = (0..3).map(|_| judge.places.try_acquire().unwrap()).collect();
    assert_eq!(judge.compare(CASE).await, None);
    assert_eq!(judge.report().dropped, report.dropped + 1);
    drop(held);
}

#[test]
fn long_answers_are_cut_in_the_middle() {
    let long = "ä".repeat(10_000);
    let cut = clipped(&long);
    assert!(cut.len() < 2 * SIDE_BYTES + 16 && cut.contains("[...]"));
    assert_eq!(clipped("short"), "short");
}
