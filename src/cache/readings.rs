//! How stored questions read.
//!
//! The questions near to a new one are few and often the same, and a question that was just asked is
//! the next one's neighbour. What is looked up here are stored questions of the asker's own partition,
//! each of which was kept here when it was asked: that one is found tells next to nothing of what
//! others ask. The asker's own words are read anew each time.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;

use super::guards::Reading;

/// Some 8,000 questions of usual length.
const MOST_BYTES: u64 = 8 << 20;
/// What was asked is not kept much longer than it is of use.
const LIFE: Duration = Duration::from_secs(3600);
/// Longer texts are beyond an embedder's window, or nearly: they are hardly ever compared.
const LONGEST_BYTES: usize = 4 << 10;
/// What an entry takes beside its words: the reading's own fields, the map's, reference counts.
const OVERHEAD_BYTES: usize = 512;

/// Readings by their text. A clone is another handle of the same memory.
#[derive(Clone, Debug)]
pub struct Readings {
    memo: Cache<Box<str>, Arc<Reading>>,
}

impl Default for Readings {
    fn default() -> Self {
        let memo = Cache::<Box<str>, Arc<Reading>>::builder()
            .max_capacity(MOST_BYTES)
            .weigher(|text, reading| u32::try_from(text.len() + bytes(reading)).unwrap_or(u32::MAX))
            .time_to_live(LIFE);
        Self { memo: memo.build() }
    }
}

impl Readings {
    /// A stored question as the guards see it.
    pub fn of(&self, text: &str) -> Arc<Reading> {
        if let Some(known) = self.memo.get(text) {
            return known;
        }
        let reading = Arc::new(Reading::of(text));
        self.keep(text, &reading);
        reading
    }

    /// Remembers how a question reads that may soon be a stored one.
    pub fn keep(&self, text: &str, reading: &Arc<Reading>) {
        if text.len() <= LONGEST_BYTES {
            self.memo.insert(text.into(), Arc::clone(reading));
        }
    }

    /// Forgets all of them, at once.
    pub fn clear(&self) {
        self.memo.invalidate_all();
        self.memo.run_pending_tasks();
    }
}

/// About what a remembered reading takes.
fn bytes(reading: &Reading) -> usize {
    let texts = reading.text.len() + reading.compact.len() + reading.pictographs.len();
    let lists =
        reading.quoted.iter().chain(&reading.code).map(|one| size_of::<String>() + one.len());
    OVERHEAD_BYTES + texts + size_of_val(&*reading.tokens) + lists.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &str = "How do I reset my password?";

    #[test]
    fn a_text_is_read_once_until_all_are_forgotten() {
        let readings = Readings::default();
        let first = readings.of(QUESTION);
        assert!(Arc::ptr_eq(&first, &readings.of(QUESTION)));
        assert_eq!(readings.of("how do I reset my password?").text, "how do I reset my password?");
        readings.clone().clear();
        assert_eq!(readings.memo.entry_count(), 0);
        assert!(!Arc::ptr_eq(&first, &readings.of(QUESTION)));
    }

    #[test]
    fn what_was_just_asked_is_known() {
        let readings = Readings::default();
        let asked = Arc::new(Reading::of(QUESTION));
        readings.keep(QUESTION, &asked);
        assert!(Arc::ptr_eq(&asked, &readings.of(QUESTION)));
    }

    #[test]
    fn they_take_no_more_room_than_they_may() {
        let readings = Readings::default();
        // Nearly all of it is lost in reading, and lies here all the same.
        let padding = " ".repeat(LONGEST_BYTES - 20);
        for text in 0..3_000 {
            readings.of(&format!("{text} {padding}"));
        }
        readings.memo.run_pending_tasks();
        let most = MOST_BYTES / LONGEST_BYTES as u64;
        assert!((10..=most).contains(&readings.memo.entry_count()));
        let long = "word ".repeat(LONGEST_BYTES);
        assert!(!Arc::ptr_eq(&readings.of(&long), &readings.of(&long)));
    }
}
