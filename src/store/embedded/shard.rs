//! One Edge shard: how it is laid out, opened and written to.
//!
//! Edge panics where it should fail: [`guarded`] turns that into a fault.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use qdrant_edge::{
    BinaryQuantizationConfig, BinaryQuantizationQueryEncoding, CreateIndex, Distance, EdgeConfig,
    EdgeConfigBuilder, EdgeOptimizersConfig, EdgeShard, EdgeVectorParams, FieldIndexOperations,
    HnswIndexConfig, JsonPath, PayloadFieldSchema, PointInsertOperations, PointOperations,
    PointStructPersisted, QuantizationSearchParams, ScalarQuantizationConfig, ScalarType,
    SearchParams, UpdateOperation, WalOptions,
};

use super::{logs, points};
use crate::store::{EntryId, IN_VIEW, Quantization, StoreFault};

/// Edge's default vector has the empty name.
const VECTOR: &str = "";

/// Links of a vector to others of its partition (twice as many on the lowest level): Edge's default.
const LINKS: usize = 16;

/// Segments are not merged into more vectors than this: each optimization writes one or two of them anew.
const SEGMENT_MAX: usize = 250_000;

/// Each shard preallocates one log segment of this size, and up to three exist at a time.
const LOG_SEGMENT_BYTES: usize = 8 << 20;

/// The share of all numbers that the 256 steps span: a few extremes would make all steps coarse.
const INT8_QUANTILE: f32 = 0.99;

/// How Edge lays its segments out. Tests make them small.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Length of a vector.
    pub(super) dimension: usize,
    /// A segment of more vectors than this becomes an immutable one when optimized, with graphs, and
    /// with those indexes on disk that are meant to be there. Edge counts in KiB: of records 256.
    pub(super) optimize_above: usize,
    /// Partitions with more vectors than this in a segment get a graph; fewer are scanned, some 0.2 ms.
    pub(super) graph_above: usize,
    pub(super) quantization: Quantization,
}

impl Layout {
    pub(super) const fn new(dimension: usize, quantization: Quantization) -> Self {
        Self { dimension, optimize_above: 6_000, graph_above: 1_500, quantization }
    }

    /// KiB of `count` vectors of `dimension` numbers, as Edge wants its thresholds.
    const fn kib(count: usize, dimension: usize) -> usize {
        count * dimension * size_of::<f32>() / 1024
    }
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

pub(super) fn search_params(quantization: Quantization) -> SearchParams {
    let quantization = quantization.oversampling().map(|factor| QuantizationSearchParams {
        ignore: false,
        rescore: Some(true),
        oversampling: Some(factor),
    });
    SearchParams { hnsw_ef: Some(IN_VIEW), quantization, ..SearchParams::default() }
}

/// A shard of vectors of `dimension` numbers. Every search asks within one partition, so only partitions
/// get graphs, of `links`: one over all vectors would take most of the time of an optimization, and a
/// search in it passes by other partitions' vectors.
fn config(layout: Layout, dimension: usize, links: usize) -> EdgeConfigBuilder {
    let kib = |vectors| Layout::kib(vectors, dimension).max(1);
    // Building a graph must leave cores to the traffic, on whatever machine this is.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    EdgeConfig::builder()
        .on_disk_payload(true)
        .hnsw_config(HnswIndexConfig {
            m: 0,
            payload_m: Some(links),
            full_scan_threshold: kib(layout.graph_above),
            max_indexing_threads: (cores / 2).clamp(1, 8),
            ..HnswIndexConfig::default()
        })
        .optimizers(EdgeOptimizersConfig {
            indexing_threshold: Some(kib(layout.optimize_above)),
            max_segment_size: Some(kib(SEGMENT_MAX)),
            // Each segment costs a search about as much as any other, however small it is.
            default_segment_number: Some(2),
            // Evicting an eighth of a full store must be enough to get disk space back.
            deleted_threshold: Some(0.1),
            vacuum_min_vector_number: Some(100),
            ..EdgeOptimizersConfig::default()
        })
        .wal_options(WalOptions { segment_capacity: LOG_SEGMENT_BYTES, ..WalOptions::default() })
}

/// Opens the shard that is searched, creating it where it is not.
pub(super) fn open_near(dir: &Path, layout: Layout) -> Result<EdgeShard, StoreFault> {
    let config = config(layout, layout.dimension, LINKS).vector(VECTOR, vectors(layout));
    open(dir, config.build(), points::near_indexes())
}

/// Opens the shard of the records, whose vector nobody searches: Edge optimizes nothing that has none,
/// and a segment that is never optimized keeps all its indexes in memory, 1.4 KB a record.
pub(super) fn open_records(dir: &Path, layout: Layout) -> Result<EdgeShard, StoreFault> {
    let dimension = points::PLACEHOLDER.len();
    let vector = EdgeVectorParams::builder(dimension, Distance::Dot);
    let config = config(layout, dimension, 0).vector(VECTOR, vector.build());
    open(dir, config.build(), points::record_indexes())
}

fn open(
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

/// Creates indexes; one that exists is left alone.
pub(super) fn index(
    shard: &EdgeShard,
    fields: Vec<(JsonPath, PayloadFieldSchema)>,
) -> Result<(), StoreFault> {
    for (field_name, schema) in fields {
        let index = CreateIndex { field_name, field_schema: Some(schema) };
        let operation = FieldIndexOperations::CreateIndex(index);
        shard.update(UpdateOperation::FieldIndexOperation(operation)).map_err(failed)?;
    }
    Ok(())
}

pub(super) fn upsert(
    shard: &EdgeShard,
    points: Vec<PointStructPersisted>,
) -> Result<(), StoreFault> {
    if points.is_empty() {
        return Ok(());
    }
    let points = PointInsertOperations::PointsList(points);
    let operation = UpdateOperation::PointOperation(PointOperations::UpsertPoints(points));
    shard.update(operation).map_err(failed)
}

pub(super) fn remove(shard: &EdgeShard, ids: &[EntryId]) -> Result<(), StoreFault> {
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

pub(super) fn failed(error: impl fmt::Display) -> StoreFault {
    StoreFault::Failed(error.to_string())
}
