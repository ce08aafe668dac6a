//! Records as Pinecone's vectors with metadata, and back.

use std::{collections::HashMap, ops::Range, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    embed::Vector,
    store::{EntryId, Holding, Neighbour, Record, Selector, StoreFault},
};

/// The API takes 40 KB of metadata a record.
const METADATA_MAX_BYTES: usize = 38_000;

/// Payload bytes of one piece: Base64 makes four of three.
const PIECE_BYTES: usize = METADATA_MAX_BYTES / 4 * 3;

/// 150 pieces, written by three or four requests.
pub(super) const PAYLOAD_MAX_BYTES: usize = PIECE_BYTES * 150;

/// What stands beside a vector.
#[derive(Serialize, Deserialize)]
pub(super) struct Metadata {
    answer: EntryId,
    partition: Arc<str>,
    near: bool,
    tenant: Arc<str>,
    model: Arc<str>,
    route: Arc<str>,
    /// Left out when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    question: Arc<str>,
    // The API's numbers are 64-bit floats: exact up to 2^53 ms, the year 287396.
    generated_ms: f64,
    expires_ms: f64,
    #[serde(deserialize_with = "whole")]
    pub(super) pieces: usize,
}

/// A count that may come back as `3.0`.
fn whole<'de, D: serde::Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    f64::deserialize(from).map(|number| number as usize)
}

impl Metadata {
    fn of(record: &Record) -> Self {
        Self {
            answer: record.answer,
            partition: record.partition.clone(),
            near: record.vector.is_some(),
            tenant: record.tenant.clone(),
            model: record.model.clone(),
            route: record.route.clone(),
            tags: record.tags.clone(),
            question: record.question.clone(),
            generated_ms: record.generated_ms as f64,
            expires_ms: record.expires_ms as f64,
            pieces: pieces_of(record),
        }
    }

    pub(super) fn read(metadata: &Value) -> Result<Self, StoreFault> {
        Self::deserialize(metadata)
            .map_err(|error| StoreFault::Failed(format!("stored metadata is damaged: {error}")))
    }

    pub(super) fn record(
        self,
        id: EntryId,
        values: Vec<f32>,
        payload: Bytes,
    ) -> Result<Record, StoreFault> {
        Ok(Record {
            id,
            answer: self.answer,
            partition: self.partition,
            tenant: self.tenant,
            model: self.model,
            route: self.route,
            tags: self.tags,
            question: self.question,
            vector: self.near.then(|| Vector::from(values)),
            generated_ms: self.generated_ms as u64,
            expires_ms: self.expires_ms as u64,
            payload,
        })
    }

    pub(super) fn holding(&self, id: &str) -> Result<Holding, StoreFault> {
        Ok(Holding {
            id: id.parse().map_err(StoreFault::Failed)?,
            answer: self.answer,
            bytes: None,
            generated_ms: self.generated_ms as u64,
            expires_ms: self.expires_ms as u64,
        })
    }

    pub(super) fn neighbour(self, id: &str, score: f32) -> Result<Neighbour, StoreFault> {
        Ok(Neighbour {
            id: id.parse().map_err(StoreFault::Failed)?,
            answer: self.answer,
            similarity: score.clamp(-1.0, 1.0),
            partition: self.partition,
            question: self.question,
            expires_ms: self.expires_ms as u64,
        })
    }
}

/// Refuses what metadata cannot hold.
pub(super) fn check_size(record: &Record) -> Result<(), StoreFault> {
    let metadata = serde_json::to_string(&Metadata::of(record));
    let fits = metadata.is_ok_and(|metadata| metadata.len() <= METADATA_MAX_BYTES);
    if fits && record.payload.len() <= PAYLOAD_MAX_BYTES {
        Ok(())
    } else {
        Err(StoreFault::TooLarge)
    }
}

/// The row of one record.
pub(super) fn row(record: &Record, dimension: usize) -> Value {
    let values = match &record.vector {
        Some(vector) => json!(&**vector),
        None => json!(placeholder(dimension)),
    };
    json!({"id": record.id, "values": values, "metadata": Metadata::of(record)})
}

/// The API refuses vectors of zeros.
fn placeholder(dimension: usize) -> Vec<u8> {
    std::iter::once(1).chain(std::iter::repeat(0)).take(dimension).collect()
}

/// How many pieces a record's payload has.
pub(super) fn pieces_of(record: &Record) -> usize {
    record.payload.len().div_ceil(PIECE_BYTES)
}

pub(super) fn piece_ids(id: EntryId, range: Range<usize>) -> Vec<String> {
    range.map(|piece| format!("{id}#{piece}")).collect()
}

/// The rows of a record's payload.
pub(super) fn pieces(record: &Record, dimension: usize) -> Vec<Value> {
    let ids = piece_ids(record.id, 0..pieces_of(record));
    let pieces = ids.iter().zip(record.payload.chunks(PIECE_BYTES));
    let row = |(id, bytes): (&String, &[u8])| {
        let data = BASE64_STANDARD.encode(bytes);
        json!({"id": id, "values": placeholder(dimension), "metadata": {"data": data}})
    };
    pieces.map(row).collect()
}

/// The payload of these pieces, in the order of `names`.
pub(super) fn joined(
    names: &[String],
    found: impl Iterator<Item = (String, Value)>,
) -> Result<Bytes, StoreFault> {
    let found: HashMap<_, _> = found.collect();
    let mut payload = Vec::new();
    for name in names {
        let data = found.get(name).and_then(|metadata| metadata["data"].as_str());
        let bytes = data.and_then(|data| BASE64_STANDARD.decode(data).ok());
        let missing = || StoreFault::Failed(format!("the piece {name} is missing or damaged"));
        payload.extend(bytes.ok_or_else(missing)?);
    }
    Ok(payload.into())
}

/// What a selector means, as a filter of metadata.
pub(super) fn filter(selector: &Selector) -> Value {
    match selector {
        Selector::All => json!({"pieces": {"$gte": 0}}),
        Selector::Answer(id) => json!({"answer": {"$eq": id}}),
        Selector::Model(name) => json!({"model": {"$eq": name}}),
        Selector::Route(name) => json!({"route": {"$eq": name}}),
        Selector::Tenant(name) => json!({"tenant": {"$eq": name}}),
        Selector::Tag(name) => json!({"tags": {"$in": [name]}}),
        Selector::Both(both) => json!({"$and": [filter(&both.0), filter(&both.1)]}),
        Selector::Before(ms) => json!({"generated_ms": {"$lt": *ms as f64}}),
        Selector::ExpiredAt(ms) => json!({"expires_ms": {"$lte": *ms as f64}}),
    }
}
