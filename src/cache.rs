//! Room 4: policy -> key -> exact -> semantic -> verdict, under one deadline.
//!
//! The cache knows prompts, answers and scopes, not HTTP bodies and not databases. Everything in it
//! fails open: a reason not to answer is an ordinary result.

mod durable;
pub mod entry;
pub mod exact;
pub mod explain;
mod feedback;
mod fences;
pub mod flight;
pub mod guards;
pub mod interval;
pub mod judge;
pub mod key;
pub mod learn;
pub mod namespaces;
pub mod pace;
pub mod policy;
mod probing;
mod purge;
pub mod quota;
pub mod readings;
pub mod reason;
mod replicas;
mod report;
pub mod semantic;
mod unkept;
mod upkeep;
mod vectors;
pub mod verdict;
pub mod wording;
pub mod worth;
pub mod write;

use std::{path::PathBuf, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use tokio_util::task::TaskTracker;

use self::{
    entry::{Entry, now_ms},
    exact::ExactTier,
    feedback::Served,
    fences::Fences,
    guards::{Alone, Clock, Reading, Veil, alone_by},
    judge::llm::LlmJudge,
    key::Key,
    namespaces::Namespaces,
    policy::Plan,
    probing::Probing,
    quota::{Accounts, Quota},
    readings::Readings,
    reason::Reason,
    replicas::Replicas,
    unkept::Unkept,
    upkeep::{Company, Upkeep},
    vectors::Vectors,
    verdict::Placement,
    worth::Worth,
    write::{Terms, WriteBehind, WriteReport},
};
pub use self::{
    feedback::Mark,
    report::{JudgeReport, VerdictReport, WrongHits},
};
use crate::{
    config,
    embed::{Embedder, Vector},
    store::{EntryId, VectorStore},
    wire::NotStorable,
};

/// An answer that may be served.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The answer.
    pub entry: Arc<Entry>,
    /// How it was found.
    pub kind: HitKind,
}

/// How an answer was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HitKind {
    /// The very same request.
    Exact,
    /// The very same request, past its life and within `cache.grace`.
    Stale,
    /// The same, and the upstream could not renew it a moment ago.
    StaleOnError,
    /// The same question in other words.
    Semantic {
        /// Cosine similarity of the two questions.
        similarity: f32,
    },
}

impl HitKind {
    /// Was it past its life when it was found?
    pub const fn is_stale(self) -> bool {
        matches!(self, Self::Stale | Self::StaleOnError)
    }

    /// How alike the two questions are, where that decided.
    pub const fn similarity(self) -> Option<f32> {
        match self {
            Self::Semantic { similarity } => Some(similarity),
            Self::Exact | Self::Stale | Self::StaleOnError => None,
        }
    }
}

/// Where an answer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// In this process's memory.
    Memory,
    /// In the vector store.
    Store,
}

impl Tier {
    /// Stable name for the admin API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Store => "store",
        }
    }
}

/// What a cache is made over.
pub struct Parts {
    /// Without one it repeats exactly.
    pub embedder: Option<Arc<dyn Embedder>>,
    /// Without one it is the memory tier alone.
    pub store: Option<Arc<dyn VectorStore>>,
    /// How many answers may wait to be written to the store.
    pub queue: usize,
    /// What each tenant may keep there.
    pub quota: Quota,
    /// Whether questions are kept there as they are.
    pub prompts: Prompts,
    /// Covers and compares questions that are not.
    pub veil: Arc<Veil>,
    /// The folder of what is learned about near questions, and of what answers were worth.
    pub learned: Option<PathBuf>,
}

/// Whether questions are kept in the store as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompts {
    /// Their text.
    Kept,
    /// What guards need of them, and no text.
    Covered,
}

/// The tiers and the rules between them.
pub struct Cache {
    config: ArcSwap<config::Cache>,
    exact: ExactTier,
    namespaces: Arc<Namespaces>,
    clock: Clock,
    judge: Option<LlmJudge>,
    served: Served,
    probing: Probing,
    unkept: Unkept,
    readings: Readings,
    embedder: Option<Arc<dyn Embedder>>,
    vectors: Vectors,
    store: Option<Arc<dyn VectorStore>>,
    writer: Option<WriteBehind>,
    /// Where the store is shared with other replicas.
    fences: Option<Arc<Fences>>,
    replicas: Option<Arc<Replicas>>,
    veil: Arc<Veil>,
    /// Where quotas want to know it.
    worth: Option<Arc<Worth>>,
    _upkeep: Option<Upkeep>,
}

impl Cache {
    /// A cache over these parts.
    pub fn new(config: config::Cache, parts: Parts, tasks: &TaskTracker) -> Self {
        let Parts { embedder, store, queue, quota, prompts, veil, learned } = parts;
        let exact = ExactTier::new(config.max_bytes.0, config.grace.get());
        let model = embedder.as_ref().map_or("", |embedder| embedder.identity().name.as_str());
        let semantic = &config.semantic;
        let shared = config.scope == config::ScopeRule::Shared;
        let confirmations = if shared { semantic.confirmations } else { 0 };
        let namespaces = Arc::new(Namespaces::open(
            semantic,
            model,
            confirmations,
            learned.as_ref().map(|folder| folder.join("learned.json")),
        ));
        let worth = quota
            .bounds()
            .then(|| Arc::new(Worth::open(learned.map(|folder| folder.join("worth.json")))));
        let judge = LlmJudge::open(&semantic.judge).unwrap_or_else(|error| {
            tracing::error!(%error, "no language model judges: cheaper judges alone");
            None
        });
        let meta = store.as_ref().and_then(|store| store.meta()).cloned();
        let replicas = meta.clone().map(|meta| Arc::new(Replicas::new(meta, namespaces.clone())));
        let readings = Readings::default();
        let fences = meta.map(|meta| Arc::new(Fences::new(meta, exact.clone(), readings.clone())));
        let writer = store.clone().map(|store| {
            let accounts = worth.clone().map(|worth| Accounts::new(store.clone(), worth, quota));
            let veil = (prompts == Prompts::Covered).then(|| veil.clone());
            let terms = Terms { accounts, veil };
            WriteBehind::start(store, fences.clone(), terms, queue, tasks)
        });
        let company = fences.clone().zip(replicas.clone());
        let company =
            company.map(|(fences, replicas)| Company { fences, replicas, exact: exact.clone() });
        let upkeep = store
            .as_ref()
            .zip(writer.as_ref())
            .map(|(store, writer)| Upkeep::start(store, writer, company, config.grace.get()));
        Self {
            exact,
            namespaces,
            clock: Clock::new(&semantic.volatile, &semantic.stable),
            judge,
            served: Served::default(),
            probing: Probing::new(if shared { semantic.probe_limit } else { 0 }),
            unkept: Unkept::default(),
            readings,
            embedder,
            vectors: Vectors::new(semantic.vectors_bytes.0),
            store,
            writer,
            fences,
            replicas,
            veil,
            worth,
            _upkeep: upkeep,
            config: ArcSwap::from_pointee(config),
        }
    }

    /// The cache's settings, as they are now.
    pub fn config(&self) -> Guard<Arc<config::Cache>> {
        self.config.load()
    }

    /// Other settings from now on: those that [`config::changes`] lets change.
    pub fn configure(&self, config: config::Cache) {
        self.config.store(Arc::new(config));
    }

    fn is_shadow(&self) -> bool {
        self.config().semantic.mode == config::Mode::Shadow
    }

    /// The memory tier's answer. Tens of nanoseconds.
    ///
    /// # Errors
    /// Why none; `None` if nothing is there at all.
    pub fn exact(&self, key: &Key, plan: &Plan) -> Result<Hit, Option<Reason>> {
        plan.read.map_err(Some)?;
        let entry = self.exact.get(key).ok_or(None)?;
        let hit = self.by_age(entry);
        self.acceptable(&hit, plan)?;
        self.worth(&hit.entry, 1.0);
        Ok(hit)
    }

    /// An answer to this very request, fresh or past its life.
    fn by_age(&self, entry: Arc<Entry>) -> Hit {
        let kind = match entry.is_fresh(now_ms()) {
            true => HitKind::Exact,
            false if self.unkept.is_failing(entry.id) => HitKind::StaleOnError,
            false => HitKind::Stale,
        };
        Hit { entry, kind }
    }

    /// An answer is served, and is right with this probability.
    fn worth(&self, entry: &Entry, correct: f64) {
        if let Some(worth) = &self.worth {
            worth.hit(entry, correct);
        }
    }

    /// Is it young enough for this request?
    fn acceptable(&self, hit: &Hit, plan: &Plan) -> Result<(), Reason> {
        let now = now_ms();
        if plan.max_age.is_some_and(|oldest| hit.entry.age(now) > oldest) {
            return Err(Reason::TooOld);
        }
        // The memory tier lets go of what is past its grace, but not to the millisecond.
        let grace_ms = u64::try_from(self.config().grace.get().as_millis()).unwrap_or(u64::MAX);
        let within_grace = now < hit.entry.expires_ms.saturating_add(grace_ms);
        if hit.entry.is_fresh(now)
            || (hit.kind.is_stale() && within_grace && !self.is_volatile(&hit.entry))
        {
            return Ok(());
        }
        Err(Reason::Stale)
    }

    /// The class of a question, if it has one.
    pub fn class(&self, reading: &Reading) -> Option<Alone> {
        alone_by(reading, &self.clock)
    }

    /// Does the truth of this answer move with the clock?
    fn is_volatile(&self, entry: &Entry) -> bool {
        // A covered question does not tell: configured words are not found in it.
        let moves = |text: &str| {
            Veil::is_covered(text) || self.class(&Reading::of(text)) == Some(Alone::Volatile)
        };
        entry.question.as_deref().is_some_and(moves)
    }

    /// May this request have this answer, which another request of the same key was given? What a
    /// client says of its own strictness is not part of the key.
    pub fn allows(&self, hit: &Hit, plan: &Plan) -> bool {
        let near_enough = hit
            .kind
            .similarity()
            .is_none_or(|similarity| plan.semantic.is_ok() && similarity >= plan.min_similarity);
        near_enough && self.acceptable(hit, plan).is_ok()
    }

    /// Keeps an answer in memory: it is found from now on.
    pub fn remember(&self, entry: Arc<Entry>) {
        self.unkept.forget(entry.id);
        self.exact.put(entry);
    }

    /// Why the answer to this request cannot be kept, if that was found out lately.
    pub fn unkept(&self, id: EntryId) -> Option<NotStorable> {
        self.unkept.why(id)
    }

    /// An answer to this request was not kept.
    pub fn not_kept(&self, id: EntryId, why: NotStorable) {
        self.unkept.note(id, why);
    }

    /// The upstream could not renew this stale answer.
    pub fn renewal_failed(&self, id: EntryId) {
        self.unkept.renewal_failed(id);
    }

    /// Keeps an answer in the store too, soon. Under its own exact key in every case; by meaning as
    /// `placement` says.
    pub fn write(&self, entry: Arc<Entry>, vector: Option<Vector>, placement: Placement) {
        let Some(writer) = &self.writer else { return };
        match placement {
            Placement::Own | Placement::Kin(_) => writer.put(entry.clone(), vector, entry.id),
            Placement::Alias(elder) => writer.put(entry, vector, elder.into()),
            Placement::Redundant(elder) => writer.put(entry, None, elder.into()),
        }
    }

    /// The answer of this name and the tier that it was found in.
    ///
    /// # Errors
    /// Why the store cannot say.
    pub async fn entry(&self, id: EntryId) -> Result<Option<(Arc<Entry>, Tier)>, Reason> {
        if let Some(entry) = self.exact.by_id(id) {
            return Ok(Some((entry, Tier::Memory)));
        }
        let Some(store) = &self.store else { return Ok(None) };
        Ok(self.fetch(store.as_ref(), id).await?.map(|entry| (entry, Tier::Store)))
    }

    /// Questions whose vector was remembered, so far.
    pub fn vectors_found(&self) -> u64 {
        self.vectors.found()
    }

    /// Entries and bytes in memory.
    pub fn memory(&self) -> (u64, u64) {
        self.exact.size()
    }

    /// How writing goes.
    pub fn writes(&self) -> WriteReport {
        self.writer.as_ref().map(WriteBehind::report).unwrap_or_default()
    }

    /// The store, for reports.
    pub fn store(&self) -> Option<&Arc<dyn VectorStore>> {
        self.store.as_ref()
    }
}
