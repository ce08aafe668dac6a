//! Room 4: policy -> key -> exact -> semantic -> verdict, under one deadline.
//!
//! The cache knows prompts, answers and scopes, not HTTP bodies and not databases. Everything in it
//! fails open: a reason not to answer is an ordinary result.

pub mod entry;
pub mod exact;
pub mod explain;
pub mod flight;
pub mod guards;
pub mod interval;
pub mod judge;
pub mod key;
mod learn;
pub mod namespaces;
pub mod policy;
mod purge;
pub mod reason;
pub mod semantic;
pub mod verdict;
pub mod write;

use std::{path::PathBuf, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use tokio_util::task::TaskTracker;

use self::{
    entry::{Entry, now_ms},
    exact::ExactTier,
    key::Key,
    namespaces::Namespaces,
    policy::Plan,
    reason::Reason,
    verdict::Placement,
    write::{WriteBehind, WriteReport},
};
use crate::{
    config,
    embed::{Embedder, Vector},
    store::{EntryId, Selector, StoreFault, VectorStore},
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
    /// The same question in other words.
    Semantic {
        /// Cosine similarity of the two questions.
        similarity: f32,
    },
}

impl HitKind {
    /// How alike the two questions are, where that decided.
    pub const fn similarity(self) -> Option<f32> {
        match self {
            Self::Semantic { similarity } => Some(similarity),
            Self::Exact | Self::Stale => None,
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

/// The tiers and the rules between them.
pub struct Cache {
    config: ArcSwap<config::Cache>,
    exact: ExactTier,
    namespaces: Namespaces,
    embedder: Option<Arc<dyn Embedder>>,
    store: Option<Arc<dyn VectorStore>>,
    writer: Option<WriteBehind>,
}

impl Cache {
    /// A cache over these parts; without a store it is the memory tier alone, without an embedder
    /// it repeats exactly. `queue` answers may wait to be written; what is learned about near
    /// questions is kept in the file `learned`.
    pub fn new(
        config: config::Cache,
        embedder: Option<Arc<dyn Embedder>>,
        store: Option<Arc<dyn VectorStore>>,
        queue: usize,
        learned: Option<PathBuf>,
        tasks: &TaskTracker,
    ) -> Self {
        let exact = ExactTier::new(config.max_bytes.0, config.grace.get());
        let model = embedder.as_ref().map_or("", |embedder| embedder.identity().name.as_str());
        let namespaces = Namespaces::open(&config.semantic, model, learned);
        let writer = store.clone().map(|store| WriteBehind::start(store, queue, tasks));
        let config = ArcSwap::from_pointee(config);
        Self { config, exact, namespaces, embedder, store, writer }
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
        let fresh = entry.is_fresh(now_ms());
        let hit = Hit { entry, kind: if fresh { HitKind::Exact } else { HitKind::Stale } };
        self.acceptable(&hit, plan)?;
        Ok(hit)
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
        if hit.entry.is_fresh(now) || (hit.kind == HitKind::Stale && within_grace) {
            return Ok(());
        }
        Err(Reason::Stale)
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
        self.exact.put(entry);
    }

    /// Keeps an answer in the store too, soon. Under its own exact key in every case; by meaning as
    /// `placement` says.
    pub fn write(&self, entry: Arc<Entry>, vector: Option<Vector>, placement: Placement) {
        let Some(writer) = &self.writer else { return };
        match placement {
            Placement::Own | Placement::Kin(_) => writer.put(entry.clone(), vector, entry.id),
            Placement::Alias(elder) => writer.put(entry, vector, elder.into()),
            Placement::Redundant => writer.put(entry.clone(), None, entry.id),
        }
    }

    /// Writes down what was learned about near questions.
    ///
    /// # Errors
    /// The file system's.
    pub fn save_learned(&self) -> std::io::Result<()> {
        self.namespaces.save()
    }

    /// The answer of this name and the tier that it was found in, for people.
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

    /// Deletes one answer with all its keys in every tier, and says how many were found.
    ///
    /// # Errors
    /// The store's; the memory tier has forgotten it all the same.
    pub async fn delete(&self, id: EntryId) -> Result<u64, StoreFault> {
        let here = u64::from(self.exact.remove(id));
        let (Some(writer), Some(store)) = (&self.writer, &self.store) else { return Ok(here) };
        // A key that leads to an elder answer goes with that answer: they say the same.
        let answer = store.get(id).await?.map_or(id, |record| record.answer);
        self.exact.remove(answer);
        let id = answer;
        let stored = writer.delete(Selector::Answer(id)).await;
        // A lookup may have carried it from the store into memory meanwhile.
        self.exact.remove(id);
        Ok(stored?.max(here))
    }

    /// Makes every kept answer durable.
    ///
    /// # Errors
    /// The store's.
    pub async fn flush(&self) -> Result<(), StoreFault> {
        match &self.writer {
            Some(writer) => writer.flush().await,
            None => Ok(()),
        }
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
