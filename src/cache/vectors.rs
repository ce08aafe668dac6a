//! Vectors of questions that were embedded a while ago, and of answers that were compared.
//!
//! The same words under another system prompt, another model or after another history are another
//! partition, where nothing of the first is served; their vector is the same. A client that asks anew
//! (`no-cache`), and the repeats of a hit by meaning, which have no entry of their own, spare it too.
//!
//! One tenant's words stay its own here as everywhere. A vector that is there saves milliseconds, which the
//! client sees (`Server-Timing` says it outright): shared, it would tell one tenant what another has asked,
//! word by word. So the tenant is hashed with the text. Under `cache.scope = "shared"` all are one.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use futures_util::future::BoxFuture;
use moka::sync::Cache;

use crate::{
    embed::{EmbedFault, Embedded, Vector},
    frames::Frames,
};

/// What an entry takes beside its numbers: digest, reference counts, the map's own.
const OVERHEAD_BYTES: usize = 192;

/// See the module's documentation.
pub(super) struct Vectors {
    /// Drawn at start: what is in memory tells nobody which texts were guessed right.
    key: [u8; 32],
    memo: Cache<[u8; 32], Vector>,
    found: AtomicU64,
}

impl Vectors {
    /// At most so many bytes; 0: none is remembered.
    pub(super) fn new(bytes: u64) -> Self {
        let weigh = |_: &[u8; 32], vector: &Vector| {
            u32::try_from(size_of_val(&**vector) + OVERHEAD_BYTES).unwrap_or(u32::MAX)
        };
        let mut key = [0; 32];
        // Without randomness the digests are plain ones: they still tell texts and tenants apart.
        let _ = getrandom::fill(&mut key);
        let memo = Cache::builder().max_capacity(bytes).weigher(weigh).build();
        Self { key, memo, found: AtomicU64::new(0) }
    }

    /// The name of a tenant's text.
    pub(super) fn name(&self, tenant: &str, text: &str) -> [u8; 32] {
        let mut name = Frames::keyed(self.key);
        name.tagged(b't', tenant.as_bytes());
        name.tagged(b'q', text.as_bytes());
        name.finish().into()
    }

    pub(super) fn get(&self, name: &[u8; 32]) -> Option<Vector> {
        let found = self.memo.get(name)?;
        self.found.fetch_add(1, Relaxed);
        Some(found)
    }

    fn put(&self, name: [u8; 32], vector: &Vector) {
        self.memo.insert(name, Arc::clone(vector));
    }

    /// What an embedder answers; a vector is remembered under `name`.
    pub(super) async fn keep(
        &self,
        name: [u8; 32],
        answered: BoxFuture<'_, Result<Embedded, EmbedFault>>,
    ) -> Result<Embedded, EmbedFault> {
        let embedded = answered.await?;
        if let Embedded::Vector(vector) = &embedded {
            self.put(name, vector);
        }
        Ok(embedded)
    }

    /// Forgets all of them.
    pub(super) fn clear(&self) {
        self.memo.invalidate_all();
    }

    /// Texts that needed no embedding, so far.
    pub(super) fn found(&self) -> u64 {
        self.found.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(first: f32) -> Vector {
        let mut numbers = vec![0.0; 384];
        numbers[0] = first;
        numbers.into()
    }

    #[test]
    fn a_text_is_found_by_its_tenant_alone() {
        let vectors = Vectors::new(1 << 20);
        vectors.put(vectors.name("alice", "why?"), &vector(1.0));
        assert_eq!(vectors.get(&vectors.name("alice", "why?")), Some(vector(1.0)));
        for (tenant, text) in [("bob", "why?"), ("alice", "why"), ("alicew", "hy?"), ("", "")] {
            assert_eq!(vectors.get(&vectors.name(tenant, text)), None, "{tenant} {text}");
        }
        assert_eq!(vectors.found(), 1);
        vectors.clear();
        assert_eq!(vectors.get(&vectors.name("alice", "why?")), None);
    }

    #[test]
    fn they_take_no_more_room_than_they_may() {
        let vectors = Vectors::new(64 << 10);
        for text in 0..1_000 {
            vectors.put(vectors.name("t", &text.to_string()), &vector(1.0));
        }
        vectors.memo.run_pending_tasks();
        assert!(vectors.memo.weighted_size() <= 64 << 10);
        assert!(vectors.memo.entry_count() > 10);
        let none = Vectors::new(0);
        none.put(none.name("t", "x"), &vector(1.0));
        none.memo.run_pending_tasks();
        assert_eq!(none.get(&none.name("t", "x")), None);
    }
}
