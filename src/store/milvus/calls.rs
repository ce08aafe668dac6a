//! The calls that keep and find records.

use std::{sync::Arc, time::Duration};

use prost::Message as _;

use super::{
    Milvus,
    expressions::{expression, quoted},
    proto::{
        Column, Consistency, CreateCollection, CreateIndex, Delete, FieldData, GetLoadState,
        KeyValuePair, LoadState, Mutation, OfCollection, PlaceholderGroup, PlaceholderValue, Query,
        QueryResults, Scalars, Search, SearchResultData, SearchResults, Status, Upsert, data_type,
    },
    rows::{self, Rows, field},
};
use crate::{
    embed::{Vector, cosine},
    store::{
        EntryId, Holding, IN_VIEW, Neighbour, Quantization, Record, Selector, StoreFault,
        remote::{batches, latest},
    },
};

/// Rows of one answer of the server: it allows 16,384.
pub(super) const PAGE: usize = 8192;

/// Ids of one deletion.
const DELETE_PAGE: usize = 4096;

/// Bytes of one upsert: a quarter of what the server takes.
pub(super) const BATCH_BYTES: usize = 16 << 20;

/// Candidates that are looked at again in full for each one that is wanted.
const OVERSAMPLING: usize = 3;

/// Rows that have no graph yet lie in lists, of which a search opens an eighth
/// (`queryNode.segcore.interimIndex`: 16 of 128), whatever it asks for and however few its filter leaves: of
/// a small partition it finds next to none. So where it has found fewer than were wanted, there are about
/// that many times more at most, and they are compared one by one.
const UNOPENED: usize = 8;

/// Physical partitions of a collection; each costs the server some memory.
const PARTITIONS: i64 = 16;

impl Milvus {
    pub(super) async fn create(&self) -> Result<(), StoreFault> {
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
            // Of its two, Milvus has one byte a number: config refuses the other.
            Quantization::Int8 | Quantization::Binary => {
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

    pub(super) async fn load(&self) -> Result<(), StoreFault> {
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

    pub(super) fn query(
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

    pub(super) async fn rows(&self, query: Query) -> Result<Rows, StoreFault> {
        let results: QueryResults = self.client.call(method!("Query"), query).await?;
        Ok(Rows::new(results.fields_data))
    }

    pub(super) async fn put_all(&self, records: Vec<Record>) -> Result<(), StoreFault> {
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

    pub(super) async fn count_all(&self, selector: Selector) -> Result<u64, StoreFault> {
        let mut query = self.query(expression(&selector), &["count(*)"], 1, Consistency::Strong);
        query.query_params.clear();
        let rows = self.rows(query).await?;
        let count = rows.number("count(*)").unwrap_or(0);
        if selector == Selector::All {
            *self.records.lock() = count;
        }
        Ok(count)
    }

    pub(super) async fn delete_all(&self, selector: Selector) -> Result<u64, StoreFault> {
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
    pub(super) async fn holdings_of(&self, selector: Selector) -> Result<Vec<Holding>, StoreFault> {
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

    pub(super) async fn nearest_in(
        &self,
        partition: Arc<str>,
        vector: Vector,
        limit: usize,
    ) -> Result<Vec<Neighbour>, StoreFault> {
        let Some(within) = within(&partition) else { return Ok(Vec::new()) };
        let search = self.search(within.clone(), &vector, limit);
        let found: SearchResults = self.client.call(method!("Search"), search).await?;
        let mut near = found.results.map(|found| searched(found, &vector)).unwrap_or_default();
        if near.len() < limit {
            let fields = [&field::NEIGHBOUR[..], &[field::VECTOR]].concat();
            let all = self.query(within, &fields, limit * UNOPENED, Consistency::Eventually);
            match self.rows(all).await {
                Ok(rows) => {
                    let mut missed = neighbours(&rows, &[], &vector);
                    missed.retain(|one| near.iter().all(|found| found.id != one.id));
                    near.extend(missed);
                }
                Err(fault) if near.is_empty() => return Err(fault),
                Err(fault) => tracing::debug!(%fault, "only what the search has found"),
            }
        }
        near.retain(|one| one.partition == partition);
        near.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        near.truncate(limit);
        Ok(near)
    }

    fn search(&self, within: String, vector: &Vector, limit: usize) -> Search {
        let bytes = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
        let placeholder = PlaceholderValue {
            tag: "$0".to_owned(),
            kind: data_type::FLOAT_VECTOR,
            values: vec![bytes],
        };
        let group = PlaceholderGroup { placeholders: vec![placeholder] };
        let exact = self.options.quantization == Quantization::None;
        let candidates = if exact { limit } else { limit * OVERSAMPLING };
        let in_view = candidates.max(IN_VIEW);
        // The second is for lists, of which an index of ours has 1,024.
        let params = format!(r#"{{"ef":{in_view},"nprobe":{in_view}}}"#);
        let mut fields = field::NEIGHBOUR.to_vec();
        if !exact {
            fields.push(field::VECTOR);
        }
        Search {
            collection_name: self.name(),
            dsl: within,
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
        }
    }
}

/// What has a vector in this partition; `None` for what no partition is called.
fn within(partition: &str) -> Option<String> {
    let partition = quoted(partition)?;
    Some(format!("{} == {partition} and {} == true", field::PARTITION, field::NEAR))
}

fn searched(found: SearchResultData, vector: &Vector) -> Vec<Neighbour> {
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
    neighbours(&Rows::new(columns), &found.scores, vector)
}

/// The similarity is that of the full vectors where they came along, however candidates were found.
fn neighbours(rows: &Rows, scores: &[f32], vector: &Vector) -> Vec<Neighbour> {
    let row = |row| {
        let full = rows.vector(row).map(|kept| cosine(&kept, vector));
        let similarity = full.or_else(|| scores.get(row).copied()).unwrap_or(-1.0);
        told(rows.neighbour(row, similarity))
    };
    (0..rows.texts(field::ID).len()).filter_map(row).collect()
}

/// One damaged row must not fail a whole lookup, nor look like a failing server.
pub(super) fn told<T>(row: Result<T, StoreFault>) -> Option<T> {
    row.inspect_err(|fault| tracing::warn!(%fault, "a stored record is skipped")).ok()
}
