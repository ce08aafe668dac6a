//! How a record looks inside Edge, and how a selector becomes a filter.
//!
//! A record is a point of the `records` shard (everything but its vector) and, if it has a vector,
//! another of the same id in the `near` shard (the vector and what [`Neighbour`] tells). Edge reads
//! a point's whole payload even where only some of its fields are asked for: were the answers kept
//! beside the vectors, a search with eight neighbours would decode eight answers.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use qdrant_edge::{
    Condition, FieldCondition, Filter, IntegerIndexParams, JsonPath, KeywordIndexParams, Match,
    Payload, PayloadFieldSchema, PayloadSchemaParams, PointId, PointStructPersisted, Range,
    RangeInterface, ScoredPoint, UuidIndexParams, ValueVariants, VectorStructPersisted,
    external::{ordered_float::OrderedFloat, uuid::Uuid},
};
use serde_json::{Value, json};

use crate::store::{EntryId, Holding, Neighbour, Record, Selector, StoreFault, vector_bytes};

/// The vector of each point in the `records` shard.
pub(super) const PLACEHOLDER: [f32; 1] = [1.0];

/// The payload fields that a filter or a facet goes by; nothing else is indexed.
pub(super) mod field {
    pub(super) const PARTITION: &str = "partition";
    /// 128 bits of its hash.
    pub(super) const PARTITION_ID: &str = "partition_id";
    pub(in crate::store::embedded) const ANSWER: &str = "answer";
    pub(in crate::store::embedded) const GENERATED_MS: &str = "generated_ms";
    pub(super) const TENANT: &str = "tenant";
    pub(super) const MODEL: &str = "model";
    pub(super) const ROUTE: &str = "route";
    pub(super) const TAGS: &str = "tags";
    pub(super) const EXPIRES_MS: &str = "expires_ms";
}

/// The indexes of the `near` shard. `is_tenant` keeps the vectors of one partition side by side. A search
/// compares the partition of each vector that it passes: as texts that took a quarter of its time.
pub(super) fn near_indexes() -> Vec<(JsonPath, PayloadFieldSchema)> {
    let by_partition = UuidIndexParams { is_tenant: Some(true), ..Default::default() };
    let schema = PayloadFieldSchema::FieldParams(PayloadSchemaParams::Uuid(by_partition));
    vec![(path(field::PARTITION_ID), schema)]
}

/// The indexes of the `records` shard: one for each kind of selector. They stay on disk: purges and
/// sweeps go by them, never a request, and in memory they would be the most of an entry's share.
pub(super) fn record_indexes() -> Vec<(JsonPath, PayloadFieldSchema)> {
    let on_disk = Some(true);
    let text =
        || PayloadSchemaParams::Keyword(KeywordIndexParams { on_disk, ..Default::default() });
    // Times are compared, never looked up: that would be one more index with an entry for each.
    let time = || {
        let lookup = Some(false);
        PayloadSchemaParams::Integer(IntegerIndexParams { on_disk, lookup, ..Default::default() })
    };
    let id = PayloadSchemaParams::Uuid(UuidIndexParams { on_disk, ..Default::default() });
    [
        (field::ANSWER, id),
        (field::TENANT, text()),
        (field::MODEL, text()),
        (field::ROUTE, text()),
        (field::TAGS, text()),
        (field::GENERATED_MS, time()),
        (field::EXPIRES_MS, time()),
    ]
    .map(|(name, params)| (path(name), PayloadFieldSchema::FieldParams(params)))
    .into()
}

/// The path of a top-level payload field.
pub(super) fn path(name: &str) -> JsonPath {
    JsonPath { first_key: name.to_owned(), rest: Vec::new() }
}

/// Edge's name for an id: all 128 bits of it.
pub(super) const fn point_id(id: EntryId) -> PointId {
    PointId::Uuid(Uuid::from_u128(id.0))
}

/// The id behind Edge's name; `None` for a number, which we never write.
pub(super) const fn entry_id(id: &PointId) -> Option<EntryId> {
    match id {
        PointId::Uuid(uuid) => Some(EntryId(uuid.as_u128())),
        PointId::NumId(_) => None,
    }
}

/// The point of the `near` shard, for a record that has a vector.
pub(super) fn near_point(record: &Record) -> Option<PointStructPersisted> {
    let vector = record.vector.as_ref()?;
    let payload = json!({
        "partition": &*record.partition,
        "partition_id": partition_id(&record.partition),
        "answer": record.answer.to_string(),
        "question": &*record.question,
        "expires_ms": record.expires_ms,
    });
    Some(point(record.id, VectorStructPersisted::Single(vector.to_vec()), payload))
}

/// The point of the `records` shard.
pub(super) fn record_point(record: &Record) -> PointStructPersisted {
    let payload = json!({
        "answer": record.answer.to_string(),
        "partition": &*record.partition,
        "tenant": &*record.tenant,
        "model": &*record.model,
        "route": &*record.route,
        "tags": record.tags,
        "question": &*record.question,
        "near": record.vector.is_some(),
        "generated_ms": record.generated_ms,
        "expires_ms": record.expires_ms,
        "payload": BASE64_STANDARD.encode(&record.payload),
    });
    point(record.id, VectorStructPersisted::Single(PLACEHOLDER.to_vec()), payload)
}

fn point(id: EntryId, vector: VectorStructPersisted, payload: Value) -> PointStructPersisted {
    let payload = match payload {
        Value::Object(fields) => Some(Payload(fields)),
        _ => None,
    };
    PointStructPersisted { id: point_id(id), vector, payload }
}

/// Whether a `records` point has a sibling in `near`.
pub(super) fn has_vector(payload: &Payload) -> bool {
    payload.0.get("near") == Some(&Value::Bool(true))
}

/// The record of a `records` point, still without its vector.
pub(super) fn record(id: EntryId, payload: &Payload) -> Result<Record, StoreFault> {
    let encoded = text(payload, "payload")?;
    let bytes = BASE64_STANDARD.decode(encoded).map_err(|error| damaged("payload", &error))?;
    let tags = payload.0.get(field::TAGS).and_then(Value::as_array).into_iter().flatten();
    Ok(Record {
        id,
        answer: answer(payload)?,
        partition: shared(payload, field::PARTITION)?,
        tenant: shared(payload, field::TENANT)?,
        model: shared(payload, field::MODEL)?,
        route: shared(payload, field::ROUTE)?,
        tags: tags.filter_map(Value::as_str).map(str::to_owned).collect(),
        question: shared(payload, "question")?,
        vector: None,
        generated_ms: number(payload, field::GENERATED_MS)?,
        expires_ms: number(payload, field::EXPIRES_MS)?,
        payload: bytes.into(),
    })
}

/// What a list tells of a `records` point; `dimension` is that of its vector, if it has one.
pub(super) fn holding(
    id: EntryId,
    payload: &Payload,
    dimension: usize,
) -> Result<Holding, StoreFault> {
    let encoded = text(payload, "payload")?;
    let padding = encoded.bytes().rev().take_while(|byte| *byte == b'=').count();
    let vector = if has_vector(payload) { vector_bytes(dimension) } else { 0 };
    Ok(Holding {
        id,
        answer: answer(payload)?,
        bytes: Some((encoded.len() / 4 * 3 - padding) as u64 + vector),
        generated_ms: number(payload, field::GENERATED_MS)?,
        expires_ms: number(payload, field::EXPIRES_MS)?,
    })
}

/// The neighbour that a search found.
pub(super) fn neighbour(found: &ScoredPoint) -> Result<Neighbour, StoreFault> {
    let missing = || StoreFault::Failed("a neighbour without id or payload".to_owned());
    let payload = found.payload.as_ref().ok_or_else(missing)?;
    Ok(Neighbour {
        id: entry_id(&found.id).ok_or_else(missing)?,
        answer: answer(payload)?,
        // Rounding takes the dot product of two unit vectors a little beyond the unit.
        similarity: found.score.clamp(-1.0, 1.0),
        partition: shared(payload, field::PARTITION)?,
        question: shared(payload, "question")?,
        expires_ms: number(payload, field::EXPIRES_MS)?,
    })
}

/// What a selector means in the `records` shard; `None` is everything.
pub(super) fn filter(selector: &Selector) -> Option<Filter> {
    match selector {
        Selector::All => None,
        Selector::Answer(id) => Some(equals(field::ANSWER, id.to_string())),
        Selector::Model(name) => Some(equals(field::MODEL, name.clone())),
        Selector::Route(name) => Some(equals(field::ROUTE, name.clone())),
        Selector::Tenant(hash) => Some(equals(field::TENANT, hash.clone())),
        Selector::Tag(tag) => Some(equals(field::TAGS, tag.clone())),
        Selector::Both(both) => {
            let parts = [filter(&both.0), filter(&both.1)].into_iter().flatten();
            parts.reduce(|one, other| one.merge_owned(other))
        }
        Selector::Before(ms) => {
            Some(within(field::GENERATED_MS, Range { lt: Some(milliseconds(*ms)), ..none() }))
        }
        Selector::ExpiredAt(ms) => {
            Some(within(field::EXPIRES_MS, Range { lte: Some(milliseconds(*ms)), ..none() }))
        }
    }
}

/// Only this partition, or one whose hash begins alike.
pub(super) fn in_partition(partition: &str) -> Filter {
    equals(field::PARTITION_ID, partition_id(partition))
}

fn partition_id(partition: &str) -> String {
    let mut id = [0; 16];
    blake3::Hasher::new().update(partition.as_bytes()).finalize_xof().fill(&mut id);
    Uuid::from_bytes(id).to_string()
}

fn equals(name: &str, value: String) -> Filter {
    let matched = Match::new_value(ValueVariants::String(value));
    Filter::new_must(Condition::Field(FieldCondition::new_match(path(name), matched)))
}

fn within(name: &str, range: Range<OrderedFloat<f64>>) -> Filter {
    let mut condition = FieldCondition::new_range(path(name), Range::default());
    condition.range = Some(RangeInterface::Float(range));
    Filter::new_must(Condition::Field(condition))
}

fn none() -> Range<OrderedFloat<f64>> {
    Range::default()
}

/// Exact up to 2^53 ms, the year 287396.
const fn milliseconds(ms: u64) -> OrderedFloat<f64> {
    OrderedFloat(ms as f64)
}

fn answer(payload: &Payload) -> Result<EntryId, StoreFault> {
    text(payload, field::ANSWER)?.parse().map_err(|error: String| damaged(field::ANSWER, &error))
}

fn shared(payload: &Payload, name: &str) -> Result<Arc<str>, StoreFault> {
    text(payload, name).map(Arc::from)
}

fn text<'a>(payload: &'a Payload, name: &str) -> Result<&'a str, StoreFault> {
    let value = payload.0.get(name).and_then(Value::as_str);
    value.ok_or_else(|| damaged(name, &"not a text"))
}

fn number(payload: &Payload, name: &str) -> Result<u64, StoreFault> {
    let value = payload.0.get(name).and_then(Value::as_u64);
    value.ok_or_else(|| damaged(name, &"not a number"))
}

fn damaged(name: &str, why: &dyn std::fmt::Display) -> StoreFault {
    StoreFault::Failed(format!("the stored field `{name}` is damaged: {why}"))
}
