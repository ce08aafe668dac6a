//! A whole house with its front, on a port of its own.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use reprise::{
    cache::{
        Cache, Parts, Prompts as Kept, flight::Flights, guards::Veil, quota::Quota, reason::Reason,
    },
    config::{self, Config, Overrides},
    embed::{
        Embedder,
        local::{Local, LocalOptions},
    },
    exchange::{Doorman, House, Readings},
    front::{
        Address, Front, Inherited, Signals,
        admission::Admission,
        body::Room,
        quota::Quotas,
        tenant::{Tenants, tenant_key},
    },
    observe::{
        AccessLog, EmbedReport, FlightReport, MemoryReport, Observer, PriceTable, Prompts,
        SemanticReport, Settings, Sources, UpstreamReport, WritesReport,
    },
    store::{
        StoreReport, VectorStore,
        embedded::{Embedded, EmbeddedOptions, OpenError},
    },
    upstream::Upstreams,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::{
    client::{self, Answer, Ask, Live},
    origin::Origin,
    words::Words,
};

/// How long anything may take here; the machine may be busy with other work.
const PATIENCE: Duration = Duration::from_secs(45);

/// What a house is made of.
pub(crate) struct Setup {
    upstream: String,
    urls: Option<String>,
    http2: bool,
    settings: String,
    /// More lines of the upstream's own section, and sections after it.
    sections: String,
    embedder: Option<Arc<dyn Embedder>>,
    store: Place,
}

enum Place {
    /// The memory tier alone.
    Nowhere,
    /// The embedded store, in this folder.
    At(PathBuf),
    In(Arc<dyn VectorStore>),
}

impl Setup {
    /// In front of this model server: memory alone, no embedder.
    pub(crate) fn new(origin: &Origin) -> Self {
        Self::at(origin.address)
    }

    pub(crate) fn at(upstream: SocketAddr) -> Self {
        Self {
            upstream: format!("http://{upstream}"),
            urls: None,
            http2: false,
            settings: String::new(),
            sections: String::new(),
            embedder: None,
            store: Place::Nowhere,
        }
    }

    /// Overrides a setting: `cache.ttl = "1s"`.
    pub(crate) fn with(mut self, setting: &str) -> Self {
        self.settings.push_str(setting);
        self.settings.push('\n');
        self
    }

    /// A setting of the upstream itself, or sections after it.
    pub(crate) fn upstream(mut self, lines: &str) -> Self {
        self.sections.push_str(lines);
        self.sections.push('\n');
        self
    }

    /// Another upstream, that stands in for the first.
    pub(crate) fn spare(self, origin: &Origin) -> Self {
        self.spare_at(origin.address)
    }

    pub(crate) fn spare_at(self, address: SocketAddr) -> Self {
        self.upstream(&format!(
            "failover = [\"spare\"]\n[[upstream]]\nname = \"spare\"\nroutes = [\"/spare\"]\n\
             urls = [\"http://{address}\"]"
        ))
    }

    /// Several replicas: a list of URLs.
    pub(crate) fn replicas(mut self, urls: &str) -> Self {
        self.urls = Some(urls.to_owned());
        self
    }

    /// Logs that are outgrown by any longer answer.
    pub(crate) fn small_log(self) -> Self {
        self.with("cache.flight_bytes = \"64KiB\"\ncache.max_entry = \"64KiB\"")
    }

    /// In front of nobody yet.
    pub(crate) fn nowhere() -> Self {
        Self::at(([127, 0, 0, 1], 1).into())
    }

    /// In front of this model server, over HTTP/2.
    pub(crate) fn http2_to(mut self, origin: &Origin) -> Self {
        self.upstream = format!("http://{}", origin.address);
        self.http2 = true;
        self
    }

    /// Matches by meaning, with an embedder that counts words and the embedded store.
    pub(crate) fn semantic(self, folder: &TempDir) -> Self {
        self.semantic_by(folder, &Words::new())
    }

    pub(crate) fn semantic_by(mut self, folder: &TempDir, words: &Arc<Words>) -> Self {
        self.embedder = Some(words.clone());
        self.store = Place::At(folder.path().to_owned());
        // What is late on a busy machine is not what these tests are about.
        if !self.settings.contains("lookup_deadline") {
            self = self.with("cache.semantic.lookup_deadline = \"20s\"");
        }
        // Bags of words are near in ways that no guard lets pass, and no prior knows them.
        if !self.settings.contains("semantic.guards") {
            self = self.with("cache.semantic.guards = []");
        }
        self.with("cache.semantic.policy = \"threshold\"")
    }

    /// Matches by meaning as shipped: the real model, the default policy, all guards.
    pub(crate) fn with_the_real_model(mut self, folder: &TempDir) -> Self {
        let config = self.config();
        let options = LocalOptions {
            model: config.embed.model,
            ort_dylib: config.embed.ort_dylib,
            threads: 1,
            queue: config.embed.queue,
            max_batch: config.embed.max_batch,
            provider: config.embed.provider,
        };
        self.embedder = Some(Arc::new(Local::open(options).unwrap()));
        self.store = Place::At(folder.path().to_owned());
        self.with("cache.semantic.lookup_deadline = \"20s\"")
    }

    pub(crate) fn keeping(mut self, store: Arc<dyn VectorStore>, words: &Arc<Words>) -> Self {
        self.embedder = Some(words.clone());
        self.store = Place::In(store);
        self
    }

    fn config(&self) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reprise.toml");
        let urls = self.urls.clone().unwrap_or_else(|| format!("[\"{}\"]", self.upstream));
        // A machine that stands still for some seconds is no server that cannot be reached.
        let text = format!(
            "listen.http = \"127.0.0.1:0\"\nlisten.admin = \"\"\n\
             timeouts.connect = \"30s\"\n{}\n[[upstream]]\nname = \"model\"\n\
             urls = {urls}\nhttp2 = {}\n{}",
            self.settings, self.http2, self.sections
        );
        std::fs::write(&path, text).unwrap();
        config::load(Some(&path), &BTreeMap::new(), &Overrides::default())
            .unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// Opens the house.
    pub(crate) async fn open(self) -> Proxy {
        let config = self.config();
        let front = Front::bind(&config, &mut Inherited::none()).await.unwrap();
        let Address::Http(address) = front.addresses()[0] else { panic!("no http listener") };
        let observer = Observer::new(Settings {
            prompts: Prompts::Withheld,
            access: AccessLog::Silent,
            reasons: &Reason::NAMES,
            verdicts: &reprise::cache::verdict::Ruling::NAMES,
            prices: PriceTable::default(),
        })
        .unwrap();
        let embedder = self.embedder.clone();
        let learned = match &self.store {
            Place::At(path) => Some(path.clone()),
            Place::Nowhere | Place::In(_) => None,
        };
        let (store, key) = match self.store {
            Place::Nowhere => (None, [7; 32]),
            Place::In(store) => (Some(store), [7; 32]),
            Place::At(path) => {
                let key = tenant_key(&path.join("tenant.key")).unwrap();
                let options = || EmbeddedOptions {
                    path: path.clone(),
                    identity: embedder.as_ref().unwrap().identity().clone(),
                    queue: config.store.queue,
                    compact_after: config.store.compact_after,
                    max_bytes: config.store.max_bytes.0,
                    quantization: config.store.quantization,
                };
                let store = opened(options).await;
                (Some(Arc::new(store) as Arc<dyn VectorStore>), key)
            }
        };
        let tasks = TaskTracker::new();
        let house = Arc::new(House {
            tenants: Tenants::new(config.cache.scope.clone(), key),
            admission: Admission::new(config.limits.requests),
            quotas: Quotas::default(),
            bodies: Room::new(config.limits.bodies_bytes.bytes()),
            cache: Arc::new(Cache::new(
                config.cache.clone(),
                Parts {
                    embedder,
                    store,
                    queue: config.store.queue,
                    quota: Quota {
                        entries: config.store.tenant_entries,
                        bytes: config.store.tenant_bytes.0,
                    },
                    prompts: if config.store.prompts { Kept::Kept } else { Kept::Covered },
                    veil: Arc::new(Veil::new(&key)),
                    learned,
                },
                &tasks,
            )),
            flights: Flights::new(
                config.cache.flight_bytes.bytes(),
                config.cache.flights_bytes.bytes(),
            ),
            upstreams: Upstreams::open(&config).unwrap(),
            observer,
            tasks: TaskTracker::new(),
            readings: Readings::default(),
            config,
        });
        let signals = Signals::default();
        let current = Arc::new(ArcSwap::new(house.clone()));
        let serving = tokio::spawn({
            let (door, signals) = (Doorman(current.clone()), signals.clone());
            async move {
                front.serve(door, signals).await;
            }
        });
        Proxy { address, house: Some(house), signals, serving: Some(serving), tasks }
    }
}

/// The store; waits while the one before it is still letting go of its folder.
async fn opened(options: impl Fn() -> EmbeddedOptions) -> Embedded {
    let opening = async {
        loop {
            let options = options();
            match tokio::task::spawn_blocking(|| Embedded::open(options)).await.unwrap() {
                Ok(store) => return store,
                Err(OpenError::Locked(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    patiently(opening).await
}

/// A running house.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    house: Option<Arc<House>>,
    signals: Signals,
    serving: Option<JoinHandle<()>>,
    tasks: TaskTracker,
}

impl Proxy {
    pub(crate) fn house(&self) -> &Arc<House> {
        self.house.as_ref().unwrap()
    }

    /// A request with its whole answer, which is then kept if it is to be: that is done just after its
    /// last byte, so that who asks again at once may still join the first request instead.
    pub(crate) async fn send(&self, ask: &Ask) -> Answer {
        let answer = patiently(async { self.live(ask).await.rest().await }).await;
        if answer.complete && answer.headers.get("x-cache").is_some_and(|told| told == "MISS") {
            self.landed().await;
        }
        answer
    }

    /// A request up to the head of its answer.
    pub(crate) async fn live(&self, ask: &Ask) -> Live {
        patiently(client::open(self.address, ask)).await.unwrap()
    }

    /// A request that runs beside the test. Aborting the handle hangs up.
    pub(crate) fn spawn(&self, ask: &Ask) -> JoinHandle<Answer> {
        let (address, ask) = (self.address, ask.clone());
        tokio::spawn(async move {
            patiently(async { client::open(address, &ask).await.unwrap().rest().await }).await
        })
    }

    /// A series of the metrics, as `name{label="value"}`; 0 if it is not there.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let text = self.house().observer.scrape(&Nothing).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Finished requests with this outcome.
    pub(crate) fn outcomes(&self, outcome: &str) -> u64 {
        self.house().observer.stats(&Nothing).requests[outcome]
    }

    /// Finished requests of all outcomes.
    pub(crate) fn finished(&self) -> u64 {
        self.house().observer.stats(&Nothing).requests.values().sum()
    }

    /// Finished requests whose body ended so.
    pub(crate) fn ends(&self, end: &str) -> u64 {
        self.metric(&format!("reprise_body_ends_total{{end=\"{end}\"}}"))
    }

    /// Requests that passed the cache by for this reason.
    pub(crate) fn reasons(&self, reason: &str) -> u64 {
        self.house().observer.stats(&Nothing).bypass_reasons.get(reason).copied().unwrap_or(0)
    }

    /// Waits until so many answers are in the store.
    pub(crate) async fn written(&self, answers: u64) {
        eventually("answers are written", || self.house().cache.writes().written >= answers).await;
    }

    /// Waits until so many requests have joined others.
    pub(crate) async fn joined(&self, requests: u64) {
        eventually("requests join", || self.house().flights.report().joined >= requests).await;
    }

    /// Waits until no flight is left.
    pub(crate) async fn landed(&self) {
        eventually("flights land", || self.house().flights.report().running == 0).await;
    }

    /// Stops as the process does: drain, flush, everything closed.
    pub(crate) async fn stop(mut self) {
        self.signals.drain.cancel();
        patiently(self.serving.take().unwrap()).await.unwrap();
        let house = self.house.take().unwrap();
        house.tasks.close();
        patiently(house.tasks.wait()).await;
        house.cache.flush().await.unwrap();
        tokio::task::spawn_blocking(|| drop(house)).await.unwrap();
        self.tasks.close();
        patiently(self.tasks.wait()).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.signals.drain.cancel();
        self.signals.abort.cancel();
    }
}

/// Waits for something that must happen; fails instead of hanging.
pub(crate) async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("it takes too long"))
}

/// Polls for something that happens in the background.
pub(crate) async fn eventually(what: &str, mut happens: impl FnMut() -> bool) {
    let waiting = async {
        while !happens() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

/// Rooms that report nothing: these tests ask them directly.
struct Nothing;

impl Sources for Nothing {
    fn memory(&self) -> MemoryReport {
        MemoryReport::default()
    }

    fn store(&self) -> Option<StoreReport> {
        None
    }

    fn writes(&self) -> WritesReport {
        WritesReport::default()
    }

    fn embed(&self) -> Option<EmbedReport> {
        None
    }

    fn upstreams(&self) -> Vec<UpstreamReport> {
        Vec::new()
    }

    fn flights(&self) -> FlightReport {
        FlightReport::default()
    }

    fn semantic(&self) -> SemanticReport {
        SemanticReport::default()
    }

    fn dropped_log_lines(&self) -> u64 {
        0
    }
}
