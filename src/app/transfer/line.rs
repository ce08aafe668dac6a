//! The lines of a file of answers.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use crate::{
    embed::Vector,
    store::{EntryId, Record},
};

/// Grows when lines change their shape.
pub(super) const FORMAT: u32 = 1;

/// The first line of a file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) reprise_export: u32,
    pub(super) model: String,
    pub(super) digest: String,
    pub(super) dimension: usize,
}

/// One key with what it leads to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) id: EntryId,
    answer: EntryId,
    partition: Arc<str>,
    tenant: Arc<str>,
    model: Arc<str>,
    route: Arc<str>,
    tags: Vec<String>,
    question: Arc<str>,
    /// Float32, little endian, Base64.
    vector: Option<String>,
    generated_ms: u64,
    expires_ms: u64,
    payload: String,
}

impl Line {
    pub(super) fn of(record: Record) -> Self {
        let bytes = |vector: Vector| -> Vec<u8> {
            vector.iter().flat_map(|number| number.to_le_bytes()).collect()
        };
        Self {
            id: record.id,
            answer: record.answer,
            partition: record.partition,
            tenant: record.tenant,
            model: record.model,
            route: record.route,
            tags: record.tags,
            question: record.question,
            vector: record.vector.map(|vector| BASE64_STANDARD.encode(bytes(vector))),
            generated_ms: record.generated_ms,
            expires_ms: record.expires_ms,
            payload: BASE64_STANDARD.encode(record.payload),
        }
    }

    pub(super) fn record(self, dimension: usize) -> Result<Record, String> {
        let wrong = |error: base64::DecodeError| error.to_string();
        let vector = match self.vector {
            None => None,
            Some(text) => {
                let bytes = BASE64_STANDARD.decode(text).map_err(wrong)?;
                let numbers = bytes.as_chunks::<4>().0.iter();
                let vector: Vector = numbers.map(|bytes| f32::from_le_bytes(*bytes)).collect();
                if vector.len() != dimension {
                    return Err(format!("a vector of {} numbers, not {dimension}", vector.len()));
                }
                Some(vector)
            }
        };
        Ok(Record {
            id: self.id,
            answer: self.answer,
            partition: self.partition,
            tenant: self.tenant,
            model: self.model,
            route: self.route,
            tags: self.tags,
            question: self.question,
            vector,
            generated_ms: self.generated_ms,
            expires_ms: self.expires_ms,
            payload: BASE64_STANDARD.decode(self.payload).map_err(wrong)?.into(),
        })
    }
}
