//! A Qdrant server or cluster, over gRPC.
//!
//! One point a record; its vector has a name, so that a record without one is a point too. Writes
//! wait until they are applied on `write_consistency` replicas, so what was acknowledged is found.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use qdrant_client::{
    Qdrant as Client, QdrantError,
    qdrant::{
        BinaryQuantizationBuilder, BinaryQuantizationQueryEncoding, CountPointsBuilder,
        CreateCollectionBuilder, CreateFieldIndexCollectionBuilder, DeletePointsBuilder, Distance,
        GetPointsBuilder, HnswConfigDiffBuilder, PointId, QueryPointsBuilder,
        ScalarQuantizationBuilder, ScrollPointsBuilder, UpsertPointsBuilder, VectorParamsBuilder,
        VectorParamsMap, VectorsConfig,
        binary_quantization_query_encoding::{Setting, Variant},
        vectors_config,
    },
};

use super::{
    EntryId, Holding, Neighbour, Quantization, Record, Selector, StoreFault, StoreReport,
    VectorStore,
    collection::Collection,
    remote::{Address, Remote, batches, latest},
};
use crate::embed::Vector;

mod points;

/// Bytes of one upsert; servers behind a proxy often take no more than 32 MiB.
const BATCH_BYTES: usize = 16 << 20;

/// Points of one page of a scroll.
const PAGE: u32 = 10_000;

/// The largest payload of a record.
const PAYLOAD_MAX_BYTES: usize = 16 << 20;

/// Links of a vector to others of its partition: Qdrant's default, and the embedded store's.
const LINKS: u64 = 16;

/// Counting and deleting a million points takes a while; the shield has a deadline of its own.
const CALL_TIME: Duration = Duration::from_secs(60);

/// How a new collection is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QdrantOptions {
    /// Shards.
    pub shards: u32,
    /// Copies of each shard.
    pub replicas: u32,
    /// Copies that must have a write.
    pub write_consistency: u32,
    /// How vectors are kept for finding candidates.
    pub quantization: Quantization,
}

/// One collection of one Qdrant.
pub struct Qdrant {
    client: Client,
    collection: Collection,
    options: QdrantOptions,
    /// As of the last count.
    records: Mutex<u64>,
}

impl Qdrant {
    /// A collection that is not looked at before [`Remote::prepare`].
    ///
    /// # Errors
    /// Where the address cannot be used at all.
    pub fn new(
        address: &Address,
        collection: Collection,
        options: QdrantOptions,
    ) -> Result<Self, StoreFault> {
        let config = Client::from_url(&address.url)
            .timeout(CALL_TIME)
            .connect_timeout(address.connect_timeout)
            .keep_alive_while_idle()
            .skip_compatibility_check();
        let config = match &address.api_key {
            Some(key) => config.api_key(key.as_str()),
            None => config,
        };
        let client = config.build().map_err(|error| fault(&error))?;
        Ok(Self { client, collection, options, records: Mutex::new(0) })
    }

    fn name(&self) -> &str {
        &self.collection.name
    }

    async fn create(&self) -> Result<(), StoreFault> {
        let mut params =
            VectorParamsBuilder::new(self.collection.dimension as u64, Distance::Cosine);
        params = match self.options.quantization {
            Quantization::None => params,
            Quantization::Int8 => {
                params.quantization_config(ScalarQuantizationBuilder::default().always_ram(true))
            }
            Quantization::Binary => {
                // A question is one: its own bits cost nothing and tell more.
                let bits = Variant::Setting(Setting::Scalar8Bits.into());
                let question = BinaryQuantizationQueryEncoding { variant: Some(bits) };
                let binary = BinaryQuantizationBuilder::new(true).query_encoding(question);
                params.quantization_config(binary)
            }
        };
        let named = HashMap::from([(points::VECTOR.to_owned(), params.build())]);
        let vectors = VectorsConfig {
            config: Some(vectors_config::Config::ParamsMap(VectorParamsMap { map: named })),
        };
        let create = CreateCollectionBuilder::new(self.name())
            .vectors_config(vectors)
            .hnsw_config(HnswConfigDiffBuilder::default().m(0).payload_m(LINKS))
            .shard_number(self.options.shards)
            .replication_factor(self.options.replicas)
            .write_consistency_factor(self.options.write_consistency)
            .on_disk_payload(true);
        self.client.create_collection(create).await.map_err(|error| fault(&error))?;
        Ok(())
    }

    /// Creating an index that exists is a no-op.
    async fn index(&self) -> Result<(), StoreFault> {
        for (field, kind, params) in points::indexes() {
            let index = CreateFieldIndexCollectionBuilder::new(self.name(), field, kind)
                .field_index_params(params)
                .wait(true);
            self.client.create_field_index(index).await.map_err(|error| fault(&error))?;
        }
        Ok(())
    }

    async fn check(&self) -> Result<(), StoreFault> {
        let name = self.name();
        let info = self.client.collection_info(name).await.map_err(|error| fault(&error))?;
        let params = info.result.and_then(|info| info.config).and_then(|config| config.params);
        let config = params.and_then(|params| params.vectors_config).and_then(|one| one.config);
        let why = match config {
            Some(vectors_config::Config::ParamsMap(map)) => {
                match map.map.get(points::VECTOR).map(|params| (params.size, params.distance)) {
                    None => format!("it has no vector `{}`", points::VECTOR),
                    Some((size, distance)) => {
                        let dimension = self.collection.dimension as u64;
                        if size == dimension && distance == Distance::Cosine as i32 {
                            return Ok(());
                        }
                        format!("its vectors have {size} numbers, not {dimension}, or no cosine")
                    }
                }
            }
            _ => "its vector has no name".to_owned(),
        };
        Err(StoreFault::Failed(format!(
            "the collection `{name}` is not ours: {why}; remove it or set store.prefix"
        )))
    }

    async fn get_one(&self, id: EntryId) -> Result<Option<Record>, StoreFault> {
        let get = GetPointsBuilder::new(self.name(), vec![points::point_id(id)])
            .with_payload(true)
            .with_vectors(true);
        let found = self.client.get_points(get).await.map_err(|error| fault(&error))?.result;
        // A record that cannot be read is as good as none: the next put writes over it.
        Ok(found.into_iter().next().and_then(|point| told(points::record(id, point))))
    }

    async fn nearest_in(
        &self,
        partition: Arc<str>,
        vector: Vector,
        limit: usize,
    ) -> Result<Vec<Neighbour>, StoreFault> {
        let query = QueryPointsBuilder::new(self.name())
            .query(vector.to_vec())
            .using(points::VECTOR)
            .filter(points::in_partition(&partition))
            .limit(limit as u64)
            .params(points::search_params(self.options.quantization))
            .with_payload(points::neighbour_fields());
        let found = self.client.query(query).await.map_err(|error| fault(&error))?.result;
        let near = found.into_iter().filter_map(|point| told(points::neighbour(&point)));
        Ok(near.filter(|one| one.partition == partition).collect())
    }

    async fn put_all(&self, records: Vec<Record>) -> Result<(), StoreFault> {
        for batch in batches(latest(records), BATCH_BYTES) {
            let batch = batch.iter().map(points::point).collect::<Vec<_>>();
            let upsert = UpsertPointsBuilder::new(self.name(), batch).wait(true);
            self.client.upsert_points(upsert).await.map_err(|error| fault(&error))?;
        }
        Ok(())
    }

    async fn count_all(&self, selector: Selector) -> Result<u64, StoreFault> {
        let count =
            CountPointsBuilder::new(self.name()).filter(points::filter(&selector)).exact(true);
        let counted = self.client.count(count).await.map_err(|error| fault(&error))?;
        let count = counted.result.map_or(0, |result| result.count);
        if selector == Selector::All {
            *self.records.lock() = count;
        }
        Ok(count)
    }

    async fn delete_all(&self, selector: Selector) -> Result<u64, StoreFault> {
        let count = self.count_all(selector.clone()).await?;
        if count > 0 {
            let delete =
                DeletePointsBuilder::new(self.name()).points(points::filter(&selector)).wait(true);
            self.client.delete_points(delete).await.map_err(|error| fault(&error))?;
        }
        Ok(count)
    }

    async fn holdings_of(&self, selector: Selector) -> Result<Vec<Holding>, StoreFault> {
        let mut held = Vec::new();
        let mut offset: Option<PointId> = None;
        loop {
            let mut scroll = ScrollPointsBuilder::new(self.name())
                .filter(points::filter(&selector))
                .limit(PAGE)
                .with_payload(points::holding_fields());
            if let Some(offset) = offset.take() {
                scroll = scroll.offset(offset);
            }
            let page = self.client.scroll(scroll).await.map_err(|error| fault(&error))?;
            held.extend(page.result.iter().filter_map(|point| told(points::holding(point))));
            offset = page.next_page_offset;
            if offset.is_none() {
                return Ok(held);
            }
        }
    }
}

impl Remote for Qdrant {
    fn prepare(&self) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(async move {
            let listed = self.client.list_collections().await.map_err(|error| fault(&error))?;
            let names: Vec<_> = listed.collections.into_iter().map(|one| one.name).collect();
            if !names.iter().any(|name| name == self.name()) {
                self.collection.tell_of_others(&names);
                if let Err(error) = self.create().await {
                    // Another replica may have been faster; the check below says more.
                    tracing::debug!(%error, "the collection was not created");
                }
            }
            self.check().await?;
            self.index().await?;
            self.count_all(Selector::All).await.map(|_| ())
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(async move { self.get_one(EntryId(0)).await.map(|_| ()) })
    }
}

impl VectorStore for Qdrant {
    fn get(&self, id: EntryId) -> BoxFuture<'_, Result<Option<Record>, StoreFault>> {
        Box::pin(self.get_one(id))
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

    /// Each write waits until it is applied and in the server's log.
    fn flush(&self) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(async { Ok(()) })
    }

    fn report(&self) -> StoreReport {
        StoreReport {
            kind: "qdrant",
            collection: self.name().to_owned(),
            records: *self.records.lock(),
            ..StoreReport::default()
        }
    }

    fn others(&self) -> BoxFuture<'_, Result<Vec<String>, StoreFault>> {
        Box::pin(async move {
            let listed = self.client.list_collections().await.map_err(|error| fault(&error))?;
            let names: Vec<_> = listed.collections.into_iter().map(|one| one.name).collect();
            Ok(self.collection.others(&names).into_iter().map(str::to_owned).collect())
        })
    }

    fn payload_max_bytes(&self) -> usize {
        PAYLOAD_MAX_BYTES
    }
}

/// One damaged point must not fail a whole lookup, nor look like a failing server.
fn told<T>(point: Result<T, StoreFault>) -> Option<T> {
    point.inspect_err(|fault| tracing::warn!(%fault, "a stored record is skipped")).ok()
}

fn fault(error: &QdrantError) -> StoreFault {
    use tonic::Code::{Cancelled, DeadlineExceeded, Internal, Unavailable, Unknown};
    let QdrantError::ResponseError { status } = error else {
        return match error {
            QdrantError::ResourceExhaustedError { .. } => StoreFault::Busy,
            other => StoreFault::Failed(other.to_string()),
        };
    };
    let text = status.message().to_owned();
    if ["No space left", "Not enough space", "out of disk"].iter().any(|full| text.contains(full)) {
        return StoreFault::Full(text);
    }
    match status.code() {
        // The client says `Internal` where it cannot connect.
        Cancelled | DeadlineExceeded | Unavailable | Unknown => StoreFault::Unavailable(text),
        Internal if text.starts_with("Failed to connect") => StoreFault::Unavailable(text),
        _ => StoreFault::Failed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        embed::Identity,
        store::{
            contract::{self, DIMENSION},
            remote::{Limits, Shield},
        },
    };

    /// On a real server when `REPRISE_TEST_QDRANT=http://HOST:6334` names one.
    #[tokio::test(flavor = "multi_thread")]
    async fn qdrant_keeps_the_contract() {
        let Some(url) = std::env::var("REPRISE_TEST_QDRANT").ok().filter(|url| !url.is_empty())
        else {
            return;
        };
        for quantization in [Quantization::None, Quantization::Int8, Quantization::Binary] {
            let identity = Identity {
                name: "m".into(),
                digest: "0".repeat(16),
                dimension: DIMENSION,
                window_tokens: 256,
            };
            let prefix = format!("test {} {quantization:?}", std::process::id());
            let collection = Collection::of(&prefix, &identity);
            let address = Address {
                url: url.clone(),
                api_key: None,
                connect_timeout: Duration::from_secs(20),
            };
            let options =
                QdrantOptions { shards: 2, replicas: 1, write_consistency: 1, quantization };
            let limits = Limits { lookup: Duration::from_secs(20), in_flight: 64 };
            let open = async || {
                let store = Qdrant::new(&address, collection.clone(), options).unwrap();
                let store = Shield::new(store, limits, None);
                assert!(store.ready(Duration::from_secs(60)).await, "{:?}", store.report().trouble);
                store
            };
            contract::check(open).await;
            let client = Client::from_url(&url).build().unwrap();
            client.delete_collection(&collection.name).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unavailable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let address = Address { url, api_key: None, connect_timeout: Duration::from_secs(1) };
        let options = QdrantOptions {
            shards: 1,
            replicas: 1,
            write_consistency: 1,
            quantization: Quantization::None,
        };
        let store = Qdrant::new(&address, Collection::meta("x"), options).unwrap();
        let fault = store.get(EntryId(1)).await.unwrap_err();
        assert!(matches!(fault, StoreFault::Unavailable(_)), "{fault:?}");
    }
}
