//! Two proxies on one real Milvus (`scripts/test-milvus` starts it).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use reprise::{
    cache::Mark,
    embed::Embedder as _,
    store::{
        EntryId, Quantization, Selector, VectorStore,
        collection::Collection,
        meta::Meta,
        milvus::{Milvus, MilvusOptions},
        remote::{Address, Limits, Shield},
    },
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use crate::{
    client::Ask,
    origin::{Origin, Reply},
    proxy::{Proxy, Setup, eventually, patiently},
    talk,
    words::Words,
};

/// What every replica sees of a purge or a mark, at the latest.
const PURGED_WITHIN: Duration = Duration::from_secs(2);

/// What a look at a replica counts at most: where the machine stands still, nothing is late by itself.
const LOOK: Duration = Duration::from_millis(50);

/// What no machine explains, however slow each look is.
const LOOKED_FOR: Duration = Duration::from_secs(30);

/// A clock that runs between looks, each of which counts no more than [`LOOK`].
struct Looks {
    begun: Instant,
    since: Instant,
    spent: Duration,
}

impl Looks {
    fn begin() -> Self {
        let now = Instant::now();
        Self { begun: now, since: now, spent: Duration::ZERO }
    }

    /// In vain so far: fails past [`PURGED_WITHIN`], and waits for a moment.
    async fn again(&mut self, what: &str) {
        self.spent += self.since.elapsed().min(LOOK);
        self.since = Instant::now();
        assert!(self.spent < PURGED_WITHIN && self.begun.elapsed() < LOOKED_FOR, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn server() -> Option<String> {
    std::env::var("REPRISE_TEST_MILVUS").ok().filter(|url| !url.is_empty())
}

fn prefix() -> String {
    let name = tempfile::tempdir().unwrap();
    format!("it {}", name.path().file_name().unwrap().to_string_lossy())
}

async fn store(url: &str, prefix: &str, words: &Words, lookup: Duration) -> Arc<dyn VectorStore> {
    let address =
        Address { url: url.into(), api_key: None, connect_timeout: Duration::from_secs(20) };
    let options = MilvusOptions { replicas: 1, shards: 1, quantization: Quantization::None };
    let open = |collection| Milvus::new(&address, collection, options).unwrap();
    let limits = Limits { lookup, in_flight: 64 };
    let meta_limits = Limits { lookup: Duration::from_secs(20), in_flight: 64 };
    let meta = Shield::new(open(Collection::meta(prefix)), meta_limits, None);
    assert!(meta.ready(Duration::from_secs(120)).await, "{:?}", meta.report().trouble);
    let answers = open(Collection::of(prefix, words.identity()));
    let answers = Shield::new(answers, limits, Some(Meta::new(Arc::new(meta))));
    assert!(answers.ready(Duration::from_secs(120)).await, "{:?}", answers.report().trouble);
    Arc::new(answers)
}

async fn replica(origin: &Origin, url: &str, prefix: &str, words: &Arc<Words>) -> Proxy {
    replica_by("threshold", origin, url, prefix, words).await
}

async fn replica_by(
    policy: &str,
    origin: &Origin,
    url: &str,
    prefix: &str,
    words: &Arc<Words>,
) -> Proxy {
    let store = store(url, prefix, words, Duration::from_secs(20)).await;
    Setup::new(origin)
        .with("cache.semantic.lookup_deadline = \"20s\"\ncache.semantic.guards = []")
        .with(&format!("cache.semantic.policy = \"{policy}\""))
        .keeping(store, words)
        .open()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_proxy_stored_another_hits_and_what_one_purges_is_gone_on_the_other() {
    let Some(url) = server() else { return };
    let (prefix, words) = (prefix(), Words::new());
    let origin = Origin::start(talk::model).await;
    let one = replica(&origin, &url, &prefix, &words).await;
    let other = replica(&origin, &url, &prefix, &words).await;

    let ask = Ask::stream("please tell me all about pelicans slowly").header("x-reprise-tags", "a");
    let first = one.send(&ask).await;
    one.written(1).await;
    let hit = other.send(&ask).await;
    assert_eq!((hit.x_cache(), &hit.body), ("HIT", &first.body));
    let near = Ask::stream("slowly please tell me all about pelicans");
    let hit = other.send(&near).await;
    assert_eq!(hit.cache_status().detail.as_deref(), Some("semantic"));

    // Both have it in memory now.
    let dry = one.house().cache.count(Selector::Tag("a".into())).await.unwrap();
    let gone = one.house().cache.purge(Selector::Tag("a".into())).await.unwrap();
    assert_eq!((dry, gone), (1, 1));
    let mut looks = Looks::begin();
    while other.send(&ask).await.x_cache() == "HIT" {
        looks.again("still there").await;
    }
    other.written(1).await;
    assert_eq!(one.send(&ask).await.x_cache(), "HIT", "what came after a purge stays");
    assert_eq!(origin.calls(), 2);
    one.stop().await;
    other.stop().await;
}

/// What only one replica learned to be a key of an answer goes with it, whoever marks it and wherever it
/// is remembered.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_at_one_proxy_takes_out_what_another_learned_to_say_the_same() {
    let Some(url) = server() else { return };
    let (prefix, words) = (prefix(), Words::new());
    let origin =
        Origin::start(|_, _| Reply::json(talk::whole("Press the red button twice.", "stop"))).await;
    let open = || replica_by("verified", &origin, &url, &prefix, &words);
    let (one, other, third) = (open().await, open().await, open().await);
    let elder = Ask::chat("how do I reset the password of my account");
    // Nine words of ten: another key. The same words: one that is not worth a vector.
    let younger =
        ["how do I reset the password of my mailbox", "of my account how do I reset the password"];
    let younger = younger.map(Ask::chat);

    let id: EntryId = one.send(&elder).await.header("x-reprise-entry").parse().unwrap();
    one.written(1).await;
    for (at, ask) in younger.iter().enumerate() {
        assert_eq!(other.send(ask).await.x_cache(), "MISS", "nothing is believed yet");
        other.written(1 + at as u64).await;
        assert_eq!(third.send(ask).await.x_cache(), "HIT");
    }
    assert!(other.house().cache.verdict_report().wrong_hits[0].labels > 0.0);

    assert!(one.house().cache.mark(id, Mark::Wrong).await.unwrap().is_some());
    let mut looks = Looks::begin();
    for proxy in [&one, &other, &third] {
        for ask in std::iter::once(&elder).chain(&younger) {
            let only = ask.clone().header("cache-control", "only-if-cached");
            while proxy.send(&only).await.status != 504 {
                looks.again("still served").await;
            }
        }
    }
    for proxy in [one, other, third] {
        proxy.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_begins_takes_over_what_a_replica_learned_that_has_stopped() {
    let Some(url) = server() else { return };
    let (prefix, words) = (prefix(), Words::new());
    let origin =
        Origin::start(|_, _| Reply::json(talk::whole("Press the red button twice.", "stop"))).await;
    let labels = |proxy: &Proxy| proxy.house().cache.verdict_report().wrong_hits[0].labels;
    let one = replica_by("verified", &origin, &url, &prefix, &words).await;
    let asked = ["account", "mailbox", "router", "laptop"];
    for (at, thing) in asked.iter().enumerate() {
        one.send(&Ask::chat(&format!("how do I reset the password of my {thing}"))).await;
        one.written(1 + at as u64).await;
    }
    // Three labels of one family in a row: the third counts half.
    let learned = labels(&one);
    assert!(learned >= 2.5, "{learned}");
    one.stop().await;
    let later = replica_by("verified", &origin, &url, &prefix, &words).await;
    eventually("it takes over", || labels(&later) == learned).await;
    later.stop().await;
}

/// A replica that was away writes nothing behind the back of a purge that it has not heard of.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_write_does_not_bring_back_what_was_purged() {
    let Some(url) = server() else { return };
    let (prefix, words) = (prefix(), Words::new());
    let origin = Origin::start(talk::model).await;
    let link = Link::to(&url).await;
    let near = replica(&origin, &url, &prefix, &words).await;
    let away = replica(&origin, &link.url, &prefix, &words).await;
    link.cut();
    away.send(&Ask::chat("why?")).await;
    near.house().cache.purge(Selector::All).await.unwrap();
    link.mend();
    eventually("the answer is dropped", || away.house().cache.writes().purged == 1).await;
    assert_eq!(away.house().cache.writes().written, 0);
    assert_eq!(near.house().cache.count(Selector::All).await, Ok(0));
    let ask = Ask::chat("why?");
    patiently(async { while away.send(&ask).await.x_cache() == "HIT" {} }).await;
    near.stop().await;
    away.stop().await;
}

/// The store behind a cut or silent network: requests go on, one of them pays, and it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_falls_silent_costs_one_deadline_and_comes_back() {
    let Some(url) = server() else { return };
    let (prefix, words) = (prefix(), Words::new());
    let origin = Origin::start(talk::model).await;
    let link = Link::to(&url).await;
    let store = store(&link.url, &prefix, &words, Duration::from_millis(300)).await;
    let proxy = Setup::new(&origin)
        .with("cache.semantic.lookup_deadline = \"300ms\"\ncache.semantic.guards = []")
        .keeping(store.clone(), &words)
        .open()
        .await;
    proxy.send(&Ask::chat("warm?")).await;
    proxy.written(1).await;
    eventually("the store is asked", || store.report().trouble.is_none()).await;

    link.stall();
    let begun = Instant::now();
    for number in 0..20 {
        let answer = proxy.send(&Ask::chat(&format!("question {number}?"))).await;
        assert_eq!((answer.status.as_u16(), answer.x_cache()), (200, "MISS"));
        // The first one waits; the others are refused without being asked.
        match number {
            0 => assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed()),
            _ => assert_eq!(answer.cache_status().detail.as_deref(), Some("store_busy")),
        }
    }
    assert!(store.report().trouble.is_some());

    link.mend();
    eventually("the store is asked again", || store.report().trouble.is_none()).await;
    // The questions of the silence wait in the queue and are written now.
    patiently(async {
        while proxy.house().cache.writes().written < 21 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    proxy.stop().await;
}

/// A TCP relay that a test can cut or stall.
struct Link {
    url: String,
    cut: Arc<AtomicBool>,
    stalled: Arc<AtomicBool>,
}

impl Link {
    async fn to(url: &str) -> Self {
        let target = url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (cut, stalled) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let link = Self { url, cut: cut.clone(), stalled: stalled.clone() };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, cut, stalled) = (target.clone(), cut.clone(), stalled.clone());
                tokio::spawn(async move { relay(client, &target, &cut, &stalled).await });
            }
        });
        link
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Connections stay, and nothing moves on them.
    fn stall(&self) {
        self.stalled.store(true, Ordering::SeqCst);
    }

    fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
        self.stalled.store(false, Ordering::SeqCst);
    }
}

async fn relay(mut client: TcpStream, target: &str, cut: &AtomicBool, stalled: &AtomicBool) {
    if cut.load(Ordering::SeqCst) {
        return;
    }
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    loop {
        // The relay itself is what a stall stops: neither side is read while it lasts.
        let moving = copy_bidirectional(&mut client, &mut server);
        tokio::select! {
            _ = moving => return,
            () = until(cut) => return,
            () = until(stalled) => {}
        }
        while stalled.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn until(flag: &AtomicBool) {
    while !flag.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
