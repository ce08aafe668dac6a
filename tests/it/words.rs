//! An embedder and a store that obey the tests.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use reprise::{
    embed::{EmbedFault, Embedded, Embedder, Identity, Vector},
    store::{EntryId, Holding, Neighbour, Record, Selector, StoreFault, StoreReport, VectorStore},
};

use crate::origin::Gate;

const DIMENSION: usize = 64;

/// Counts words: two texts of the same words in another order have similarity 1.
pub(crate) struct Words {
    identity: Identity,
    /// What to do instead, where set.
    mood: Mutex<Mood>,
    pub(crate) texts: AtomicUsize,
}

#[derive(Clone)]
pub(crate) enum Mood {
    Well,
    /// Waits here first.
    Slow(Gate),
    Fault(EmbedFault),
    BeyondWindow,
}

impl Words {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            identity: Identity {
                name: "words".into(),
                digest: "0123456789abcdef".into(),
                dimension: DIMENSION,
                window_tokens: 256,
            },
            mood: Mutex::new(Mood::Well),
            texts: AtomicUsize::new(0),
        })
    }

    pub(crate) fn feel(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    fn vector(text: &str) -> Vector {
        let mut vector = [0.0_f32; DIMENSION];
        for word in text.split_whitespace() {
            let hash = blake3::hash(word.to_lowercase().as_bytes());
            vector[usize::from(hash.as_bytes()[0]) % DIMENSION] += 1.0;
        }
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        vector.iter().map(|x| x / norm).collect()
    }
}

impl Embedder for Words {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn embed(&self, text: Arc<str>) -> BoxFuture<'_, Result<Embedded, EmbedFault>> {
        self.texts.fetch_add(1, Ordering::SeqCst);
        let mood = self.mood.lock().clone();
        Box::pin(async move {
            match mood {
                Mood::Well => {}
                Mood::Slow(gate) => gate.pass().await,
                Mood::Fault(fault) => return Err(fault),
                Mood::BeyondWindow => return Ok(Embedded::BeyondWindow { tokens: 257 }),
            }
            Ok(Embedded::Vector(Self::vector(&text)))
        })
    }
}

/// A store that fails at everything.
pub(crate) struct Broken(pub(crate) StoreFault);

impl Broken {
    fn fail<T: Send + 'static>(&self) -> BoxFuture<'_, Result<T, StoreFault>> {
        let fault = self.0.clone();
        Box::pin(async move { Err(fault) })
    }
}

impl VectorStore for Broken {
    fn get(&self, _: EntryId) -> BoxFuture<'_, Result<Option<Record>, StoreFault>> {
        self.fail()
    }

    fn nearest(
        &self,
        _: Arc<str>,
        _: Vector,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<Neighbour>, StoreFault>> {
        self.fail()
    }

    fn put(&self, _: Vec<Record>) -> BoxFuture<'_, Result<(), StoreFault>> {
        self.fail()
    }

    fn count(&self, _: Selector) -> BoxFuture<'_, Result<u64, StoreFault>> {
        self.fail()
    }

    fn delete(&self, _: Selector) -> BoxFuture<'_, Result<u64, StoreFault>> {
        self.fail()
    }

    fn holdings(&self, _: Selector) -> BoxFuture<'_, Result<Vec<Holding>, StoreFault>> {
        self.fail()
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), StoreFault>> {
        self.fail()
    }

    fn report(&self) -> StoreReport {
        StoreReport { kind: "broken", trouble: Some(self.0.to_string()), ..StoreReport::default() }
    }
}
