//! Texts that were read a moment ago.
//!
//! The questions near to a new one are few and often the same, and a question that was just asked is
//! the next one's neighbour. A reading is a function of its text alone, so whose it is does not matter:
//! a question is compared with those of its own partition only, whoever had them read.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;

use super::Reading;

/// Some 8,000 questions of usual length.
const MOST_BYTES: u64 = 8 << 20;
/// What was asked is not kept much longer than it is of use.
const LIFE: Duration = Duration::from_secs(3600);
/// What an entry takes beside its words: the reading's own fields, the map's, reference counts.
const OVERHEAD_BYTES: usize = 512;

/// Reads texts, and remembers how they read.
#[derive(Debug)]
pub struct Reader {
    memo: Cache<Box<str>, Arc<Reading>>,
}

impl Default for Reader {
    fn default() -> Self {
        let memo = Cache::builder()
            .max_capacity(MOST_BYTES)
            .weigher(|_, reading: &Arc<Reading>| u32::try_from(bytes(reading)).unwrap_or(u32::MAX))
            .time_to_live(LIFE);
        Self { memo: memo.build() }
    }
}

impl Reader {
    /// As the guards see this text.
    pub fn read(&self, text: &str) -> Arc<Reading> {
        if let Some(known) = self.memo.get(text) {
            return known;
        }
        let reading = Arc::new(Reading::of(text));
        self.memo.insert(text.into(), Arc::clone(&reading));
        reading
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        self.memo.invalidate_all();
    }
}

/// About what a remembered reading takes, its key included.
fn bytes(reading: &Reading) -> usize {
    let texts = 2 * reading.text.len() + reading.compact.len();
    OVERHEAD_BYTES + texts + size_of_val(&*reading.tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_once_until_all_are_forgotten() {
        let reader = Reader::default();
        let first = reader.read("How do I reset my password?");
        assert!(Arc::ptr_eq(&first, &reader.read("How do I reset my password?")));
        assert_eq!(reader.read("how do I reset my password?").text, "how do I reset my password?");
        reader.clear();
        assert!(!Arc::ptr_eq(&first, &reader.read("How do I reset my password?")));
    }

    #[test]
    fn they_take_no_more_room_than_they_may() {
        let reader = Reader::default();
        let long = "word ".repeat(4_000);
        for text in 0..100 {
            reader.read(&format!("{text} {long}"));
        }
        reader.memo.run_pending_tasks();
        assert!(reader.memo.weighted_size() <= MOST_BYTES);
        assert!(reader.memo.entry_count() > 10);
    }
}
