//! Room 6: the vector tier, where answers live on disk and are found by meaning.
//!
//! One trait, one file a database. A store keeps [`Record`]s; a record is one *key* (a prompt's
//! vector) of one *answer*. Usually an answer has exactly one key, its own; learned aliases add
//! more, which point to the same answer.

use std::{collections::BTreeSet, fmt, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::{embed::Vector, line::Line};

pub mod collection;
#[cfg(test)]
pub(crate) mod contract;
pub mod embedded;
pub mod meta;
pub mod milvus;
pub mod pinecone;
pub mod qdrant;
pub mod remote;
pub mod sealed;

/// How many candidates a search of a graph keeps in view, in every store whose graphs are ours to search.
/// Measured by `make bench-store`: with 100, Qdrant's default, 4 % of the true neighbours of half a million
/// were missed.
const IN_VIEW: usize = 256;

/// 128 bits of a fingerprint: a key's and an answer's name in stores, headers and the admin API.
/// Written as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntryId(pub u128);

impl EntryId {
    /// Its digits.
    pub fn hex(self) -> Line {
        Line::of_hex(&self.0.to_be_bytes())
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.hex().as_str())
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl std::str::FromStr for EntryId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("an entry id is 32 hex digits, not `{text}`"));
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|error| error.to_string())
    }
}

impl TryFrom<String> for EntryId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<EntryId> for String {
    fn from(id: EntryId) -> Self {
        id.to_string()
    }
}

/// One key of one answer, as a store keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// This key's id.
    pub id: EntryId,
    /// The answer that this key leads to; equal to `id` for an answer's own key.
    pub answer: EntryId,
    /// Everything but the last user turn, hashed, as 64 hex digits: searches never leave it.
    pub partition: Arc<str>,
    /// Whose answer it is (a keyed hash, 32 hex digits): purges and quotas go by it.
    pub tenant: Arc<str>,
    /// The model's name as the request gave it.
    pub model: Arc<str>,
    /// The upstream's name in the config.
    pub route: Arc<str>,
    /// Free tags of the request, for purges.
    pub tags: Vec<String>,
    /// The last user turn's text: the guards compare it with a new one. Empty for exact-only keys.
    pub question: Arc<str>,
    /// The vector of `question`; `None` for a key that is only ever found by id.
    pub vector: Option<Vector>,
    /// Unix milliseconds at which the answer was generated.
    pub generated_ms: u64,
    /// Unix milliseconds from which the answer must not be served as fresh.
    pub expires_ms: u64,
    /// The answer itself, encoded by the cache (opaque here); empty for an alias.
    pub payload: Bytes,
}

/// One near key, without the answer's payload (that is one `get` of `answer` away).
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    /// The key's id.
    pub id: EntryId,
    /// The answer it leads to.
    pub answer: EntryId,
    /// Cosine similarity, -1..=1, of the exact float32 vectors.
    pub similarity: f32,
    /// The partition it was found in: checked again by the caller.
    pub partition: Arc<str>,
    /// The stored last user turn.
    pub question: Arc<str>,
    /// As in [`Record`].
    pub expires_ms: u64,
}

/// One stored key as a list of them tells it: without text, vector and answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The key's id.
    pub id: EntryId,
    /// The answer it leads to.
    pub answer: EntryId,
    /// What [`VectorStore::weight`] said of it, where the store can list that.
    pub bytes: Option<u64>,
    /// As in [`Record`].
    pub generated_ms: u64,
    /// As in [`Record`].
    pub expires_ms: u64,
}

/// Which records an administrator means. Empty selectors do not exist: `All` is said aloud.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// Everything in this collection.
    All,
    /// One answer with all of its keys.
    Answer(EntryId),
    /// Everything that one model answered.
    Model(String),
    /// Everything behind one upstream.
    Route(String),
    /// Everything of one tenant (its keyed hash).
    Tenant(String),
    /// Everything that carries a tag.
    Tag(String),
    /// Everything generated before this time, Unix milliseconds.
    Before(u64),
    /// What both of them mean.
    Both(Box<(Selector, Selector)>),
    /// Everything whose `expires_ms` is at or before this time, Unix milliseconds.
    ExpiredAt(u64),
}

/// Why a store did not do what it was asked. The cache goes on without it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFault {
    /// Its queue is full, or its breaker is open.
    #[error("store_busy")]
    Busy,
    /// It cannot be reached, or its files cannot be opened.
    #[error("store_unavailable: {0}")]
    Unavailable(String),
    /// It answered with an error of its own.
    #[error("store_failed: {0}")]
    Failed(String),
    /// The disk or the quota is full; reads go on.
    #[error("store_full: {0}")]
    Full(String),
    /// It cannot hold a record of this size: it stays in memory.
    #[error("store_too_large")]
    TooLarge,
}

impl StoreFault {
    /// Stable name for metrics and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Busy => "store_busy",
            Self::Unavailable(_) => "store_unavailable",
            Self::Failed(_) => "store_failed",
            Self::Full(_) => "store_full",
            Self::TooLarge => "store_too_large",
        }
    }
}

/// How vectors are kept for finding candidates. The similarity is that of the full vectors.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Quantization {
    /// As they are, 4 bytes a number.
    #[default]
    None,
    /// One byte a number.
    Int8,
    /// One bit a number: for vectors of a thousand numbers and more, whose signs say enough.
    Binary,
}

impl Quantization {
    /// Candidates that are looked at again in full for each one that is wanted.
    const fn oversampling(self) -> Option<f64> {
        match self {
            Self::None => None,
            Self::Int8 => Some(3.0),
            Self::Binary => Some(16.0),
        }
    }
}

/// What a store says of itself, for `/readyz?verbose`, metrics and the dashboard.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct StoreReport {
    /// `embedded`, `qdrant`, ...
    pub kind: &'static str,
    /// The collection's name: embedder, dimension, schema.
    pub collection: String,
    /// Records that it holds (an estimate where an exact count is dear).
    pub records: u64,
    /// Bytes on disk, where known.
    pub disk_bytes: u64,
    /// Records changed since the last optimization, where known: no graph covers what came with them.
    pub unindexed: u64,
    /// Records that it let go of by itself because its disk space was used up.
    pub evicted_total: u64,
    /// The last thing that went wrong, while it is still wrong.
    pub trouble: Option<String>,
}

/// Bytes of a vector of so many numbers.
const fn vector_bytes(dimension: usize) -> u64 {
    dimension as u64 * size_of::<f32>() as u64
}

/// A place where records are kept and found by nearness.
pub trait VectorStore: Send + Sync + 'static {
    /// The record of this id.
    fn get(&self, id: EntryId) -> BoxFuture<'_, Result<Option<Record>, StoreFault>>;

    /// Up to `limit` nearest keys of `vector` inside `partition`, nearest first.
    fn nearest(
        &self,
        partition: Arc<str>,
        vector: Vector,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Neighbour>, StoreFault>>;

    /// Writes these records; when it resolves to `Ok` they survive a crash of the process.
    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<(), StoreFault>>;

    /// How many records a selector means.
    fn count(&self, selector: Selector) -> BoxFuture<'_, Result<u64, StoreFault>>;

    /// Deletes what a selector means and says how many records that were.
    fn delete(&self, selector: Selector) -> BoxFuture<'_, Result<u64, StoreFault>>;

    /// Every key that a selector means, in no order: alternative keys of an answer too.
    fn holdings(&self, selector: Selector) -> BoxFuture<'_, Result<Vec<Holding>, StoreFault>>;

    /// The ids of the answers that a selector means.
    fn answers(&self, selector: Selector) -> BoxFuture<'_, Result<Vec<EntryId>, StoreFault>> {
        Box::pin(async move {
            let held = self.holdings(selector).await?;
            let answers: BTreeSet<_> = held.into_iter().map(|one| one.answer).collect();
            Ok(answers.into_iter().collect())
        })
    }

    /// Makes everything durable: called when draining.
    fn flush(&self) -> BoxFuture<'_, Result<(), StoreFault>>;

    /// How it is doing. Cheap: called for each scrape.
    fn report(&self) -> StoreReport;

    /// Bytes of a record that its tenant is charged with: its payload as it is stored and its vector.
    /// Names, texts and indexes come on top and are the store's own matter.
    fn weight(&self, record: &Record) -> u64 {
        record.payload.len() as u64
            + record.vector.as_ref().map_or(0, |vector| vector_bytes(vector.len()))
    }

    /// The largest payload of a record that it takes.
    fn payload_max_bytes(&self) -> usize {
        usize::MAX
    }

    /// Collections of ours beside this one, of another embedder or schema.
    fn others(&self) -> BoxFuture<'_, Result<Vec<String>, StoreFault>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// What is shared with other replicas; `None` where one process has the store alone.
    fn meta(&self) -> Option<&meta::Meta> {
        None
    }
}
