//! What the dashboard is sent every other second.

use serde::Serialize;

use super::{Observer, Outcome, Point, Row, Sources, Stage, Stats};

/// Requests in one message; at a hundred thousand a second nobody reads more.
const MAX_ROWS: usize = 100;

/// How far one watcher has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    request: u64,
    hour: u64,
    day: u64,
}

/// Everything new, and the statistics.
#[derive(Clone, Debug, Serialize)]
pub struct Live {
    /// When the process started, Unix milliseconds: numbers begin anew when it changes.
    pub began_ms: u64,
    /// As in `/api/v1/stats`.
    pub stats: Stats,
    /// The order of `requests` in points.
    pub outcomes: [&'static str; Outcome::ALL.len()],
    /// The order of stages in a request.
    pub stages: [&'static str; Stage::ALL.len()],
    /// New points of 10 s.
    pub hour: Vec<Point>,
    /// New points of 4 min.
    pub day: Vec<Point>,
    /// New requests, oldest first.
    pub requests: Vec<Row>,
    /// New requests that are not shown.
    pub skipped: u64,
}

impl Live {
    pub(super) fn read(observer: &Observer, sources: &dyn Sources, cursor: &mut Cursor) -> Self {
        let (requests, skipped) = observer.recent.since(cursor.request, MAX_ROWS);
        let (hour, day) = observer.history.since(cursor.hour, cursor.day);
        cursor.request = requests.last().map_or(cursor.request, |row| row.seq);
        cursor.hour = hour.last().map_or(cursor.hour, |point| point.seq);
        cursor.day = day.last().map_or(cursor.day, |point| point.seq);
        let began = observer.began_at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            began_ms: u64::try_from(began.as_millis()).unwrap_or(u64::MAX),
            stats: observer.stats(sources),
            outcomes: Outcome::ALL.map(Outcome::name),
            stages: Stage::ALL.map(Stage::name),
            hour,
            day,
            requests,
            skipped,
        }
    }
}
