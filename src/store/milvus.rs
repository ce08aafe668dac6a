//! A Milvus server or cluster (2.3 or later, Zilliz Cloud, `milvus-lite`), over gRPC.
//!
//! Milvus shows a write to readers some time after it has acknowledged it (a tick of its clock, 0.2 s).
//! Lookups do not wait for that: they read what is visible. Writes wait until they are visible, which
//! costs nobody anything, for they happen behind the answer; counting and deleting read strictly, so
//! that a purge is exact.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message as _;

use self::{
    client::Client,
    proto::{
        CollectionNames, Column, Consistency, CreateCollection, CreateIndex, Delete, Description,
        FieldData, GetLoadState, KeyValuePair, LoadState, Mutation, OfCollection, PlaceholderGroup,
        PlaceholderValue, Query, QueryResults, Scalars, Search, SearchResults, ShowCollections,
        Status, Upsert, data_type,
    },
    rows::{Marked, Rows, field, mark},
};
use super::{
    EntryId, Holding, Neighbour, Record, Selector, StoreFault, StoreReport, VectorStore,
    collection::Collection,
    remote::{Address, Quantization, Remote, batches, latest},
};
use crate::embed::{Vector, cosine};

mod client;
mod proto;
mod rows;

/// The path of one method.
macro_rules! method {
    ($name:literal) => {
        concat!("/milvus.proto.milvus.MilvusService/", $name)
    };
}

/// Rows of one answer of the server: it allows 16,384.
const PAGE: usize = 8192;

/// Ids of one deletion.
const DELETE_PAGE: usize = 4096;

/// Bytes of one upsert: a quarter of what the server takes.
const BATCH_BYTES: usize = 16 << 20;

/// Candidates that are looked at again in full for each one that is wanted.
const OVERSAMPLING: usize = 3;

/// Physical partitions of a collection; each costs the server some memory.
const PARTITIONS: i64 = 16;

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

    async fn create(&self) -> Result<(), StoreFault> {
        let name = self.name();
        let schema = rows::schema(&name, self.collection.dimension);
        let create = CreateCollection {
            collection_name: name.clone(),
            schema: schema.encode_to_vec(),
            shards_num: self.options.shards,
            consistency_level: Consistency::Eventually as i32,
            num_partitions: PARTITIONS,
        };
        let _: Status = self.client.call(method!("CreateCollection"), create).await?;
        self.index_vectors().await?;
        // Servers before 2.4 know only the second. Without either it is only slower.
        for kind in ["INVERTED", "Trie"] {
            let index = vec![KeyValuePair::new("index_type", kind)];
            if self.index(field::PARTITION, index).await.is_ok() {
                break;
            }
        }
        Ok(())
    }

    /// Graphs of M and efConstruction as in Qdrant's defaults; a graph over quantized vectors is known
    /// from 2.5 on.
    async fn index_vectors(&self) -> Result<(), StoreFault> {
        let params = |kind: &str, params: &str| {
            let all = [("index_type", kind), ("metric_type", "COSINE"), ("params", params)];
            all.map(|(key, value)| KeyValuePair::new(key, value)).to_vec()
        };
        match self.options.quantization {
            Quantization::None => {
                let graph = params("HNSW", r#"{"M":16,"efConstruction":128}"#);
                self.index(field::VECTOR, graph).await
            }
            Quantization::Int8 => {
                let graph = params("HNSW_SQ", r#"{"M":16,"efConstruction":128,"sq_type":"SQ8"}"#);
                match self.index(field::VECTOR, graph).await {
                    Ok(()) => Ok(()),
                    Err(_) => {
                        let lists = params("IVF_SQ8", r#"{"nlist":1024}"#);
                        self.index(field::VECTOR, lists).await
                    }
                }
            }
        }
    }

    async fn index(&self, name: &str, params: Vec<KeyValuePair>) -> Result<(), StoreFault> {
        let index = CreateIndex {
            collection_name: self.name(),
            field_name: name.to_owned(),
            extra_params: params,
            index_name: format!("{name}_index"),
        };
        let _: Status = self.client.call(method!("CreateIndex"), index).await?;
        Ok(())
    }

    async fn load(&self) -> Result<(), StoreFault> {
        let load =
            OfCollection { collection_name: self.name(), replica_number: self.options.replicas };
        let _: Status = self.client.call(method!("LoadCollection"), load).await?;
        loop {
            let asked = GetLoadState { collection_name: self.name() };
            let LoadState { state, .. } = self.client.call(method!("GetLoadState"), asked).await?;
            if state == 3 {
                return Ok(());
            }
            // Whoever prepares has a deadline of its own.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until everything up to `timestamp` can be read.
    async fn visible(&self, timestamp: u64) -> Result<(), StoreFault> {
        let nobody = format!("{} == \"\"", field::ID);
        let query = Query {
            guarantee_timestamp: timestamp,
            ..self.query(nobody, &[field::ID], 1, Consistency::Session)
        };
        let _: QueryResults = self.client.call(method!("Query"), query).await?;
        Ok(())
    }

    fn query(
        &self,
        expr: String,
        fields: &[&str],
        limit: usize,
        consistency: Consistency,
    ) -> Query {
        Query {
            collection_name: self.name(),
            expr,
            output_fields: fields.iter().map(|name| (*name).to_owned()).collect(),
            guarantee_timestamp: 0,
            query_params: vec![KeyValuePair::new("limit", limit)],
            consistency_level: consistency as i32,
        }
    }

    async fn rows(&self, query: Query) -> Result<Rows, StoreFault> {
        let results: QueryResults = self.client.call(method!("Query"), query).await?;
        Ok(Rows::new(results.fields_data))
    }

    async fn put_all(&self, records: Vec<Record>) -> Result<(), StoreFault> {
        let mut timestamp = 0;
        for batch in batches(latest(records), BATCH_BYTES) {
            let upsert = Upsert {
                collection_name: self.name(),
                fields_data: rows::columns(&batch, self.collection.dimension)?,
                num_rows: u32::try_from(batch.len()).unwrap_or(u32::MAX),
            };
            let done: Mutation = self.client.call(method!("Upsert"), upsert).await?;
            timestamp = timestamp.max(done.timestamp);
        }
        self.visible(timestamp).await
    }

    async fn count_all(&self, selector: Selector) -> Result<u64, StoreFault> {
        let mut query = self.query(expression(&selector), &["count(*)"], 1, Consistency::Strong);
        query.query_params.clear();
        let rows = self.rows(query).await?;
        let count = rows.number("count(*)").unwrap_or(0);
        if selector == Selector::All {
            *self.records.lock() = count;
        }
        Ok(count)
    }

    async fn delete_all(&self, selector: Selector) -> Result<u64, StoreFault> {
        let (mut deleted, mut timestamp) = (0, 0);
        loop {
            let query =
                self.query(expression(&selector), &[field::ID], DELETE_PAGE, Consistency::Strong);
            let rows = self.rows(query).await?;
            let ids = rows.texts(field::ID);
            if ids.is_empty() {
                break;
            }
            deleted += ids.len() as u64;
            let expr = format!("{} in [\"{}\"]", field::ID, ids.join("\", \""));
            let done: Mutation = self
                .client
                .call(method!("Delete"), Delete { collection_name: self.name(), expr })
                .await?;
            timestamp = done.timestamp;
        }
        if deleted > 0 {
            self.visible(timestamp).await?;
        }
        Ok(deleted)
    }

    /// Milvus gives no page after a page, and no order. Ids are hashes: ranges of them are about
    /// equally full, and one that fills a page is halved.
    async fn holdings_of(&self, selector: Selector) -> Result<Vec<Holding>, StoreFault> {
        let wanted = expression(&selector);
        let wanted = if wanted.is_empty() { String::new() } else { format!("({wanted}) and ") };
        let mut ranges = vec![(0, u128::MAX)];
        let mut held = Vec::new();
        while let Some((low, high)) = ranges.pop() {
            let (id, low_id, high_id) = (field::ID, EntryId(low), EntryId(high));
            let expr = format!("{wanted}{id} >= \"{low_id}\" and {id} <= \"{high_id}\"");
            let query = self.query(expr, &field::HOLDING, PAGE, Consistency::Strong);
            let rows = self.rows(query).await?;
            let found = rows.texts(field::ID).len();
            if found >= PAGE && low < high {
                let middle = low + (high - low) / 2;
                ranges.extend([(low, middle), (middle + 1, high)]);
                continue;
            }
            held.extend((0..found).filter_map(|row| told(rows.holding(row))));
        }
        Ok(held)
    }

    async fn nearest_in(
        &self,
        partition: Arc<str>,
        vector: Vector,
        limit: usize,
    ) -> Result<Vec<Neighbour>, StoreFault> {
        let Some(partition_text) = quoted(&partition) else { return Ok(Vec::new()) };
        let bytes = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
        let placeholder = PlaceholderValue {
            tag: "$0".to_owned(),
            kind: data_type::FLOAT_VECTOR,
            values: vec![bytes],
        };
        let group = PlaceholderGroup { placeholders: vec![placeholder] };
        let exact = self.options.quantization == Quantization::None;
        let candidates = if exact { limit } else { limit * OVERSAMPLING };
        let breadth = (candidates * 8).clamp(64, 512);
        let params = format!(r#"{{"ef":{breadth},"nprobe":{breadth}}}"#);
        let mut fields = field::NEIGHBOUR.to_vec();
        if !exact {
            fields.push(field::VECTOR);
        }
        let search = Search {
            collection_name: self.name(),
            dsl: format!("{} == {partition_text} and {} == true", field::PARTITION, field::NEAR),
            placeholder_group: group.encode_to_vec(),
            dsl_type: 1,
            output_fields: fields.into_iter().map(str::to_owned).collect(),
            search_params: vec![
                KeyValuePair::new("anns_field", field::VECTOR),
                KeyValuePair::new("topk", candidates),
                KeyValuePair::new("metric_type", "COSINE"),
                KeyValuePair::new("params", params),
                KeyValuePair::new("round_decimal", -1),
                KeyValuePair::new("ignore_growing", "False"),
            ],
            nq: 1,
            consistency_level: Consistency::Eventually as i32,
        };
        let found: SearchResults = self.client.call(method!("Search"), search).await?;
        let Some(found) = found.results else { return Ok(Vec::new()) };
        let mut columns = found.fields_data;
        if let Some(ids) = found.ids.and_then(|ids| ids.strings) {
            // Some servers give the key only here.
            columns.retain(|column| column.field_name != field::ID);
            columns.push(FieldData {
                data_type: data_type::VARCHAR,
                field_name: field::ID.to_owned(),
                scalars: Some(Scalars { column: Some(Column::Strings(ids)) }),
                vectors: None,
            });
        }
        let rows = Rows::new(columns);
        let scores = found.scores.iter().enumerate();
        // The similarity is that of the full vectors, however the candidates were found.
        let near = scores.filter_map(|(row, score)| {
            let full = rows.vector(row).map(|kept| cosine(&kept, &vector));
            told(rows.neighbour(row, full.unwrap_or(*score)))
        });
        let mut near: Vec<_> = near.filter(|one| one.partition == partition).collect();
        near.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        near.truncate(limit);
        Ok(near)
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

/// One damaged row must not fail a whole lookup, nor look like a failing server.
fn told<T>(row: Result<T, StoreFault>) -> Option<T> {
    row.inspect_err(|fault| tracing::warn!(%fault, "a stored record is skipped")).ok()
}

/// What a selector means, as Milvus' boolean expression; empty: everything.
fn expression(selector: &Selector) -> String {
    let marked =
        |kind, text: &str| format!("array_contains({}, \"{}\")", field::MARKS, mark(kind, text));
    // Times beyond what Milvus can hold are cut to its last one, when written and when asked for.
    let time = |ms: &u64| i64::try_from(*ms).unwrap_or(i64::MAX);
    match selector {
        Selector::All => String::new(),
        Selector::Answer(id) => format!("{} == \"{id}\"", field::ANSWER),
        Selector::Model(name) => marked(Marked::Model, name),
        Selector::Route(name) => marked(Marked::Route, name),
        Selector::Tenant(name) => marked(Marked::Tenant, name),
        Selector::Tag(name) => marked(Marked::Tag, name),
        Selector::Before(ms) => format!("{} < {}", field::GENERATED_MS, time(ms)),
        Selector::ExpiredAt(ms) => format!("{} <= {}", field::EXPIRES_MS, time(ms)),
    }
}

/// A text inside an expression; `None` for what no partition holds.
fn quoted(text: &str) -> Option<String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    plain.then(|| format!("\"{text}\""))
}

#[cfg(test)]
mod tests;
