//! A Milvus server or cluster (2.3 or later, Zilliz Cloud, `milvus-lite`), over gRPC.
//!
//! Milvus shows a write to readers some time after it has acknowledged it (a tick of its clock, 0.2 s).
//! Lookups do not wait for that: they read what is visible. Writes wait until they are visible, which
//! costs nobody anything, for they happen behind the answer; counting and deleting read strictly, so
//! that a purge is exact.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use self::{
    calls::told,
    client::Client,
    proto::{CollectionNames, Consistency, Description, OfCollection, ShowCollections},
    rows::field,
};
use super::{
    EntryId, Holding, Neighbour, Quantization, Record, Selector, StoreFault, StoreReport,
    VectorStore,
    collection::Collection,
    remote::{Address, Remote},
};
use crate::embed::Vector;

/// The path of one method.
macro_rules! method {
    ($name:literal) => {
        concat!("/milvus.proto.milvus.MilvusService/", $name)
    };
}

mod calls;
mod client;
mod expressions;
mod proto;
mod rows;

/// How Milvus is asked to keep vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MilvusOptions {
    /// Copies of the collection in memory.
    pub replicas: i32,
    /// Shards of the collection.
    pub shards: i32,
    /// How vectors are kept for finding candidates.
    pub quantization: Quantization,
}

/// One collection of one Milvus.
pub struct Milvus {
    client: Client,
    collection: Collection,
    options: MilvusOptions,
    /// As of the last count.
    records: Mutex<u64>,
}

impl Milvus {
    /// A collection that is not looked at before [`Remote::prepare`].
    ///
    /// # Errors
    /// Where the address cannot be used at all.
    pub fn new(
        address: &Address,
        collection: Collection,
        options: MilvusOptions,
    ) -> Result<Self, StoreFault> {
        let client = Client::new(address)?;
        Ok(Self { client, collection, options, records: Mutex::new(0) })
    }

    fn name(&self) -> String {
        self.collection.with_underscores()
    }
}

impl Remote for Milvus {
    fn prepare(&self) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(async move {
            let names: CollectionNames =
                self.client.call(method!("ShowCollections"), ShowCollections {}).await?;
            let name = self.name();
            if names.collection_names.contains(&name) {
                let asked = OfCollection { collection_name: name.clone(), replica_number: 0 };
                let found: Description =
                    self.client.call(method!("DescribeCollection"), asked).await?;
                let found = found.schema.unwrap_or_default();
                if let Some(why) = rows::misfit(&found, self.collection.dimension) {
                    return Err(StoreFault::Failed(format!(
                        "the collection `{name}` is not ours: {why}; remove it or set store.prefix"
                    )));
                }
            } else {
                self.collection.tell_of_others(&names.collection_names);
                self.create().await?;
            }
            self.load().await?;
            self.count_all(Selector::All).await.map(|_| ())
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(async move { self.get(EntryId(0)).await.map(|_| ()) })
    }
}

impl VectorStore for Milvus {
    fn get(&self, id: EntryId) -> BoxFuture<'_, Result<Option<Record>, StoreFault>> {
        Box::pin(async move {
            let expr = format!("{} == \"{id}\"", field::ID);
            let rows = self.rows(self.query(expr, &field::ALL, 1, Consistency::Eventually)).await?;
            if rows.texts(field::ID).is_empty() {
                return Ok(None);
            }
            // A record that cannot be read is as good as none: the next put writes over it.
            Ok(told(rows.record(0)))
        })
    }

    fn nearest(
        &self,
        partition: Arc<str>,
        vector: Vector,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Neighbour>, StoreFault>> {
        Box::pin(self.nearest_in(partition, vector, limit))
    }

    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(self.put_all(records))
    }

    fn count(&self, selector: Selector) -> BoxFuture<'_, Result<u64, StoreFault>> {
        Box::pin(self.count_all(selector))
    }

    fn delete(&self, selector: Selector) -> BoxFuture<'_, Result<u64, StoreFault>> {
        Box::pin(self.delete_all(selector))
    }

    fn holdings(&self, selector: Selector) -> BoxFuture<'_, Result<Vec<Holding>, StoreFault>> {
        Box::pin(self.holdings_of(selector))
    }

    /// An acknowledged write is in the server's log already; its own flush would only cut small
    /// segments.
    fn flush(&self) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(async { Ok(()) })
    }

    fn report(&self) -> StoreReport {
        StoreReport {
            kind: "milvus",
            collection: self.name(),
            records: *self.records.lock(),
            ..StoreReport::default()
        }
    }

    fn others(&self) -> BoxFuture<'_, Result<Vec<String>, StoreFault>> {
        Box::pin(async move {
            let asked = self.client.call(method!("ShowCollections"), ShowCollections {}).await;
            let CollectionNames { collection_names, .. } = asked?;
            let others = self.collection.others(&collection_names);
            Ok(others.into_iter().map(str::to_owned).collect())
        })
    }

    fn payload_max_bytes(&self) -> usize {
        rows::PAYLOAD_MAX_BYTES
    }
}

#[cfg(test)]
mod tests;
