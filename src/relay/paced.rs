//! A replayed stream at the pace of the one that was recorded, for clients that show text as it
//! comes and should not be startled.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::cache::pace::Pace;

/// The most pieces of one body: past it several events share a piece.
const PIECES_MAX: usize = 10_000;

/// Bytes that are let go event by event.
pub(super) struct Paced {
    /// Each with the time at which it is due.
    pieces: VecDeque<(Bytes, Instant)>,
    due: Pin<Box<Sleep>>,
}

impl Paced {
    /// Each event when it came; where that was not noted the first at once, the last after `total`,
    /// the others evenly between. Events end with a line feed in all framings but the binary one,
    /// which is let go in pieces of any kind.
    pub(super) fn new(bytes: &Bytes, pace: &Pace, total: Duration) -> Self {
        let begun = Instant::now();
        let pieces = cut(bytes);
        let gaps = u32::try_from(pieces.len().saturating_sub(1)).unwrap_or(u32::MAX).max(1);
        let mut said = 0;
        let timed = (0_u32..).zip(pieces).map(|(place, piece)| {
            said += piece.len();
            let after = match pace.is_empty() {
                true => total / gaps * place,
                false => pace.due(said, bytes.len()),
            };
            (piece, begun + after)
        });
        Self { pieces: timed.collect(), due: Box::pin(sleep_until(begun)) }
    }

    /// Bytes that are still here.
    pub(super) fn left(&self) -> u64 {
        self.pieces.iter().map(|(piece, _)| piece.len() as u64).sum()
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some((_, due)) = self.pieces.front() else { return Poll::Ready(None) };
        if self.due.deadline() != *due {
            self.due.as_mut().reset(*due);
        }
        ready!(self.due.as_mut().poll(context));
        Poll::Ready(self.pieces.pop_front().map(|(piece, _)| piece))
    }
}

fn cut(bytes: &Bytes) -> VecDeque<Bytes> {
    let least = bytes.len().div_ceil(PIECES_MAX);
    let mut pieces = VecDeque::new();
    let mut from = 0;
    for at in 1..=bytes.len() {
        let event_ends = bytes[at - 1] == b'\n' && bytes.get(at) != Some(&b'\n');
        if at == bytes.len() || (event_ends && at - from >= least) {
            pieces.push_back(bytes.slice(from..at));
            from = at;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::cache::pace::Stopwatch;

    const EVENTS: Bytes = Bytes::from_static(b"data: 1\n\ndata: 2\n\ndata: 3\n\n");

    /// The hundredths of a second at which the pieces come; together they must be everything.
    async fn times(pace: &Pace) -> Vec<u128> {
        let mut paced = Paced::new(&EVENTS, pace, Duration::from_secs(2));
        let begun = Instant::now();
        let (mut all, mut times) = (Vec::new(), Vec::new());
        while let Some(piece) = poll_fn(|context| paced.poll_next(context)).await {
            all.extend_from_slice(&piece);
            times.push(begun.elapsed().as_millis() / 10);
        }
        assert_eq!(all, EVENTS);
        times
    }

    #[tokio::test(start_paused = true)]
    async fn without_times_events_are_spread_over_the_whole() {
        assert_eq!(times(&Pace::default()).await, [0, 100, 200]);
    }

    #[tokio::test(start_paused = true)]
    async fn events_come_when_they_came() {
        let mut watch = Stopwatch::default();
        let nine = EVENTS.len() / 3;
        for (bytes, after) in [(nine, 700), (2, 750), (nine - 2, 900), (nine, 5000)] {
            watch.note(bytes, Duration::from_millis(after));
        }
        assert_eq!(times(&watch.stop()).await, [70, 90, 500]);
    }

    #[test]
    fn no_body_is_cut_too_finely_and_nothing_is_lost() {
        for text in
            [String::new(), "\n".repeat(50_000), "x\n".repeat(50_000), "no line feed".into()]
        {
            let bytes = Bytes::from(text);
            let pieces = cut(&bytes);
            assert!(pieces.len() <= PIECES_MAX + 1);
            assert_eq!(pieces.iter().flatten().copied().collect::<Vec<u8>>(), bytes);
        }
    }
}
