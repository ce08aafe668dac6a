//! Small records that all replicas share through the store itself: no other service is needed to
//! agree on a purge or to share what was learned.

use std::sync::Arc;

use bytes::Bytes;

use super::{EntryId, Record, Selector, StoreFault, VectorStore};

/// The shared records of one store. A record is named by its kind and its name; the last write wins.
#[derive(Clone)]
pub struct Meta {
    /// A collection of its own, whatever the embedder: replicas with two models share it.
    table: Arc<dyn VectorStore>,
}

/// One shared record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Its name within its kind.
    pub name: Arc<str>,
    /// Unix milliseconds of its last write.
    pub written_ms: u64,
    /// Its value.
    pub value: Bytes,
}

impl Meta {
    /// Over this collection, which nothing else uses.
    pub fn new(table: Arc<dyn VectorStore>) -> Self {
        Self { table }
    }

    /// The value of one record.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, kind: &str, name: &str) -> Result<Option<Shared>, StoreFault> {
        self.by_id(id(kind, name)).await
    }

    /// The same by the id that [`Self::ids`] gave.
    ///
    /// # Errors
    /// The store's.
    pub async fn by_id(&self, id: EntryId) -> Result<Option<Shared>, StoreFault> {
        let record = self.table.get(id).await?;
        Ok(record.map(|record| Shared {
            name: record.question,
            written_ms: record.generated_ms,
            value: record.payload,
        }))
    }

    /// The ids of all records of a kind, as of now.
    ///
    /// # Errors
    /// The store's.
    pub async fn ids(&self, kind: &str) -> Result<Vec<EntryId>, StoreFault> {
        self.table.answers(Selector::Model(kind.to_owned())).await
    }

    /// Writes one record, to be removed after `expires_ms` (Unix milliseconds). Once this is `Ok` it
    /// survives, and every replica can read it.
    ///
    /// # Errors
    /// The store's.
    pub async fn set(
        &self,
        kind: &str,
        shared: Shared,
        expires_ms: u64,
    ) -> Result<EntryId, StoreFault> {
        let id = id(kind, &shared.name);
        let record = Record {
            id,
            answer: id,
            partition: blake3::hash(kind.as_bytes()).to_hex().as_str().into(),
            tenant: "meta".into(),
            model: kind.into(),
            route: "".into(),
            tags: Vec::new(),
            question: shared.name,
            vector: None,
            generated_ms: shared.written_ms,
            expires_ms,
            payload: shared.value,
        };
        self.table.put(vec![record]).await.map(|()| id)
    }

    /// Removes what is past its time.
    ///
    /// # Errors
    /// The store's.
    pub async fn sweep(&self, now_ms: u64) -> Result<u64, StoreFault> {
        self.table.delete(Selector::ExpiredAt(now_ms)).await
    }
}

fn id(kind: &str, name: &str) -> EntryId {
    let mut hash = blake3::Hasher::new();
    // The length keeps ("a", "bc") and ("ab", "c") apart.
    hash.update(&(kind.len() as u64).to_le_bytes()).update(kind.as_bytes()).update(name.as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hash.finalize().as_bytes()[..16]);
    EntryId(u128::from_be_bytes(id))
}
