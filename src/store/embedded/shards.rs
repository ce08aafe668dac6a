//! The two Edge shards of a collection, and everything that is asked of them.
//!
//! Edge blocks, and panics where it should fail (`flush` does so by design, and so does dropping a
//! shard). Nothing here runs on the runtime's threads, and nothing here lets a panic out.

use std::{
    collections::{HashMap, HashSet},
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    thread,
};

use qdrant_edge::{
    CountRequest, EdgeShard, FacetRequest, FacetValue, Filter, NamedQuery, OrderBy,
    OrderByInterface, QueryEnum, QueryRequest, Record as Point, ScoringQuery, ScrollRequest,
    VectorStructInternal, WithPayloadInterface, WithVector,
};

use super::{
    change::Change,
    logs, points,
    reader::Page,
    shard::{self, Layout, failed, guarded, index, remove, search_params, upsert},
};
use crate::{
    embed::Vector,
    store::{EntryId, Neighbour, Record, Selector, StoreFault},
};

/// Records of one page of a list: a reader is taken from the lookups for some 10 ms by each.
const HOLDINGS_PAGE: usize = 512;

/// Vectors that are compared with their records at a time.
const BEREFT_PAGE: usize = 4096;

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
        let near = || shard::open_near(&dir.join("near"), layout);
        let records = || shard::open_records(&dir.join("records"), layout);
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
        partition: &str,
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
        let near = found.iter().filter_map(|found| told(points::neighbour(found)));
        Ok(near.filter(|one| *one.partition == *partition).collect())
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

    /// Takes out the vectors whose records are gone, and tells how many they were. Edge opens some damaged
    /// files as if they were empty, and a power cut may leave one shard ahead of the other.
    pub(super) fn drop_bereft(&self) -> Result<usize, StoreFault> {
        // Some points may count twice, so this is no proof; but reading all ids at each start is too dear.
        if self.near.info().points_count <= self.records.info().points_count {
            return Ok(0);
        }
        let (mut bereft, mut from) = (0, None);
        loop {
            let page = ScrollRequest {
                offset: from,
                limit: Some(BEREFT_PAGE),
                filter: None,
                with_payload: Some(WithPayloadInterface::Bool(false)),
                with_vector: WithVector::Bool(false),
                order_by: None,
            };
            let (found, next) = self.near.scroll(page).map_err(failed)?;
            let ids: Vec<_> = found.iter().map(|point| point.id).collect();
            let nothing = Some(WithPayloadInterface::Bool(false));
            let kept = self.records.retrieve(&ids, nothing, None).map_err(failed)?;
            let kept: HashSet<_> =
                kept.iter().filter_map(|one| points::entry_id(&one.id)).collect();
            let ids = ids.iter().filter_map(points::entry_id);
            let gone: Vec<_> = ids.filter(|id| !kept.contains(id)).collect();
            remove(&self.near, &gone)?;
            bereft += gone.len();
            from = next;
            if from.is_none() {
                return Ok(bereft);
            }
        }
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
