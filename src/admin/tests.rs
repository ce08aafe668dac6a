use std::{collections::BTreeMap, net::SocketAddr};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    cache::Mark,
    fault::{Fault, Kind},
    observe::{AccessLog, PriceTable, Prompts, Settings, tests::Rooms},
    store::{EntryId, Selector, StoreFault},
};

/// A cache of one tier.
#[derive(Default)]
struct Shelf {
    views: Mutex<BTreeMap<EntryId, EntryView>>,
    broken: bool,
}

impl Entries for Shelf {
    fn get(&self, id: EntryId) -> BoxFuture<'_, Result<Option<EntryView>, StoreFault>> {
        let found = match self.broken {
            true => Err(StoreFault::Unavailable("no disk".into())),
            false => Ok(self.views.lock().get(&id).cloned()),
        };
        Box::pin(std::future::ready(found))
    }

    fn delete(&self, id: EntryId) -> BoxFuture<'_, Result<u64, StoreFault>> {
        let removed = self.views.lock().remove(&id).map_or(0, |_| 1);
        Box::pin(std::future::ready(Ok(removed)))
    }

    fn mark(&self, id: EntryId, mark: Mark) -> BoxFuture<'_, Result<Option<u64>, StoreFault>> {
        let mut views = self.views.lock();
        let known = views.contains_key(&id).then_some(0);
        let marked = match mark {
            Mark::Right => known,
            Mark::Wrong => views.remove(&id).map(|_| 1),
        };
        Box::pin(std::future::ready(Ok(marked)))
    }

    fn purge(&self, selector: Selector, mode: PurgeMode) -> BoxFuture<'_, Result<u64, StoreFault>> {
        let mut views = self.views.lock();
        let before = views.len();
        let meant = |view: &EntryView| match &selector {
            Selector::All => true,
            Selector::Model(model) => view.model == *model,
            other => panic!("{other:?}"),
        };
        let kept: BTreeMap<_, _> =
            views.clone().into_iter().filter(|(_, view)| !meant(view)).collect();
        let count = before - kept.len();
        if mode == PurgeMode::Delete {
            *views = kept;
        }
        Box::pin(std::future::ready(Ok(count as u64)))
    }

    fn explain(&self, _: SocketAddr, asked: Question) -> BoxFuture<'_, Result<Explained, Fault>> {
        let near = Nearest { question: Some("my secret question".into()), ..Nearest::default() };
        let told = match asked.body.is_empty() {
            true => Err(Fault::new(Kind::BadRequest, "no body")),
            false => Ok(Explained {
                outcome: "miss".into(),
                // What it was asked, so that the test sees it.
                route: format!("{} {:?}", asked.target, asked.headers.get("authorization")),
                question: Some("my secret question".into()),
                nearest: vec![near],
                ..Explained::default()
            }),
        };
        Box::pin(std::future::ready(told))
    }
}

struct Setup {
    prompts: Prompts,
    token: Option<&'static str>,
    broken: bool,
}

const PLAIN: Setup = Setup { prompts: Prompts::Withheld, token: None, broken: false };
const ID: &str = "000000000000000000000000000000ab";

/// A running admin listener.
struct Listener {
    address: SocketAddr,
    health: Arc<Health>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Listener {
    async fn start(setup: Setup) -> Self {
        let observer = Observer::new(Settings {
            prompts: setup.prompts,
            access: AccessLog::Silent,
            reasons: &[],
            verdicts: &[],
            prices: PriceTable::default(),
        })
        .unwrap();
        let shelf = Shelf { broken: setup.broken, ..Default::default() };
        let view = EntryView {
            id: ID.into(),
            tier: "memory",
            model: "m".into(),
            question: Some("my secret question".into()),
            ..Default::default()
        };
        shelf.views.lock().insert(ID.parse().unwrap(), view);
        let health = Arc::new(Health::new());
        let admin = Admin::new(
            observer,
            Arc::new(Rooms),
            Arc::clone(&health),
            Arc::new(shelf),
            setup.token,
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, admin, stop.clone()));
        Self { address, health, stop, task }
    }

    /// One request over a connection of its own: status, head, body.
    async fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }

    async fn post(&self, path: &str, body: &str, headers: &str) -> (u16, Value) {
        let length = body.len();
        let headers = format!(
            "content-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        let (status, _, body) = self.ask("POST", path, &headers).await;
        (status, serde_json::from_str(&body).unwrap())
    }

    /// Opens the stream of events.
    async fn watch(&self) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!("GET /api/v1/events HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        stream.write_all(head.as_bytes()).await.unwrap();
        BufReader::new(stream)
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.ask("GET", path, "").await;
        (status, body)
    }
}

fn code(body: &str) -> String {
    let error: Value = serde_json::from_str(body).unwrap();
    error["error"]["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn readiness_follows_the_life_of_the_process() {
    let admin = Listener::start(PLAIN).await;
    admin.health.set("embedder", Part::Starting);
    assert_eq!(admin.get("/livez").await, (200, "ok\n".into()));
    assert_eq!(admin.get("/readyz").await, (503, "starting: embedder\n".into()));
    admin.health.set("embedder", Part::Degraded("no model at assets/".into()));
    admin.health.set("store", Part::Ok);
    admin.health.enter(Phase::Serving);
    assert_eq!(admin.get("/readyz").await, (200, "ok\n".into()));
    let (status, text) = admin.get("/readyz?verbose").await;
    assert_eq!(status, 200);
    assert!(text.contains("[+]store ok\n"), "{text}");
    assert!(text.contains("[-]embedder: degraded"), "{text}");
    admin.health.enter(Phase::Draining);
    let (status, text) = admin.get("/readyz?verbose=1").await;
    assert_eq!(status, 503);
    assert!(text.starts_with("[-]process draining\n"), "{text}");
}

#[tokio::test]
async fn before_the_rooms_are_open_health_is_answered_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (health, opened) = (Arc::new(Health::new()), CancellationToken::new());
    health.set("embedder", Part::Starting);
    let task = tokio::spawn(starting(listener, Arc::clone(&health), opened.clone()));
    let ask = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    assert!(ask("/livez").await.starts_with("HTTP/1.1 200"));
    let ready = ask("/readyz").await;
    assert!(
        ready.starts_with("HTTP/1.1 503") && ready.ends_with("starting: embedder\n"),
        "{ready}"
    );
    let stats = ask("/api/v1/stats").await;
    assert!(stats.starts_with("HTTP/1.1 503") && stats.contains("\"starting\""), "{stats}");
    opened.cancel();
    let listener = task.await.unwrap();
    assert_eq!(listener.local_addr().unwrap(), address, "the same port goes on");
}

#[tokio::test]
async fn metrics_are_in_prometheus_text_format() {
    let admin = Listener::start(PLAIN).await;
    let (status, head, body) = admin.ask("GET", "/metrics", "").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(head.contains("cache-control: no-store"), "{head}");
    assert!(body.contains("# TYPE reprise_requests_total counter"), "{body}");
}

#[tokio::test]
async fn statistics_are_json() {
    let admin = Listener::start(PLAIN).await;
    let (status, body) = admin.get("/api/v1/stats").await;
    assert_eq!(status, 200);
    let stats: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(stats["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(stats["memory"]["entries"], 3);
}

#[tokio::test]
async fn what_is_not_there_is_said_in_json() {
    let admin = Listener::start(PLAIN).await;
    let (status, body) = admin.get("/nope").await;
    assert_eq!((status, code(&body)), (404, "not_found".into()));
    let (status, head, body) = admin.ask("DELETE", "/metrics", "").await;
    assert_eq!((status, code(&body)), (405, "method_not_allowed".into()));
    assert!(head.contains("allow: get"), "{head}");
}

#[tokio::test]
async fn an_entry_is_shown_without_its_prompt_and_deleted_once() {
    let admin = Listener::start(PLAIN).await;
    let path = format!("/api/v1/entries/{ID}");
    let (status, body) = admin.get(&path).await;
    assert_eq!(status, 200);
    assert!(body.contains("\"model\":\"m\"") && !body.contains("secret"), "{body}");
    let (status, _, body) = admin.ask("DELETE", &path, "").await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["removed"], 1);
    let (status, _, body) = admin.ask("DELETE", &path, "").await;
    assert_eq!((status, code(&body)), (404, "no_entry".into()));
    let (status, body) = admin.get(&path).await;
    assert_eq!((status, code(&body)), (404, "no_entry".into()));
}

#[tokio::test]
async fn a_bad_id_is_a_bad_request() {
    let admin = Listener::start(PLAIN).await;
    let (status, body) = admin.get("/api/v1/entries/nonsense").await;
    assert_eq!((status, code(&body)), (400, "bad_request".into()));
}

#[tokio::test]
async fn a_store_that_cannot_answer_is_503_with_its_reason() {
    let admin = Listener::start(Setup { broken: true, ..PLAIN }).await;
    let (status, body) = admin.get(&format!("/api/v1/entries/{ID}")).await;
    assert_eq!((status, code(&body)), (503, "store_unavailable".into()));
    assert!(body.contains("no disk"), "{body}");
}

#[tokio::test]
async fn prompt_text_is_for_those_who_may_write_where_configured() {
    let admin =
        Listener::start(Setup { prompts: Prompts::Shown, token: Some("t0ken"), ..PLAIN }).await;
    let path = format!("/api/v1/entries/{ID}");
    let (status, body) = admin.get(&path).await;
    assert!(status == 200 && !body.contains("secret"), "{body}");
    let (status, _, body) = admin.ask("GET", &path, "authorization: Bearer t0ken\r\n").await;
    assert!(status == 200 && body.contains("my secret question"), "{body}");
}

#[tokio::test]
async fn writing_needs_the_token_where_there_is_one() {
    let admin = Listener::start(Setup { token: Some("t0ken"), ..PLAIN }).await;
    let path = format!("/api/v1/entries/{ID}");
    let (status, head, body) = admin.ask("DELETE", &path, "").await;
    assert_eq!((status, code(&body)), (401, "token_needed".into()));
    assert!(head.contains("www-authenticate: bearer"), "{head}");
    let (status, _, body) = admin.ask("DELETE", &path, "authorization: Bearer no\r\n").await;
    assert_eq!((status, code(&body)), (401, "token_wrong".into()));
    let cross = "authorization: Bearer t0ken\r\norigin: http://evil.example\r\n";
    let (status, _, body) = admin.ask("DELETE", &path, cross).await;
    assert_eq!((status, code(&body)), (403, "cross_site".into()));
    let (status, _, _) = admin.ask("DELETE", &path, "authorization: Bearer t0ken\r\n").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn stopping_closes_the_port_and_idle_connections() {
    let admin = Listener::start(PLAIN).await;
    let mut idle = TcpStream::connect(admin.address).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    admin.stop.cancel();
    admin.task.await.unwrap();
    assert!(TcpStream::connect(admin.address).await.is_err());
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_half_sent_head_does_not_hold_up_the_stop() {
    let admin = Listener::start(PLAIN).await;
    let mut slow = TcpStream::connect(admin.address).await.unwrap();
    slow.write_all(b"GET /liv").await.unwrap();
    // A whole exchange behind it: the listener has accepted both.
    assert_eq!(admin.get("/livez").await.0, 200);
    admin.stop.cancel();
    admin.task.await.unwrap();
}

#[tokio::test]
async fn a_purge_counts_before_it_deletes() {
    let admin = Listener::start(PLAIN).await;
    let none = serde_json::json!({"dry_run": true, "entries": 0});
    assert_eq!(admin.post("/api/v1/purge", r#"{"model":"x","dry_run":true}"#, "").await.1, none);
    let (status, found) = admin.post("/api/v1/purge", r#"{"model":"m","dry_run":true}"#, "").await;
    assert_eq!((status, &found["entries"]), (200, &1.into()));
    let path = format!("/api/v1/entries/{ID}");
    assert_eq!(admin.get(&path).await.0, 200, "counting deletes nothing");
    let (_, gone) = admin.post("/api/v1/purge", r#"{"all":true}"#, "").await;
    assert_eq!(gone, serde_json::json!({"dry_run": false, "entries": 1}));
    assert_eq!(admin.get(&path).await.0, 404);
}

#[tokio::test]
async fn a_purge_that_cannot_be_read_deletes_nothing() {
    let admin = Listener::start(Setup { token: Some("t0ken"), ..PLAIN }).await;
    let token = "authorization: Bearer t0ken\r\n";
    for body in ["", "{", "[]", r#"{"model":1}"#, r#"{"moddel":"m"}"#, "{}"] {
        let (status, answer) = admin.post("/api/v1/purge", body, token).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &"bad_request".into()), "{body}");
    }
    let (status, _) = admin.post("/api/v1/purge", r#"{"all":true}"#, "").await;
    assert_eq!(status, 401);
    assert_eq!(admin.get(&format!("/api/v1/entries/{ID}")).await.0, 200);
}

#[tokio::test]
async fn a_mark_names_an_entry_and_needs_the_right_to_write() {
    let admin = Listener::start(Setup { token: Some("t0ken"), ..PLAIN }).await;
    let token = "authorization: Bearer t0ken\r\n";
    let said = |id: &str, correct: bool| format!("{{\"entry\":\"{id}\",\"correct\":{correct}}}");
    let (status, _) = admin.post("/api/v1/feedback", &said(ID, false), "").await;
    assert_eq!(status, 401);
    for body in ["", "{}", &said("x", false), r#"{"entry":"00","correct":1}"#] {
        assert_eq!(admin.post("/api/v1/feedback", body, token).await.0, 400, "{body}");
    }
    let right = admin.post("/api/v1/feedback", &said(ID, true), token).await;
    assert_eq!((right.0, &right.1["removed"]), (200, &0.into()));
    let wrong = admin.post("/api/v1/feedback", &said(ID, false), token).await;
    assert_eq!((wrong.0, &wrong.1["removed"]), (200, &1.into()));
    assert_eq!(admin.post("/api/v1/feedback", &said(ID, false), token).await.0, 404);
}

#[tokio::test]
async fn a_watcher_gets_the_statistics_as_events_and_is_sent_home_at_the_end() {
    let admin = Listener::start(PLAIN).await;
    let mut events = admin.watch().await;
    let mut line = String::new();
    while !line.starts_with("data:") {
        line.clear();
        events.read_line(&mut line).await.unwrap();
    }
    let live: Value = serde_json::from_str(line.strip_prefix("data:").unwrap()).unwrap();
    assert_eq!(live["stats"]["memory"]["entries"], 3);
    assert_eq!(live["outcomes"][0], "hit_exact");
    admin.stop.cancel();
    let mut rest = Vec::new();
    events.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "the stream ends as a stream should");
    admin.task.await.unwrap();
}

#[tokio::test]
async fn watchers_are_bounded() {
    let admin = Listener::start(PLAIN).await;
    let mut watchers = Vec::new();
    for _ in 0..events::MAX_WATCHERS {
        let mut events = admin.watch().await;
        let mut line = String::new();
        events.read_line(&mut line).await.unwrap();
        assert!(line.contains("200"), "{line}");
        watchers.push(events);
    }
    let (status, body) = admin.get("/api/v1/events").await;
    assert_eq!((status, code(&body)), (503, "too_many_watchers".into()));
}

#[tokio::test]
async fn the_page_may_run_its_own_script_only() {
    let admin = Listener::start(PLAIN).await;
    let (status, head, body) = admin.ask("GET", "/", "").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/html; charset=utf-8"), "{head}");
    let nonce = head.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert!(head.contains("default-src 'none'") && nonce.len() == 16, "{head}");
    assert!(body.contains(&format!("<script nonce=\"{nonce}\">")));
    let (_, again, _) = admin.ask("GET", "/", "").await;
    assert!(!again.contains(nonce), "a nonce is used once");
}

#[tokio::test]
async fn an_explanation_is_asked_for_with_the_clients_own_words() {
    let listener = Listener::start(PLAIN).await;
    let path = "/api/v1/explain?path=/v1/chat/completions%3Fx=1";
    let client = "x-client-authorization: Bearer alice\r\n";
    let (status, told) = listener.post(path, "{}", client).await;
    assert_eq!(status, 200, "{told}");
    assert_eq!(told["route"], "/v1/chat/completions?x=1 Some(\"Bearer alice\")");
    assert!(!told.to_string().contains("secret"), "{told}");
    let (status, told) = listener.post("/api/v1/explain", "{}", "").await;
    assert_eq!((status, told["route"].as_str()), (200, Some("/v1/chat/completions None")));
    for (path, body) in [
        ("/api/v1/explain", ""),
        ("/api/v1/explain?path=chat", "{}"),
        ("/api/v1/explain?way=/v1", "{}"),
    ] {
        let (status, told) = listener.post(path, body, "").await;
        assert_eq!(status, 400, "{path}: {told}");
    }
    let shown = Listener::start(Setup { prompts: Prompts::Shown, ..PLAIN }).await;
    let (_, told) = shown.post("/api/v1/explain", "{}", "").await;
    assert_eq!(told["nearest"][0]["question"], "my secret question");
    let locked = Listener::start(Setup { token: Some("t"), ..PLAIN }).await;
    assert_eq!(locked.post("/api/v1/explain", "{}", "").await.0, 401);
}
