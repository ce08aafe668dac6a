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

/// The most pieces of one body: past it several events share a piece.
const PIECES_MAX: usize = 10_000;

/// Bytes that are let go event by event.
pub(super) struct Paced {
    pieces: VecDeque<Bytes>,
    gap: Duration,
    due: Pin<Box<Sleep>>,
}

impl Paced {
    /// The first event at once, the last one after `total`. Events end with a line feed in all
    /// framings but the binary one, which is let go in pieces of any kind.
    pub(super) fn new(bytes: &Bytes, total: Duration) -> Self {
        let pieces = cut(bytes);
        let gaps = u32::try_from(pieces.len().saturating_sub(1)).unwrap_or(u32::MAX).max(1);
        Self { pieces, gap: total / gaps, due: Box::pin(sleep_until(Instant::now())) }
    }

    /// Bytes that are still here.
    pub(super) fn left(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.pieces.is_empty() {
            return Poll::Ready(None);
        }
        ready!(self.due.as_mut().poll(context));
        let next = self.due.deadline() + self.gap;
        self.due.as_mut().reset(next);
        Poll::Ready(self.pieces.pop_front())
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

    #[tokio::test(start_paused = true)]
    async fn events_are_spread_over_the_recorded_time() {
        let bytes = Bytes::from_static(b"data: 1\n\ndata: 2\n\ndata: 3\n\n");
        let mut paced = Paced::new(&bytes, Duration::from_secs(2));
        let begun = Instant::now();
        let mut got = Vec::new();
        while let Some(piece) = poll_fn(|context| paced.poll_next(context)).await {
            got.push((piece, begun.elapsed().as_millis().div_ceil(10)));
        }
        let all: Vec<u8> = got.iter().flat_map(|(piece, _)| piece.to_vec()).collect();
        assert_eq!(all, bytes);
        let times: Vec<_> = got.iter().map(|(_, at)| *at).collect();
        assert_eq!(times, [0, 100, 200].map(|tenth: u128| tenth), "{times:?}");
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
