//! The latency budget of one request: how long each stage took, and `Server-Timing`.

use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use crate::line::Line;

/// A stage of a request, in the order in which they happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reading the request's body.
    Read,
    /// Parsing it and computing its fingerprint.
    Key,
    /// The memory tier, and the store by id.
    Exact,
    /// The prompt's vector, queueing for the embedder included.
    Embed,
    /// The nearest neighbours of the vector.
    Search,
    /// Guards and verdict on the neighbours.
    Verdict,
    /// Waiting to be let through to the upstream. Of this and the next two, where the call began
    /// beside the lookup: what was waited for after it.
    Queue,
    /// A connection to the upstream (TCP, TLS), where one had to be made.
    Connect,
    /// From the request sent to the first frame of the answer: the model's own time.
    First,
    /// From the response head to the end of its body. Not in `Server-Timing`, which is sent before.
    Body,
    /// What no other stage claims: deciding, waiting for another's answer, building the response.
    /// Not in `Server-Timing`, where it is what its stages leave of its total.
    Other,
    /// From the request head to the end of the response (in `Server-Timing`: to the response head).
    Total,
}

/// How many stages there are.
pub const STAGE_COUNT: usize = Stage::ALL.len();

impl Stage {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 12] = [
        Self::Read,
        Self::Key,
        Self::Exact,
        Self::Embed,
        Self::Search,
        Self::Verdict,
        Self::Queue,
        Self::Connect,
        Self::First,
        Self::Body,
        Self::Other,
        Self::Total,
    ];

    /// The stable name, in metrics, logs and `Server-Timing`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Key => "key",
            Self::Exact => "exact",
            Self::Embed => "embed",
            Self::Search => "search",
            Self::Verdict => "verdict",
            Self::Queue => "queue",
            Self::Connect => "connect",
            Self::First => "first",
            Self::Body => "body",
            Self::Other => "other",
            Self::Total => "total",
        }
    }
}

/// How long each stage of one request took, and the stopwatch that measures them.
///
/// Stages follow one another, so [`Stages::lap`] charges everything since the last lap to one
/// stage: the laps of a request sum to its total. The clock is tokio's, so tests may pause it.
#[derive(Clone, Debug)]
pub struct Stages {
    began: Instant,
    lap: Instant,
    spans: [Option<Duration>; STAGE_COUNT],
}

impl Stages {
    /// Starts the clock.
    pub fn start() -> Self {
        let now = Instant::now();
        Self { began: now, lap: now, spans: [None; STAGE_COUNT] }
    }

    /// Charges the time since the last lap (or the start) to `stage`.
    pub fn lap(&mut self, stage: Stage) {
        let now = Instant::now();
        self.record(stage, now.duration_since(self.lap));
        self.lap = now;
    }

    /// Starts a lap without charging the time before it to anything.
    pub fn restart_lap(&mut self) {
        self.lap = Instant::now();
    }

    /// Adds a time that was measured elsewhere. A stage that happens twice (a second attempt's
    /// connection) takes the sum of both.
    pub fn record(&mut self, stage: Stage, span: Duration) {
        let sum = &mut self.spans[stage as usize];
        *sum = Some(sum.unwrap_or_default().saturating_add(span));
    }

    /// How long a stage took; `None` where it did not happen.
    pub fn get(&self, stage: Stage) -> Option<Duration> {
        self.spans[stage as usize]
    }

    /// The stages that happened.
    pub fn iter(&self) -> impl Iterator<Item = (Stage, Duration)> + '_ {
        Stage::ALL.into_iter().zip(self.spans).filter_map(|(stage, span)| Some((stage, span?)))
    }

    /// Settles the total, and what of it no stage claims: from here on the stages sum to it.
    pub(super) fn close(&mut self) {
        let total = self.elapsed();
        let claimed: Duration = self.iter().map(|(_, span)| span).sum();
        self.record(Stage::Other, total.saturating_sub(claimed));
        self.record(Stage::Total, total);
    }

    /// When the request began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Time since the request began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// `read;dur=0.012, key;dur=0.020, total;dur=0.041`: W3C Server Timing, `dur` in milliseconds.
    /// Only stages that happened; `total` is the time up to now while the request still runs.
    pub fn server_timing(&self) -> HeaderValue {
        let total = self.get(Stage::Total).unwrap_or_else(|| self.elapsed());
        let mut text = Line::default();
        for (stage, span) in self.iter().filter(|(stage, _)| *stage != Stage::Total) {
            push_metric(&mut text, stage, span);
        }
        push_metric(&mut text, Stage::Total, total);
        text.header()
    }
}

/// Appends `, name;dur=1.234`.
fn push_metric(text: &mut Line, stage: Stage, span: Duration) {
    if !text.is_empty() {
        text.push(b", ");
    }
    text.push(stage.name().as_bytes());
    text.push(b";dur=");
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    text.number(micros / 1000, 1);
    text.push(b".");
    text.number(micros % 1000, 3);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_is_in_the_order_of_the_discriminants() {
        for (index, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, index, "{}", stage.name());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn laps_follow_one_another_and_sum_to_the_total() {
        let mut stages = Stages::start();
        tokio::time::advance(Duration::from_micros(12)).await;
        stages.lap(Stage::Read);
        tokio::time::advance(Duration::from_micros(1_700)).await;
        stages.lap(Stage::Embed);
        tokio::time::advance(Duration::from_micros(9)).await;
        stages.lap(Stage::Search);
        assert_eq!(stages.get(Stage::Embed), Some(Duration::from_micros(1_700)));
        assert_eq!(stages.get(Stage::Connect), None);
        let sum: Duration = stages.iter().map(|(_, span)| span).sum();
        assert_eq!(sum, stages.elapsed());
        assert_eq!(
            stages.server_timing(),
            "read;dur=0.012, embed;dur=1.700, search;dur=0.009, total;dur=1.721"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_restarted_lap_charges_nothing_for_the_time_before() {
        let mut stages = Stages::start();
        tokio::time::advance(Duration::from_millis(5)).await;
        stages.restart_lap();
        tokio::time::advance(Duration::from_millis(2)).await;
        stages.lap(Stage::First);
        assert_eq!(stages.get(Stage::First), Some(Duration::from_millis(2)));
        assert_eq!(stages.elapsed(), Duration::from_millis(7));
    }

    #[tokio::test(start_paused = true)]
    async fn closed_stages_sum_to_the_total() {
        let mut stages = Stages::start();
        tokio::time::advance(Duration::from_millis(5)).await;
        stages.lap(Stage::Exact);
        tokio::time::advance(Duration::from_millis(2)).await;
        stages.close();
        assert_eq!(stages.get(Stage::Other), Some(Duration::from_millis(2)));
        assert_eq!(stages.get(Stage::Total), Some(Duration::from_millis(7)));
        let parts = stages.iter().filter(|(stage, _)| *stage != Stage::Total);
        assert_eq!(parts.map(|(_, span)| span).sum::<Duration>(), Duration::from_millis(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_that_happens_twice_takes_the_sum() {
        let mut stages = Stages::start();
        stages.record(Stage::Connect, Duration::from_millis(3));
        stages.record(Stage::Connect, Duration::from_millis(4));
        assert_eq!(stages.get(Stage::Connect), Some(Duration::from_millis(7)));
        assert_eq!(stages.server_timing(), "connect;dur=7.000, total;dur=0.000");
    }

    proptest! {
        #[test]
        fn a_duration_is_written_in_milliseconds(micros in any::<u64>()) {
            let mut text = Line::default();
            push_metric(&mut text, Stage::Key, Duration::from_micros(micros));
            let expected = format!("key;dur={}.{:03}", micros / 1000, micros % 1000);
            prop_assert_eq!(text.as_bytes(), expected.as_bytes());
        }
    }
}
