//! Traces: one tree of spans for each request that is worth a look, sent by OTLP.
//!
//! Nothing of OpenTelemetry runs while a request does. A request carries a [`TraceContext`] of 48
//! bytes; its spans are made from the finished [`Record`], by the task that sends them, and only of
//! those requests that [`Sampler`] keeps. The queue to that task is bounded: a collector that is
//! slow or gone costs traces, which are counted, and never time.

mod context;
mod export;
mod sample;
mod spans;

use std::time::SystemTime;

use http::HeaderMap;
use prometheus::IntCounter;
use tokio::sync::mpsc;

use self::{context::Ids, sample::Sampler};
pub use self::{
    context::TraceContext,
    export::{Exporter, TraceFault},
};
use super::Record;
use crate::config::Telemetry;

/// What became of the requests that were kept: `reprise_traces_total{result}`.
#[derive(Clone)]
pub(super) struct Fates {
    /// The collector has them.
    pub(super) exported: IntCounter,
    /// The collector refused them or could not be reached.
    pub(super) failed: IntCounter,
    /// The queue to the collector was full.
    pub(super) dropped: IntCounter,
}

/// A finished request on its way to the collector.
struct Finished {
    record: Record,
    ended: SystemTime,
    /// Its answer turned out to be wrong.
    wrong: bool,
}

/// Gives requests their place in a trace, and keeps those worth a look.
pub(super) struct Tracer {
    ids: Ids,
    sampler: Sampler,
    queue: mpsc::Sender<Finished>,
    fates: Fates,
}

/// Whether a request's trace is on its way to the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Yes,
    No,
}

impl Tracer {
    /// A tracer, and the task that sends what it keeps.
    pub(super) fn start(config: &Telemetry, fates: Fates) -> Result<(Self, Exporter), TraceFault> {
        let (queue, finished) = mpsc::channel(config.queue);
        let exporter = Exporter::start(config, finished, fates.clone())?;
        let sampler = Sampler::new(config.sample, config.slow.get());
        Ok((Self { ids: Ids::new(), sampler, queue, fates }, exporter))
    }

    /// Reads the client's context, or begins a trace; afterwards the headers name our span as the
    /// parent of whatever the upstream does.
    pub(super) fn begin(&self, headers: &mut HeaderMap) -> TraceContext {
        let context = match context::read(headers) {
            Some(client) => self.ids.child_of(&client),
            None => self.ids.root(|trace| self.sampler.draws(trace)),
        };
        context::write(headers, &context);
        context
    }

    /// Sends a finished request to the collector if it is worth a look.
    pub(super) fn offer(&self, record: &Record) -> Kept {
        if !self.sampler.keeps(record) {
            return Kept::No;
        }
        self.send(Finished { record: record.clone(), ended: SystemTime::now(), wrong: false });
        Kept::Yes
    }

    /// Sends a request of before whose answer turned out to be wrong, unless it was sent then.
    pub(super) fn wrong(&self, record: Record, ended: SystemTime) {
        if !self.sampler.keeps(&record) {
            self.send(Finished { record, ended, wrong: true });
        }
    }

    fn send(&self, finished: Finished) {
        if self.queue.try_send(finished).is_err() {
            self.fates.dropped.inc();
        }
    }
}
