//! Records as Milvus' columns, and back.
//!
//! Texts that people choose (model, route, tags, question) travel inside one JSON field, and are
//! found by [`mark`]s: hashes need no escaping in an expression, whatever a tag holds.

use std::{collections::HashMap, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};

use super::proto::{
    Arrays, Bools, CollectionSchema, Column, FieldData, FieldSchema, Floats, KeyValuePair, Longs,
    Scalars, Strings, Vectors, data_type,
};
use crate::{
    embed::Vector,
    store::{EntryId, Holding, Neighbour, Record, StoreFault},
};

/// Milvus' bound on the bytes of a text.
const TEXT_MAX_BYTES: usize = 65_535;

/// Payload bytes of one text: Base64 makes four of three.
const CHUNK_BYTES: usize = TEXT_MAX_BYTES / 4 * 3;

/// Texts of one payload. Together with the rest they stay below the 5 MiB of one message of Pulsar,
/// Milvus' default log.
const CHUNKS_MAX: usize = 72;

/// The largest payload: 3.4 MiB.
pub(super) const PAYLOAD_MAX_BYTES: usize = CHUNK_BYTES * CHUNKS_MAX;

/// A model, a route, a tenant and up to sixteen tags, with room.
const MARKS_MAX: usize = 40;

pub(super) mod field {
    pub(in crate::store::milvus) const ID: &str = "id";
    pub(in crate::store::milvus) const ANSWER: &str = "answer";
    pub(in crate::store::milvus) const TENANT: &str = "tenant";
    pub(in crate::store::milvus) const PARTITION: &str = "partition";
    pub(in crate::store::milvus) const NEAR: &str = "near";
    pub(in crate::store::milvus) const MARKS: &str = "marks";
    pub(in crate::store::milvus) const GENERATED_MS: &str = "generated_ms";
    pub(in crate::store::milvus) const EXPIRES_MS: &str = "expires_ms";
    pub(in crate::store::milvus) const HEAD: &str = "head";
    pub(in crate::store::milvus) const PAYLOAD: &str = "payload";
    pub(in crate::store::milvus) const VECTOR: &str = "vector";

    /// Everything of a record.
    pub(in crate::store::milvus) const ALL: [&str; 10] =
        [ID, ANSWER, TENANT, PARTITION, NEAR, GENERATED_MS, EXPIRES_MS, HEAD, PAYLOAD, VECTOR];
    /// What a list tells: not the answer, so not its size either.
    pub(in crate::store::milvus) const HOLDING: [&str; 4] = [ID, ANSWER, GENERATED_MS, EXPIRES_MS];
    /// What a neighbour needs.
    pub(in crate::store::milvus) const NEIGHBOUR: [&str; 5] =
        [ID, ANSWER, PARTITION, EXPIRES_MS, HEAD];
}

/// Which of a record's texts a mark stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Marked {
    Model,
    Route,
    Tenant,
    Tag,
}

/// 32 hex digits that stand for one text of one kind.
pub(super) fn mark(kind: Marked, text: &str) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(match kind {
        Marked::Model => b"model ",
        Marked::Route => b"route ",
        Marked::Tenant => b"owner ",
        Marked::Tag => b"label ",
    });
    hash.update(text.as_bytes());
    let hex = hash.finalize().to_hex();
    hex[..32].to_owned()
}

#[derive(Serialize, Deserialize)]
struct Head {
    model: Arc<str>,
    route: Arc<str>,
    tags: Vec<String>,
    question: Arc<str>,
}

/// The schema of a collection of vectors of `dimension` numbers.
///
/// The partition key is the tenant: what is of one tenant lies together. No expression of ours names
/// it, though: 2.3 puts an upserted row into the partition of another key, and would not find it there.
/// Searches are kept apart by `partition`, a hash that the tenant's scope is part of.
pub(super) fn schema(name: &str, dimension: usize) -> CollectionSchema {
    let text = |name: &str, bytes: usize| FieldSchema {
        name: name.into(),
        data_type: data_type::VARCHAR,
        type_params: vec![KeyValuePair::new("max_length", bytes)],
        ..FieldSchema::default()
    };
    let texts = |name: &str, most: usize, bytes: usize| FieldSchema {
        name: name.into(),
        data_type: data_type::ARRAY,
        element_type: data_type::VARCHAR,
        type_params: vec![
            KeyValuePair::new("max_length", bytes),
            KeyValuePair::new("max_capacity", most),
        ],
        ..FieldSchema::default()
    };
    let plain = |name: &str, data_type: i32| FieldSchema {
        name: name.into(),
        data_type,
        ..FieldSchema::default()
    };
    CollectionSchema {
        name: name.to_owned(),
        description: "answers of reprise, a semantic cache".to_owned(),
        fields: vec![
            FieldSchema { is_primary_key: true, ..text(field::ID, 32) },
            text(field::ANSWER, 32),
            FieldSchema { is_partition_key: true, ..text(field::TENANT, 64) },
            text(field::PARTITION, 64),
            plain(field::NEAR, data_type::BOOL),
            texts(field::MARKS, MARKS_MAX, 32),
            plain(field::GENERATED_MS, data_type::INT64),
            plain(field::EXPIRES_MS, data_type::INT64),
            text(field::HEAD, TEXT_MAX_BYTES),
            texts(field::PAYLOAD, CHUNKS_MAX, TEXT_MAX_BYTES),
            FieldSchema {
                type_params: vec![KeyValuePair::new("dim", dimension)],
                ..plain(field::VECTOR, data_type::FLOAT_VECTOR)
            },
        ],
    }
}

/// What is wrong with a collection that is there already, if anything.
pub(super) fn misfit(found: &CollectionSchema, dimension: usize) -> Option<String> {
    for wanted in schema(&found.name, dimension).fields {
        let Some(field) = found.fields.iter().find(|field| field.name == wanted.name) else {
            return Some(format!("it has no field `{}`", wanted.name));
        };
        if field.data_type != wanted.data_type {
            return Some(format!("its field `{}` has another type", wanted.name));
        }
        let dim = |field: &FieldSchema| {
            field.type_params.iter().find(|pair| pair.key == "dim").map(|pair| pair.value.clone())
        };
        if dim(field) != dim(&wanted) {
            let found = dim(field).unwrap_or_default();
            return Some(format!("its vectors have {found} numbers, not {dimension}"));
        }
    }
    None
}

/// These records as columns, in order.
pub(super) fn columns(records: &[Record], dimension: usize) -> Result<Vec<FieldData>, StoreFault> {
    let mut heads = Vec::with_capacity(records.len());
    for record in records {
        heads.push(head(record)?);
    }
    let each = |of: &dyn Fn(&Record) -> String| {
        Column::Strings(Strings { data: records.iter().map(of).collect() })
    };
    let longs = |of: &dyn Fn(&Record) -> u64| {
        let data = records.iter().map(|record| i64::try_from(of(record)).unwrap_or(i64::MAX));
        Column::Longs(Longs { data: data.collect() })
    };
    let lists = |of: &dyn Fn(&Record) -> Vec<String>| {
        let row = |record| Scalars { column: Some(Column::Strings(Strings { data: of(record) })) };
        let data = records.iter().map(row).collect();
        Column::Arrays(Arrays { data, element_type: data_type::VARCHAR })
    };
    let near = records.iter().map(|record| record.vector.is_some()).collect();
    Ok(vec![
        column(field::ID, data_type::VARCHAR, each(&|record| record.id.to_string())),
        column(field::ANSWER, data_type::VARCHAR, each(&|record| record.answer.to_string())),
        column(field::TENANT, data_type::VARCHAR, each(&|record| record.tenant.to_string())),
        column(field::PARTITION, data_type::VARCHAR, each(&|record| record.partition.to_string())),
        column(field::NEAR, data_type::BOOL, Column::Bools(Bools { data: near })),
        column(field::MARKS, data_type::ARRAY, lists(&marks)),
        column(field::GENERATED_MS, data_type::INT64, longs(&|record| record.generated_ms)),
        column(field::EXPIRES_MS, data_type::INT64, longs(&|record| record.expires_ms)),
        column(field::HEAD, data_type::VARCHAR, Column::Strings(Strings { data: heads })),
        column(field::PAYLOAD, data_type::ARRAY, lists(&chunks)),
        vectors(records, dimension),
    ])
}

fn head(record: &Record) -> Result<String, StoreFault> {
    let head = Head {
        model: record.model.clone(),
        route: record.route.clone(),
        tags: record.tags.clone(),
        question: record.question.clone(),
    };
    let head = serde_json::to_string(&head).map_err(|error| damaged(field::HEAD, &error))?;
    if head.len() > TEXT_MAX_BYTES || record.payload.len() > PAYLOAD_MAX_BYTES {
        return Err(StoreFault::TooLarge);
    }
    Ok(head)
}

fn marks(record: &Record) -> Vec<String> {
    let mut marks = vec![
        mark(Marked::Model, &record.model),
        mark(Marked::Route, &record.route),
        mark(Marked::Tenant, &record.tenant),
    ];
    marks.extend(record.tags.iter().map(|tag| mark(Marked::Tag, tag)).take(MARKS_MAX - 3));
    marks
}

fn chunks(record: &Record) -> Vec<String> {
    let chunks = record.payload.chunks(CHUNK_BYTES);
    chunks.map(|chunk| BASE64_STANDARD_NO_PAD.encode(chunk)).collect()
}

/// Milvus wants a vector of each record. Those without one get a direction that no search sees:
/// searches ask for `near` ones.
fn vectors(records: &[Record], dimension: usize) -> FieldData {
    let mut data = Vec::with_capacity(records.len() * dimension);
    for record in records {
        match &record.vector {
            Some(vector) => data.extend_from_slice(vector),
            None => {
                data.push(1.0);
                data.extend(std::iter::repeat_n(0.0, dimension - 1));
            }
        }
    }
    FieldData {
        data_type: data_type::FLOAT_VECTOR,
        field_name: field::VECTOR.to_owned(),
        scalars: None,
        vectors: Some(Vectors { dim: dimension as i64, floats: Some(Floats { data }) }),
    }
}

fn column(name: &str, data_type: i32, column: Column) -> FieldData {
    FieldData {
        data_type,
        field_name: name.to_owned(),
        scalars: Some(Scalars { column: Some(column) }),
        vectors: None,
    }
}

// === back ===

/// Columns by name, read row by row.
pub(super) struct Rows(HashMap<String, FieldData>);

impl Rows {
    pub(super) fn new(columns: Vec<FieldData>) -> Self {
        Self(columns.into_iter().map(|column| (column.field_name.clone(), column)).collect())
    }

    /// The texts of one column.
    pub(super) fn texts(&self, name: &str) -> &[String] {
        match self.column(name) {
            Some(Column::Strings(strings)) => &strings.data,
            _ => &[],
        }
    }

    /// The first number of a column: what `count(*)` gives.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.long(name, 0).ok()
    }

    /// The record of one row.
    pub(super) fn record(&self, row: usize) -> Result<Record, StoreFault> {
        let head = self.head(row)?;
        let mut payload = Vec::new();
        if let Some(Column::Arrays(arrays)) = self.column(field::PAYLOAD)
            && let Some(Column::Strings(chunks)) =
                arrays.data.get(row).and_then(|scalars| scalars.column.as_ref())
        {
            for chunk in &chunks.data {
                let bytes = BASE64_STANDARD_NO_PAD.decode(chunk);
                payload.extend(bytes.map_err(|error| damaged(field::PAYLOAD, &error))?);
            }
        }
        let near = match self.column(field::NEAR) {
            Some(Column::Bools(bools)) => bools.data.get(row).copied().unwrap_or_default(),
            _ => false,
        };
        Ok(Record {
            id: self.id(field::ID, row)?,
            answer: self.id(field::ANSWER, row)?,
            partition: self.text(field::PARTITION, row)?.into(),
            tenant: self.text(field::TENANT, row)?.into(),
            model: head.model,
            route: head.route,
            tags: head.tags,
            question: head.question,
            vector: if near { self.vector(row) } else { None },
            generated_ms: self.long(field::GENERATED_MS, row)?,
            expires_ms: self.long(field::EXPIRES_MS, row)?,
            payload: payload.into(),
        })
    }

    /// What a list tells of one row.
    pub(super) fn holding(&self, row: usize) -> Result<Holding, StoreFault> {
        Ok(Holding {
            id: self.id(field::ID, row)?,
            answer: self.id(field::ANSWER, row)?,
            bytes: None,
            generated_ms: self.long(field::GENERATED_MS, row)?,
            expires_ms: self.long(field::EXPIRES_MS, row)?,
        })
    }

    /// The neighbour of one row, at this cosine.
    pub(super) fn neighbour(&self, row: usize, cosine: f32) -> Result<Neighbour, StoreFault> {
        Ok(Neighbour {
            id: self.id(field::ID, row)?,
            answer: self.id(field::ANSWER, row)?,
            similarity: cosine.clamp(-1.0, 1.0),
            partition: self.text(field::PARTITION, row)?.into(),
            question: self.head(row)?.question,
            expires_ms: self.long(field::EXPIRES_MS, row)?,
        })
    }

    fn head(&self, row: usize) -> Result<Head, StoreFault> {
        serde_json::from_str(self.text(field::HEAD, row)?)
            .map_err(|error| damaged(field::HEAD, &error))
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.0.get(name)?.scalars.as_ref()?.column.as_ref()
    }

    fn text(&self, name: &str, row: usize) -> Result<&str, StoreFault> {
        let text = self.texts(name).get(row).map(String::as_str);
        text.ok_or_else(|| damaged(name, &"not a text"))
    }

    fn id(&self, name: &str, row: usize) -> Result<EntryId, StoreFault> {
        self.text(name, row)?.parse().map_err(|error: String| damaged(name, &error))
    }

    fn long(&self, name: &str, row: usize) -> Result<u64, StoreFault> {
        let number = match self.column(name) {
            Some(Column::Longs(longs)) => longs.data.get(row).copied(),
            _ => None,
        };
        number
            .and_then(|number| u64::try_from(number).ok())
            .ok_or_else(|| damaged(name, &"not a number"))
    }

    /// The vector of one row, where it was asked for.
    pub(super) fn vector(&self, row: usize) -> Option<Vector> {
        let vectors = self.0.get(field::VECTOR)?.vectors.as_ref()?;
        let dim = usize::try_from(vectors.dim).ok()?;
        let numbers = &vectors.floats.as_ref()?.data;
        numbers.get(row * dim..(row + 1) * dim).map(Vector::from)
    }
}

fn damaged(name: &str, why: &dyn std::fmt::Display) -> StoreFault {
    StoreFault::Failed(format!("the stored field `{name}` is damaged: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::{DIMENSION, record};

    #[test]
    fn records_come_back_from_their_columns() {
        let mut bare = record(2);
        bare.vector = None;
        bare.payload = vec![7; CHUNK_BYTES + 1].into();
        let records = [record(1), bare];
        let rows = Rows::new(columns(&records, DIMENSION).unwrap());
        for (row, record) in records.iter().enumerate() {
            assert_eq!(rows.record(row).as_ref(), Ok(record));
        }
    }

    #[test]
    fn what_no_column_can_hold_is_too_large() {
        let mut large = record(1);
        large.payload = vec![0; PAYLOAD_MAX_BYTES + 1].into();
        assert_eq!(columns(&[large], DIMENSION), Err(StoreFault::TooLarge));
        let mut long = record(1);
        long.question = "x".repeat(TEXT_MAX_BYTES).into();
        assert_eq!(columns(&[long], DIMENSION), Err(StoreFault::TooLarge));
    }

    #[test]
    fn another_schema_is_said() {
        let good = schema("c", 384);
        assert_eq!(misfit(&good, 384), None);
        assert!(misfit(&good, 768).unwrap().contains("384 numbers, not 768"));
        let mut foreign = good;
        foreign.fields.retain(|field| field.name != field::HEAD);
        assert!(misfit(&foreign, 384).unwrap().contains("`head`"));
    }

    #[test]
    fn marks_of_different_kinds_differ() {
        assert_ne!(mark(Marked::Model, "a"), mark(Marked::Route, "a"));
        assert_eq!(mark(Marked::Tag, "группа \"x\"").len(), 32);
    }
}
