//! When the parts of a stream came, so that a replay can keep its time.
//!
//! Bounded: a stream of more parts than [`MARKS_MAX`] keeps every second mark, then every fourth,
//! and so on; what lies between two marks comes with the later one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The most marks of one answer, 4 KiB of them.
const MARKS_MAX: usize = 512;

/// The times of one answer; empty where they were not noted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pace {
    /// So many bytes had come after so many milliseconds; both never fall.
    marks: Vec<(u32, u32)>,
}

impl Pace {
    /// Was nothing noted?
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Bytes that it takes in memory.
    pub fn weight(&self) -> usize {
        self.marks.capacity() * size_of::<(u32, u32)>()
    }

    /// When a replay has said `part` of the `whole` of its bytes: as late as that share of the
    /// recording had come. A replay in other words (another shape, fresh ids) keeps its time too.
    pub fn due(&self, part: usize, whole: usize) -> Duration {
        let recorded = self.marks.last().map_or(0, |(bytes, _)| u64::from(*bytes));
        // Exact where both are of one length.
        let reached = (part as u64 * recorded).div_ceil((whole as u64).max(1));
        let at = self.marks.partition_point(|(bytes, _)| u64::from(*bytes) < reached);
        let mark = self.marks.get(at).or(self.marks.last());
        Duration::from_millis(mark.map_or(0, |(_, ms)| u64::from(*ms)))
    }
}

/// Notes the times of a running answer.
#[derive(Debug)]
pub struct Stopwatch {
    pace: Pace,
    bytes: u32,
    /// Of so many parts one is noted.
    every: u32,
    skipped: u32,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self { pace: Pace::default(), bytes: 0, every: 1, skipped: 0 }
    }
}

impl Stopwatch {
    /// So many more bytes came, so long after the request.
    pub fn note(&mut self, bytes: usize, after: Duration) {
        let ms = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
        self.bytes = self.bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.skipped += 1;
        let marks = &mut self.pace.marks;
        // The last mark is always of all that came: it is overwritten until one is due.
        let is_due = marks.is_empty() || self.skipped >= self.every;
        match marks.last_mut().filter(|_| !is_due) {
            Some(last) => *last = (self.bytes, ms),
            None => {
                self.skipped = 0;
                marks.push((self.bytes, ms));
            }
        }
        if marks.len() > MARKS_MAX {
            let last = marks.len() - 1;
            let mut at = 0..;
            marks.retain(|_| at.next().is_some_and(|at| at % 2 == 0 || at == last));
            self.every *= 2;
        }
    }

    /// The times of an answer that is complete.
    pub fn stop(self) -> Pace {
        let mut pace = self.pace;
        pace.marks.shrink_to_fit();
        pace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn each_part_is_due_when_it_came() {
        let mut watch = Stopwatch::default();
        for (bytes, after) in [(10, 300), (10, 310), (30, 900)] {
            watch.note(bytes, ms(after));
        }
        let pace = watch.stop();
        for (part, due) in
            [(0, 300), (1, 300), (10, 300), (11, 310), (20, 310), (21, 900), (50, 900)]
        {
            assert_eq!(pace.due(part, 50), ms(due), "{part}");
        }
        // Twice as long, in other words.
        assert_eq!(pace.due(20, 100), ms(300));
        assert_eq!(pace.due(100, 100), ms(900));
        assert_eq!(Pace::default().due(1, 2), Duration::ZERO);
        assert_eq!(pace.due(0, 0), ms(300));
    }

    proptest::proptest! {
        #[test]
        fn marks_are_few_ordered_and_end_with_the_answer(
            steps in proptest::collection::vec((1_usize..500, 0_u64..50), 1..3000),
        ) {
            let mut watch = Stopwatch::default();
            let (mut bytes, mut after) = (0, 0);
            for (more, wait) in steps {
                bytes += more;
                after += wait;
                watch.note(more, ms(after));
            }
            let pace = watch.stop();
            assert!(pace.marks.len() <= MARKS_MAX);
            assert!(pace.marks.is_sorted());
            assert_eq!(pace.due(bytes, bytes), ms(after));
            assert!(pace.due(1, bytes) <= ms(after));
        }
    }
}
