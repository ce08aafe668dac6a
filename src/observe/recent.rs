//! The latest requests, for whoever looks at the dashboard.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use serde::Serialize;

use super::{BodyEnd, Record, Stage};
use crate::store::EntryId;

/// How many are kept.
const KEPT: usize = 200;

/// The last finished records. The finished record itself is kept, not a copy: a full ring costs a
/// request one exchange of two pointers under a lock that nobody holds for longer.
pub(super) struct Recent(Mutex<Ring>);

struct Ring {
    /// Oldest first.
    records: VecDeque<(u64, u64, Box<Record>)>,
    /// How many there ever were.
    count: u64,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Ring { records: VecDeque::with_capacity(KEPT), count: 0 }))
    }

    /// Takes a finished record and leaves another one in its place, to be dropped by the caller
    /// when the lock is free again.
    pub(super) fn keep(&self, record: &mut Box<Record>) {
        let at_ms = unix_ms();
        let mut ring = self.0.lock();
        ring.count += 1;
        let seq = ring.count;
        let oldest = if ring.records.len() < KEPT { None } else { ring.records.pop_front() };
        let mut kept = match oldest {
            Some((_, _, oldest)) => oldest,
            None => Box::new(Record::new(record.request_id.clone(), record.route.clone())),
        };
        std::mem::swap(record, &mut kept);
        ring.records.push_back((seq, at_ms, kept));
    }

    /// The kept requests that this entry answered, each with when it ended.
    pub(super) fn answered_by(&self, entry: EntryId) -> Vec<(Record, SystemTime)> {
        let ring = self.0.lock();
        let meant =
            |record: &Record| record.entry == Some(entry) && record.outcome.spared_upstream();
        ring.records
            .iter()
            .filter(|(_, _, record)| meant(record))
            .map(|(_, at_ms, record)| {
                (Record::clone(record), UNIX_EPOCH + Duration::from_millis(*at_ms))
            })
            .collect()
    }

    /// Up to `limit` of the newest after the one numbered `since`, oldest first, and how many were
    /// left out.
    pub(super) fn since(&self, since: u64, limit: usize) -> (Vec<Row>, u64) {
        let ring = self.0.lock();
        let new = ring.count.saturating_sub(since);
        let shown = usize::try_from(new).unwrap_or(usize::MAX).min(limit).min(ring.records.len());
        let rows: Vec<_> = ring
            .records
            .iter()
            .skip(ring.records.len() - shown)
            .map(|(seq, at_ms, record)| Row::of(*seq, *at_ms, record))
            .collect();
        (rows, new - shown as u64)
    }
}

/// One request, without its prompt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Counts from 1 without gaps while the process lives.
    pub seq: u64,
    /// Unix milliseconds at which it was finished.
    pub at_ms: u64,
    /// Ties the client's log to ours.
    pub request_id: String,
    /// The upstream's route.
    pub route: String,
    /// The request's path.
    pub path: String,
    /// The model's name as the request gave it.
    pub model: Option<String>,
    /// The status that the client got.
    pub status: Option<u16>,
    /// How it was answered.
    pub outcome: &'static str,
    /// Why the cache was passed by.
    pub reason: Option<&'static str>,
    /// What went wrong.
    pub fault: Option<&'static str>,
    /// How the body ended.
    pub end: Option<&'static str>,
    /// Cosine to the nearest neighbour.
    pub similarity: Option<f32>,
    /// The entry that answered, or that the answer became.
    pub entry: Option<String>,
    /// Tokens that the upstream did not have to compute.
    pub tokens_saved: u64,
    /// To the first piece of the body.
    pub first_token_ms: Option<f64>,
    /// The whole request.
    pub total_ms: f64,
}

impl Row {
    fn of(seq: u64, at_ms: u64, record: &Record) -> Self {
        let ms = |span: std::time::Duration| span.as_secs_f64() * 1000.0;
        Self {
            seq,
            at_ms,
            request_id: record.request_id.to_string(),
            route: record.route.name.to_string(),
            path: record.clipped_path().to_owned(),
            model: record.clipped_model().map(str::to_owned),
            status: record.status.map(|status| status.as_u16()),
            outcome: record.outcome.name(),
            reason: record.reason,
            fault: record.fault.map(crate::fault::Kind::name),
            end: record.end.map(BodyEnd::name),
            similarity: record.similarity,
            entry: record.entry.map(|entry| entry.to_string()),
            tokens_saved: record.tokens_saved,
            first_token_ms: record.first_token.map(ms),
            total_ms: record.stages.get(Stage::Total).map_or(0.0, ms),
        }
    }
}

/// The wall clock, for people; intervals are measured by tokio's.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::observe::tests::observer;

    fn kept(count: u64) -> Recent {
        let (observer, recent) = (observer(), Recent::new());
        for number in 1..=count {
            let id = observer.request_id(&HeaderMap::new());
            let mut record = Box::new(Record::new(id, observer.unrouted()));
            record.path = format!("/{number}");
            recent.keep(&mut record);
        }
        recent
    }

    fn paths(rows: &[Row]) -> Vec<&str> {
        rows.iter().map(|row| row.path.as_str()).collect()
    }

    #[test]
    fn the_newest_come_last_and_each_is_shown_once() {
        let recent = kept(3);
        let (rows, skipped) = recent.since(0, 10);
        assert_eq!((paths(&rows), skipped), (vec!["/1", "/2", "/3"], 0));
        assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2, 3]);
        let (rows, skipped) = recent.since(2, 10);
        assert_eq!((paths(&rows), skipped), (vec!["/3"], 0));
        assert_eq!(recent.since(3, 10), (vec![], 0));
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let recent = kept(500);
        let (rows, skipped) = recent.since(0, 2);
        assert_eq!((paths(&rows), skipped), (vec!["/499", "/500"], 498));
        let (rows, skipped) = recent.since(100, 1000);
        assert_eq!((rows.len(), rows[0].path.as_str(), skipped), (KEPT, "/301", 200));
    }
}
