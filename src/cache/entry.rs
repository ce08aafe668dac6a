//! One kept answer, and its form inside a store's opaque payload.

use std::{
    io::Read as _,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{key::Key, pace::Pace};
use crate::{
    embed::Vector,
    store::{EntryId, Record},
    wire::{Shape, Usage},
};

/// zstd's level: 3 is its default, about 0.3 ms for 100 KiB, off the request's path.
const LEVEL: i32 = 3;

/// The tier's own nodes for an entry and the allocator's rounding of its pieces, in bytes: what
/// 37,000 entries of 0.8 KiB took beyond their lengths.
const UNSEEN: usize = 512;

/// A kept answer. Shared, never copied.
#[derive(Debug, PartialEq)]
pub struct Entry {
    /// Its public name.
    pub id: EntryId,
    /// The fingerprint of the request that it answered: checked at every exact lookup.
    pub fingerprint: [u8; 32],
    /// Where it may be found by meaning.
    pub partition: Arc<str>,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// The model's name as requested.
    pub model: Arc<str>,
    /// The upstream's name.
    pub route: Arc<str>,
    /// Tags for purges.
    pub tags: Vec<String>,
    /// The last user turn's text; `None` for answers that are only repeated exactly.
    pub question: Option<Arc<str>>,
    /// The shape that was recorded.
    pub shape: Shape,
    /// The recorded `Content-Type`.
    pub content_type: String,
    /// The recorded body.
    pub body: Bytes,
    /// What the model server counted.
    pub usage: Option<Usage>,
    /// How long the upstream took for it, milliseconds.
    pub upstream_ms: u64,
    /// When its parts came, where that was noted.
    pub pace: Pace,
    /// When it was generated, Unix milliseconds.
    pub generated_ms: u64,
    /// Until when it is fresh, Unix milliseconds.
    pub expires_ms: u64,
}

/// What goes into the payload beside the fields that the store keeps itself.
#[derive(Serialize, Deserialize)]
struct Head {
    fingerprint: String,
    exact_only: bool,
    shape: Shape,
    content_type: String,
    usage: Option<Usage>,
    upstream_ms: u64,
    #[serde(default, skip_serializing_if = "Pace::is_empty")]
    pace: Pace,
    length: usize,
}

impl Entry {
    /// Does it answer exactly this request?
    pub fn answers(&self, key: &Key) -> bool {
        self.fingerprint == key.fingerprint
    }

    /// How long ago it was generated.
    pub fn age(&self, now_ms: u64) -> Duration {
        Duration::from_millis(now_ms.saturating_sub(self.generated_ms))
    }

    /// Seconds of life left; negative when stale (RFC 9211 `ttl`).
    pub fn ttl_seconds(&self, now_ms: u64) -> i64 {
        let left = i128::from(self.expires_ms) - i128::from(now_ms);
        i64::try_from(left.div_euclid(1000)).unwrap_or(i64::MAX)
    }

    /// Is it still fresh?
    pub fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms < self.expires_ms
    }

    /// Bytes that it takes in memory, roughly: what the memory tier weighs. [`UNSEEN`] stands for
    /// what cannot be asked.
    pub fn weight(&self) -> usize {
        let texts = self.content_type.len()
            + self.question.as_ref().map_or(0, |question| question.len())
            + self.partition.len();
        size_of::<Self>() + self.body.len() + texts + self.pace.weight() + UNSEEN
    }

    /// The record that a store keeps of it.
    ///
    /// # Errors
    /// Only if compression fails, which needs memory alone.
    pub fn to_record(&self, vector: Option<Vector>) -> std::io::Result<Record> {
        let head = Head {
            fingerprint: hex(&self.fingerprint),
            exact_only: self.question.is_none(),
            shape: self.shape,
            content_type: self.content_type.clone(),
            usage: self.usage,
            upstream_ms: self.upstream_ms,
            pace: self.pace.clone(),
            length: self.body.len(),
        };
        let mut payload = serde_json::to_vec(&head)?;
        payload.push(b'\n'); // serde_json never writes a bare line feed
        payload.extend(zstd::bulk::compress(&self.body, LEVEL)?);
        Ok(Record {
            id: self.id,
            answer: self.id,
            partition: self.partition.clone(),
            tenant: self.tenant.clone(),
            model: self.model.clone(),
            route: self.route.clone(),
            tags: self.tags.clone(),
            question: self.question.clone().unwrap_or_default(),
            vector,
            generated_ms: self.generated_ms,
            expires_ms: self.expires_ms,
            payload: Bytes::from(payload),
        })
    }

    /// The entry that a record holds, at most `max_bytes` of body; `None` for an alias or for
    /// anything that was not written by [`Entry::to_record`].
    pub fn from_record(record: Record, max_bytes: usize) -> Option<Self> {
        let end = record.payload.iter().position(|byte| *byte == b'\n')?;
        let head: Head = serde_json::from_slice(&record.payload[..end]).ok()?;
        if head.length > max_bytes {
            return None;
        }
        let mut body = Vec::with_capacity(head.length);
        let decoder = zstd::Decoder::new(&record.payload[end + 1..]).ok()?;
        decoder.take(head.length as u64 + 1).read_to_end(&mut body).ok()?;
        if body.len() != head.length {
            return None;
        }
        Some(Self {
            id: record.id,
            fingerprint: unhex(&head.fingerprint)?,
            partition: record.partition,
            tenant: record.tenant,
            model: record.model,
            route: record.route,
            tags: record.tags,
            question: (!head.exact_only).then_some(record.question),
            shape: head.shape,
            content_type: head.content_type,
            body: Bytes::from(body),
            usage: head.usage,
            upstream_ms: head.upstream_ms,
            pace: head.pace,
            generated_ms: record.generated_ms,
            expires_ms: record.expires_ms,
        })
    }
}

/// Unix milliseconds now. Entries outlive the process, so their times are wall-clock times.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn hex(bytes: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*bytes).to_hex().to_string()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(text).ok().map(Into::into)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cache::pace::Stopwatch;

    pub(crate) fn entry(id: u128) -> Entry {
        let mut fingerprint = [7; 32];
        fingerprint[..16].copy_from_slice(&id.to_be_bytes());
        Entry {
            id: EntryId(id),
            fingerprint,
            partition: "p".repeat(64).into(),
            tenant: "t".into(),
            model: "m".into(),
            route: "r".into(),
            tags: vec!["a".into()],
            question: Some("why?".into()),
            shape: Shape::Stream { usage: true },
            content_type: "text/event-stream".into(),
            body: Bytes::from_static(b"data: {}\n\ndata: [DONE]\n\n"),
            usage: Some(Usage { prompt: 1, completion: 2 }),
            upstream_ms: 9,
            pace: Pace::default(),
            generated_ms: 1_000,
            expires_ms: 61_000,
        }
    }

    #[test]
    fn an_entry_survives_its_record() {
        let untimed = entry(5);
        let mut watch = Stopwatch::default();
        watch.note(untimed.body.len(), Duration::from_millis(7));
        let timed = Entry { pace: watch.stop(), ..entry(6) };
        for entry in [untimed, timed] {
            let record = entry.to_record(None).unwrap();
            assert_eq!(Entry::from_record(record, 1 << 20), Some(entry));
        }
    }

    #[test]
    fn foreign_and_oversized_payloads_are_refused() {
        let record = entry(5).to_record(None).unwrap();
        assert_eq!(Entry::from_record(record.clone(), 3), None);
        for cut in 0..record.payload.len() {
            let mut cut_off = record.clone();
            cut_off.payload = record.payload.slice(..cut);
            assert_eq!(Entry::from_record(cut_off, 1 << 20), None, "{cut}");
        }
    }

    #[test]
    fn life_runs_from_generation() {
        let entry = entry(5);
        assert!(entry.is_fresh(60_999));
        assert!(!entry.is_fresh(61_000));
        assert_eq!(entry.ttl_seconds(1_000), 60);
        assert_eq!(entry.ttl_seconds(98_000), -37);
        assert_eq!(entry.age(31_000), Duration::from_secs(30));
    }
}
