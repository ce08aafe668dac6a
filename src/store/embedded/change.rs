//! One change of the store, as the journal writes it and the shards apply it.
//!
//! Deletions name ids, never a selector: replaying "everything of model X" over a store that has
//! moved on could delete other records than the first time.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::store::{EntryId, Record};

const PUT: u8 = 1;
const DELETE: u8 = 2;
/// Stands where a vector's length would, for a record without one.
const NO_VECTOR: u32 = u32::MAX;

/// What happens to the store; applying one twice is the same as applying it once.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// Writes one record over whatever has its id.
    Put(Record),
    /// Deletes these ids where they exist.
    Delete(Vec<EntryId>),
}

/// A record's text fields, borrowed for writing.
#[derive(Serialize)]
struct Fields<'a> {
    id: u128,
    answer: u128,
    partition: &'a str,
    tenant: &'a str,
    model: &'a str,
    route: &'a str,
    tags: &'a [String],
    question: &'a str,
    generated_ms: u64,
    expires_ms: u64,
}

/// The same, read back.
#[derive(Deserialize)]
struct OwnedFields {
    id: u128,
    answer: u128,
    partition: Box<str>,
    tenant: Box<str>,
    model: Box<str>,
    route: Box<str>,
    tags: Vec<String>,
    question: Box<str>,
    generated_ms: u64,
    expires_ms: u64,
}

impl Change {
    /// How many records it touches.
    pub(super) const fn records(&self) -> usize {
        match self {
            Self::Put(_) => 1,
            Self::Delete(ids) => ids.len(),
        }
    }

    /// Appends the body of this change's frame to `out`.
    ///
    /// A put is its kind, the JSON of its text fields behind a u32 length, the vector's f32s behind a
    /// u32 count, and the payload up to the end; a deletion is its kind and 16 bytes an id. All
    /// numbers are little endian.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Put(record) => encode_put(record, out),
            Self::Delete(ids) => {
                out.push(DELETE);
                out.extend(ids.iter().flat_map(|id| id.0.to_le_bytes()));
            }
        }
    }

    /// Reads what [`Self::encode`] wrote; `None` for anything else.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        match body.split_first()? {
            (&PUT, body) => decode_put(body).map(Self::Put),
            (&DELETE, body) => {
                let (ids, rest) = body.as_chunks::<16>();
                let ids = ids.iter().map(|id| EntryId(u128::from_le_bytes(*id))).collect();
                rest.is_empty().then_some(Self::Delete(ids))
            }
            _ => None,
        }
    }
}

fn encode_put(record: &Record, out: &mut Vec<u8>) {
    let fields = Fields {
        id: record.id.0,
        answer: record.answer.0,
        partition: &record.partition,
        tenant: &record.tenant,
        model: &record.model,
        route: &record.route,
        tags: &record.tags,
        question: &record.question,
        generated_ms: record.generated_ms,
        expires_ms: record.expires_ms,
    };
    out.push(PUT);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    // Numbers, strings and lists of strings: there is nothing in it that JSON cannot say, and
    // writing to memory does not fail. Were it wrong, decoding would notice.
    serde_json::to_writer(&mut *out, &fields).ok();
    let len = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    match &record.vector {
        None => out.extend_from_slice(&NO_VECTOR.to_le_bytes()),
        Some(vector) => {
            out.extend_from_slice(&(vector.len() as u32).to_le_bytes());
            out.extend(vector.iter().flat_map(|number| number.to_le_bytes()));
        }
    }
    out.extend_from_slice(&record.payload);
}

fn decode_put(body: &[u8]) -> Option<Record> {
    let (fields, body) =
        split_u32(body).and_then(|(len, body)| body.split_at_checked(len as usize))?;
    let fields: OwnedFields = serde_json::from_slice(fields).ok()?;
    let (count, body) = split_u32(body)?;
    let (vector, payload) = if count == NO_VECTOR {
        (None, body)
    } else {
        let (numbers, payload) = body.split_at_checked((count as usize).checked_mul(4)?)?;
        let numbers = numbers.as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number));
        (Some(numbers.collect()), payload)
    };
    Some(Record {
        id: EntryId(fields.id),
        answer: EntryId(fields.answer),
        partition: fields.partition.into(),
        tenant: fields.tenant.into(),
        model: fields.model.into(),
        route: fields.route.into(),
        tags: fields.tags,
        question: fields.question.into(),
        vector,
        generated_ms: fields.generated_ms,
        expires_ms: fields.expires_ms,
        payload: Bytes::copy_from_slice(payload),
    })
}

fn split_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records() -> impl Strategy<Value = Record> {
        let texts = (any::<String>(), any::<String>(), any::<String>(), any::<String>());
        let ids = (any::<u128>(), any::<u128>());
        let vector = prop::option::of(prop::collection::vec(-1.0_f32..1.0, 0..9));
        let rest = (any::<u64>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..99));
        (ids, texts, prop::collection::vec(any::<String>(), 0..3), vector, rest).prop_map(
            |(ids, texts, tags, vector, rest)| Record {
                id: EntryId(ids.0),
                answer: EntryId(ids.1),
                partition: texts.0.as_str().into(),
                tenant: texts.1.as_str().into(),
                model: texts.2.as_str().into(),
                route: "r".into(),
                tags,
                question: texts.3.as_str().into(),
                vector: vector.map(Into::into),
                generated_ms: rest.0,
                expires_ms: rest.1,
                payload: rest.2.into(),
            },
        )
    }

    proptest! {
        #[test]
        fn a_put_comes_back_whole(record in records()) {
            let change = Change::Put(record);
            let mut body = Vec::new();
            change.encode(&mut body);
            prop_assert_eq!(Change::decode(&body), Some(change));
        }

        #[test]
        fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            Change::decode(&body);
        }
    }
}
