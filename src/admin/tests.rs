//! The admin listener over real connections, in front of a shelf of answers: metrics, statistics, events, the page.

mod entries;
mod lifecycle;

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
