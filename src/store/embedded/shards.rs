//! The two Edge shards of a collection, and everything that is asked of them.
//!
//! Edge blocks, and panics where it should fail (`flush` does so by design, and so does dropping a
//! shard). Nothing here runs on the runtime's threads, and nothing here lets a panic out.

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use qdrant_edge::{
    BinaryQuantizationConfig, BinaryQuantizationQueryEncoding, CountRequest, CreateIndex, Distance,
    EdgeConfig, EdgeOptimizersConfig, EdgeShard, EdgeVectorParams, FacetRequest, FacetValue,
    FieldIndexOperations, Filter, HnswIndexConfig, JsonPath, NamedQuery, OrderBy, OrderByInterface,
    PayloadFieldSchema, PointInsertOperations, PointOperations, PointStructPersisted,
    QuantizationSearchParams, QueryEnum, QueryRequest, Record as Point, ScalarQuantizationConfig,
    ScalarType, ScoringQuery, ScrollRequest, SearchParams, UpdateOperation, VectorStructInternal,
    WalOptions, WithPayloadInterface, WithVector,
};

use super::{change::Change, logs, points, reader::Page};
use crate::{
    embed::Vector,
    store::{EntryId, Neighbour, Quantization, Record, Selector, StoreFault},
};

/// Edge's default vector has the empty name.
const VECTOR: &str = "";

/// Each shard preallocates one log segment of this size, and up to three exist at a time.
const LOG_SEGMENT_BYTES: usize = 8 << 20;

/// How many candidates a search of a graph keeps in view. Measured by `make bench-store`.
const BREADTH: usize = 256;

/// The share of all numbers that the 256 steps span: a few extremes would make all steps coarse.
const INT8_QUANTILE: f32 = 0.99;

/// Records of one page of a list: a reader is taken from the lookups for some 10 ms by each.
const HOLDINGS_PAGE: usize = 512;

/// How Edge lays its segments out. Tests make them small.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Length of a vector.
    pub(super) dimension: usize,
    /// Segments with more KiB of vectors than this get an HNSW graph when optimized: Edge's own
    /// default, about 6,600 vectors of 384 numbers, below which a scan is as fast.
    pub(super) index_above_kib: usize,
    pub(super) quantization: Quantization,
}

impl Layout {
    pub(super) const fn new(dimension: usize, quantization: Quantization) -> Self {
        Self { dimension, index_above_kib: 10_000, quantization }
    }
}

/// An open collection.
pub(super) struct Shards {
    near: EdgeShard,
    records: EdgeShard,
    dir: PathBuf,
    layout: Layout,
}

impl Shards {
    /// Opens both shards under `dir`, side by side, creating what is not there.
    pub(super) fn open(dir: &Path, layout: Layout) -> Result<Self, StoreFault> {
        let near = || {
            let config = config(layout).vector(VECTOR, vectors(layout)).build();
            open_shard(&dir.join("near"), config, points::near_indexes())
        };
        let records =
            || open_shard(&dir.join("records"), config(layout).build(), points::record_indexes());
        let (near, records) = thread::scope(|scope| {
            let near = scope.spawn(|| guarded("opening", near));
            let records = guarded("opening", records);
            let ended = || StoreFault::Failed("a thread ended while opening".to_owned());
            (near.join().unwrap_or_else(|_| Err(ended())), records)
        });
        Ok(Self { near: near?, records: records?, dir: dir.to_owned(), layout })
    }

    /// Applies `changes` in order. After an error anything may have been applied, and Edge may
    /// refuse all further changes until the shards are opened again.
    pub(super) fn apply(&self, changes: &[Change]) -> Result<(), StoreFault> {
        guarded("writing", || {
            for run in changes.chunk_by(|a, b| is_put(a) && is_put(b)) {
                match run {
                    [Change::Delete(ids)] => self.delete(ids)?,
                    puts => self.put(puts)?,
                }
            }
            Ok(())
        })
    }

    /// The record of this id, with its vector.
    pub(super) fn get(&self, id: EntryId) -> Result<Option<Record>, StoreFault> {
        let all = Some(WithPayloadInterface::Bool(true));
        let found = self.records.retrieve(&[points::point_id(id)], all, None).map_err(failed)?;
        let Some(payload) = found.into_iter().next().and_then(|point| point.payload) else {
            return Ok(None);
        };
        // A record that cannot be read is as good as none: the next put writes over it.
        let Some(mut record) = told(points::record(id, &payload)) else { return Ok(None) };
        if points::has_vector(&payload) {
            record.vector = self.vector(id)?;
        }
        Ok(Some(record))
    }

    /// The nearest keys of one partition, nearest first.
    pub(super) fn nearest(
        &self,
        partition: &Arc<str>,
        vector: &Vector,
        limit: usize,
    ) -> Result<Vec<Neighbour>, StoreFault> {
        let query = NamedQuery { query: vector.to_vec().into(), using: None };
        let found = self.near.query(QueryRequest {
            prefetches: Vec::new(),
            query: Some(ScoringQuery::Vector(QueryEnum::Nearest(query))),
            filter: Some(points::in_partition(partition)),
            score_threshold: None,
            limit,
            offset: 0,
            params: Some(search_params(self.layout.quantization)),
            with_vector: WithVector::Bool(false),
            with_payload: WithPayloadInterface::Bool(true),
        });
        let found = found.map_err(failed)?;
        Ok(found.iter().filter_map(|found| told(points::neighbour(found))).collect())
    }

    /// How many records a selector means.
    pub(super) fn count(&self, selector: &Selector) -> Result<u64, StoreFault> {
        let request = CountRequest { filter: points::filter(selector), exact: true };
        self.records.count(request).map(|count| count as u64).map_err(failed)
    }

    /// The distinct answers that a selector means, out of the index: no payload is read.
    pub(super) fn answers(&self, selector: &Selector) -> Result<Vec<EntryId>, StoreFault> {
        let request = FacetRequest {
            key: points::path(points::field::ANSWER),
            limit: usize::MAX,
            filter: points::filter(selector),
            exact: true,
        };
        let hits = self.records.facet(request).map_err(failed)?.hits;
        let ids = hits.into_iter().filter_map(|hit| match hit.value {
            FacetValue::Uuid(id) => Some(EntryId(id)),
            FacetValue::Keyword(_) | FacetValue::Int(_) | FacetValue::Bool(_) => None,
        });
        Ok(ids.collect())
    }

    /// A page of what a selector means, from the id `from` on, and where the next one begins. Reads
    /// the answers themselves, for their sizes: some 20 us a record.
    pub(super) fn holdings(
        &self,
        selector: &Selector,
        from: Option<EntryId>,
        dimension: usize,
    ) -> Result<Page, StoreFault> {
        let (found, next) = self
            .records
            .scroll(ScrollRequest {
                offset: from.map(points::point_id),
                limit: Some(HOLDINGS_PAGE),
                filter: points::filter(selector),
                with_payload: Some(WithPayloadInterface::Bool(true)),
                with_vector: WithVector::Bool(false),
                order_by: None,
            })
            .map_err(failed)?;
        let held = found.iter().filter_map(|point| {
            let (id, payload) = (points::entry_id(&point.id)?, point.payload.as_ref()?);
            told(points::holding(id, payload, dimension))
        });
        Ok((held.collect(), next.as_ref().and_then(points::entry_id)))
    }

    /// Up to `limit` ids of what a selector means.
    pub(super) fn some(
        &self,
        selector: &Selector,
        limit: usize,
    ) -> Result<Vec<EntryId>, StoreFault> {
        self.scroll(points::filter(selector), None, limit)
    }

    /// The ids of the `limit` records that were generated first.
    pub(super) fn oldest(&self, limit: usize) -> Result<Vec<EntryId>, StoreFault> {
        let key = points::path(points::field::GENERATED_MS);
        let order = OrderBy { key, direction: None, start_from: None };
        self.scroll(None, Some(OrderByInterface::Struct(order)), limit)
    }

    /// About how many records there are.
    pub(super) fn len(&self) -> u64 {
        self.records.info().points_count as u64
    }

    /// How many vectors a search must scan because no graph covers them.
    pub(super) fn unindexed(&self) -> u64 {
        let info = self.near.info();
        info.points_count.saturating_sub(info.indexed_vectors_count) as u64
    }

    /// Brings all applied changes to disk, then frees the part of Edge's logs that this covers. The
    /// caller sees to it that nothing is written or optimized meanwhile: Edge would panic.
    pub(super) fn flush(&self) -> Result<(), StoreFault> {
        guarded("flushing", || {
            self.near.flush();
            self.records.flush();
            Ok(())
        })?;
        for name in ["near", "records"] {
            logs::trim(&self.dir.join(name).join("wal"));
        }
        Ok(())
    }

    /// Builds graphs, merges segments and drops deleted points where it is worth it. Takes minutes of
    /// CPU for a large store; lookups and changes go on meanwhile.
    pub(super) fn optimize(&self) -> Result<(), StoreFault> {
        guarded("optimizing", || {
            self.near.optimize().map_err(failed)?;
            self.records.optimize().map_err(failed)?;
            // The segment that takes the changes from now on may be new, and without indexes.
            self.ensure_indexes()
        })
    }

    /// Closes both shards, which flushes them; a panic in one of them does not reach the other.
    pub(super) fn close(self) {
        let Self { near, records, .. } = self;
        for shard in [near, records] {
            if let Err(fault) = guarded(
                "closing",
                AssertUnwindSafe(|| {
                    drop(shard);
                    Ok(())
                }),
            ) {
                tracing::warn!(%fault, "a shard did not close cleanly");
            }
        }
    }

    fn vector(&self, id: EntryId) -> Result<Option<Vector>, StoreFault> {
        let nothing = Some(WithPayloadInterface::Bool(false));
        let with_vector = Some(WithVector::Bool(true));
        let found = self.near.retrieve(&[points::point_id(id)], nothing, with_vector);
        let point: Option<Point> = found.map_err(failed)?.into_iter().next();
        Ok(match point.and_then(|point| point.vector) {
            Some(VectorStructInternal::Single(vector)) => Some(vector.into()),
            _ => None,
        })
    }

    fn scroll(
        &self,
        filter: Option<Filter>,
        order_by: Option<OrderByInterface>,
        limit: usize,
    ) -> Result<Vec<EntryId>, StoreFault> {
        let request = ScrollRequest {
            offset: None,
            limit: Some(limit),
            filter,
            with_payload: Some(WithPayloadInterface::Bool(false)),
            with_vector: WithVector::Bool(false),
            order_by,
        };
        let (found, _) = self.records.scroll(request).map_err(failed)?;
        Ok(found.iter().filter_map(|point| points::entry_id(&point.id)).collect())
    }

    fn put(&self, puts: &[Change]) -> Result<(), StoreFault> {
        // Within one batch the last word on an id counts, also on whether it has a vector.
        let mut latest = HashMap::with_capacity(puts.len());
        for change in puts {
            if let Change::Put(record) = change {
                latest.insert(record.id, record);
            }
        }
        let near = latest.values().filter_map(|record| points::near_point(record)).collect();
        let bare = latest.values().filter(|record| record.vector.is_none());
        let bare: Vec<_> = bare.map(|record| record.id).collect();
        upsert(&self.near, near)?;
        remove(&self.near, &bare)?;
        upsert(&self.records, latest.values().map(|record| points::record_point(record)).collect())
    }

    fn delete(&self, ids: &[EntryId]) -> Result<(), StoreFault> {
        remove(&self.near, ids)?;
        remove(&self.records, ids)
    }

    /// Creating an index that exists is a no-op.
    fn ensure_indexes(&self) -> Result<(), StoreFault> {
        index(&self.near, points::near_indexes())?;
        index(&self.records, points::record_indexes())
    }
}

/// One damaged point must not fail a whole search, nor look like a failing engine.
fn told<T>(result: Result<T, StoreFault>) -> Option<T> {
    result.inspect_err(|fault| tracing::warn!(%fault, "a stored record is skipped")).ok()
}

const fn is_put(change: &Change) -> bool {
    matches!(change, Change::Put(_))
}

/// Quantized, the full vectors stay on disk, mapped: the graph is built and walked over the small ones
/// in memory, and only candidates are looked at in full.
fn vectors(layout: Layout) -> EdgeVectorParams {
    let vectors = EdgeVectorParams::builder(layout.dimension, Distance::Cosine);
    match layout.quantization {
        Quantization::None => vectors.build(),
        Quantization::Int8 => {
            let int8 = ScalarQuantizationConfig {
                r#type: ScalarType::Int8,
                quantile: Some(INT8_QUANTILE),
                always_ram: Some(true),
            };
            vectors.on_disk(true).quantization_config(int8.into()).build()
        }
        Quantization::Binary => {
            let binary = BinaryQuantizationConfig {
                always_ram: Some(true),
                encoding: None,
                // A question is one: its own bits cost nothing and tell more.
                query_encoding: Some(BinaryQuantizationQueryEncoding::Scalar8Bits),
            };
            vectors.on_disk(true).quantization_config(binary.into()).build()
        }
    }
}

fn search_params(quantization: Quantization) -> SearchParams {
    let quantization = quantization.oversampling().map(|factor| QuantizationSearchParams {
        ignore: false,
        rescore: Some(true),
        oversampling: Some(factor),
    });
    SearchParams { hnsw_ef: Some(BREADTH), quantization, ..SearchParams::default() }
}

fn config(layout: Layout) -> qdrant_edge::EdgeConfigBuilder {
    // Building a graph must leave cores to the traffic, on whatever machine this is.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    EdgeConfig::builder()
        .on_disk_payload(true)
        .hnsw_config(HnswIndexConfig {
            max_indexing_threads: (cores / 2).clamp(1, 8),
            ..HnswIndexConfig::default()
        })
        .optimizers(EdgeOptimizersConfig {
            indexing_threshold: Some(layout.index_above_kib),
            // Each segment costs a search about as much as any other, however small it is.
            default_segment_number: Some(2),
            // Evicting an eighth of a full store must be enough to get disk space back.
            deleted_threshold: Some(0.1),
            vacuum_min_vector_number: Some(100),
            ..EdgeOptimizersConfig::default()
        })
        .wal_options(WalOptions { segment_capacity: LOG_SEGMENT_BYTES, ..WalOptions::default() })
}

fn open_shard(
    dir: &Path,
    config: EdgeConfig,
    indexes: Vec<(JsonPath, PayloadFieldSchema)>,
) -> Result<EdgeShard, StoreFault> {
    std::fs::create_dir_all(dir).map_err(failed)?;
    logs::trim(&dir.join("wal"));
    // What an interrupted optimization had built so far.
    std::fs::remove_dir_all(dir.join("temp_segments")).ok();
    // Loading an empty folder with a configuration creates the shard.
    let shard = EdgeShard::load(dir, Some(config)).map_err(failed)?;
    index(&shard, indexes)?;
    Ok(shard)
}

fn index(shard: &EdgeShard, fields: Vec<(JsonPath, PayloadFieldSchema)>) -> Result<(), StoreFault> {
    for (field_name, schema) in fields {
        let index = CreateIndex { field_name, field_schema: Some(schema) };
        let operation = FieldIndexOperations::CreateIndex(index);
        shard.update(UpdateOperation::FieldIndexOperation(operation)).map_err(failed)?;
    }
    Ok(())
}

fn upsert(shard: &EdgeShard, points: Vec<PointStructPersisted>) -> Result<(), StoreFault> {
    if points.is_empty() {
        return Ok(());
    }
    let points = PointInsertOperations::PointsList(points);
    let operation = UpdateOperation::PointOperation(PointOperations::UpsertPoints(points));
    shard.update(operation).map_err(failed)
}

fn remove(shard: &EdgeShard, ids: &[EntryId]) -> Result<(), StoreFault> {
    if ids.is_empty() {
        return Ok(());
    }
    let ids = ids.iter().map(|id| points::point_id(*id)).collect();
    let operation = UpdateOperation::PointOperation(PointOperations::DeletePoints { ids });
    shard.update(operation).map_err(failed)
}

/// Turns a panic inside Edge into a fault.
pub(super) fn guarded<T>(
    doing: &str,
    work: impl FnOnce() -> Result<T, StoreFault>,
) -> Result<T, StoreFault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(StoreFault::Failed(format!("a panic while {doing}: {message}")))
    })
}

fn failed(error: impl fmt::Display) -> StoreFault {
    StoreFault::Failed(error.to_string())
}
