//! Everything that is said about one request, and the guard that says it exactly once.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, Method, StatusCode};

use super::{BodyEnd, Observer, Outcome, Prompts, RequestId, Route, Stage, Stages, TraceContext};
use crate::{fault::Kind, store::EntryId};

/// Longest part of a client's own text (path, model) that goes into a log line.
const MAX_TEXT: usize = 256;

/// What is known of one request. Fields are filled by the rooms that know them.
#[derive(Clone)]
pub struct Record {
    /// Ties the client's log to ours.
    pub request_id: RequestId,
    /// Its place in a trace, where traces are on.
    pub trace: Option<TraceContext>,
    /// The trace of the request whose answer it joined.
    pub joined: Option<TraceContext>,
    /// The upstream's route; [`Observer::unrouted`] until one is found.
    pub route: Arc<Route>,
    /// The request's method.
    pub method: Method,
    /// The request's path; its query is never kept, since some APIs carry credentials in it.
    pub path: String,
    /// The status that the client got; `None` if it left before there was one.
    pub status: Option<StatusCode>,
    /// How it was answered: [`Outcome::Error`] until something better is known.
    pub outcome: Outcome,
    /// Why the cache (or one of its tiers) was passed by: a closed name.
    pub reason: Option<&'static str>,
    /// What was said of the nearest neighbour: a closed name.
    pub verdict: Option<&'static str>,
    /// The keyed hash that stands for the client's credential.
    pub tenant: Option<Arc<str>>,
    /// The model's name as the request gave it.
    pub model: Option<Arc<str>>,
    /// The entry that answered, or that the answer became.
    pub entry: Option<EntryId>,
    /// Cosine to the nearest neighbour, served or not.
    pub similarity: Option<f32>,
    /// `stream` or `whole`, as the client asked.
    pub shape: Option<&'static str>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the response's body handed to the client's connection.
    pub bytes_out: u64,
    /// Tokens of the prompt, as the answer's usage says.
    pub tokens_prompt: Option<u64>,
    /// Tokens of the answer, as its usage says.
    pub tokens_completion: Option<u64>,
    /// Tokens that the upstream did not have to compute.
    pub tokens_saved: u64,
    /// Time that the upstream did not have to work.
    pub upstream_saved: Duration,
    /// The upstream's replica that answered: its URL.
    pub replica: Option<Arc<str>>,
    /// The latency budget.
    pub stages: Stages,
    /// From the request head to the first piece of the answer's body.
    pub first_token: Option<Duration>,
    /// How the body ended.
    pub end: Option<BodyEnd>,
    /// What went wrong.
    pub fault: Option<Kind>,
    prompt: Option<Arc<str>>,
    head_at: Option<Duration>,
    piece_at: Option<Duration>,
}

impl Record {
    pub(super) fn new(request_id: RequestId, route: Arc<Route>) -> Self {
        Self {
            request_id,
            trace: None,
            joined: None,
            route,
            method: Method::GET,
            path: String::new(),
            status: None,
            outcome: Outcome::Error,
            reason: None,
            verdict: None,
            tenant: None,
            model: None,
            entry: None,
            similarity: None,
            shape: None,
            bytes_in: 0,
            bytes_out: 0,
            tokens_prompt: None,
            tokens_completion: None,
            tokens_saved: 0,
            upstream_saved: Duration::ZERO,
            replica: None,
            stages: Stages::start(),
            first_token: None,
            end: None,
            fault: None,
            prompt: None,
            head_at: None,
            piece_at: None,
        }
    }

    /// Notes the status that the client gets, and when.
    pub fn head(&mut self, status: StatusCode) {
        self.status = Some(status);
        self.head_at = Some(self.stages.elapsed());
    }

    /// Notes bytes of the body that were handed to the client's connection. The first of them is
    /// the first token.
    pub fn sent(&mut self, bytes: usize) {
        self.first_token.get_or_insert_with(|| self.stages.elapsed());
        self.bytes_out += bytes as u64;
    }

    /// Settles what only the end tells.
    fn close(&mut self) {
        if let Some(head_at) = self.head_at {
            let body = self.stages.elapsed().saturating_sub(head_at);
            self.stages.record(Stage::Body, body);
        }
        self.stages.close();
        // Whoever knew better has said so before: what is dropped without a word lost its client.
        self.end.get_or_insert(BodyEnd::ClientLeft);
    }

    /// Lets go of the prompt once it is logged: a kept record should hold little.
    pub(super) fn forget_prompt(&mut self) {
        self.prompt = None;
    }

    /// The prompt's text, where the configuration lets it be kept.
    pub(super) fn prompt(&self) -> Option<&str> {
        self.prompt.as_deref()
    }

    /// The path, no longer than a log line bears.
    pub(super) fn clipped_path(&self) -> &str {
        clip(&self.path)
    }

    /// The model's name, no longer than a log line bears.
    pub(super) fn clipped_model(&self) -> Option<&str> {
        self.model.as_deref().map(clip)
    }

    /// Writes the access record, target `access`. Fields that are not known are left out.
    pub(super) fn log(&self) {
        let ms = |stage: Stage| self.stages.get(stage).map(millis);
        tracing::info!(
            target: "access",
            request_id = self.request_id.as_str(),
            trace_id = self.trace.map(|context| context.trace_id()),
            route = &*self.route.name,
            dialect = &*self.route.dialect,
            method = self.method.as_str(),
            path = self.clipped_path(),
            status = self.status.map(|status| status.as_u16()),
            outcome = self.outcome.name(),
            reason = self.reason,
            verdict = self.verdict,
            end = self.end.map(BodyEnd::name),
            fault = self.fault.map(Kind::name),
            tenant = self.tenant.as_deref(),
            model = self.clipped_model(),
            entry = self.entry.map(tracing::field::display),
            similarity = self.similarity.map(f64::from),
            shape = self.shape,
            replica = self.replica.as_deref(),
            bytes_in = self.bytes_in,
            bytes_out = self.bytes_out,
            tokens_prompt = self.tokens_prompt,
            tokens_completion = self.tokens_completion,
            tokens_saved = self.tokens_saved,
            upstream_saved_ms = millis(self.upstream_saved),
            first_token_ms = self.first_token.map(millis),
            read_ms = ms(Stage::Read),
            key_ms = ms(Stage::Key),
            exact_ms = ms(Stage::Exact),
            embed_ms = ms(Stage::Embed),
            search_ms = ms(Stage::Search),
            verdict_ms = ms(Stage::Verdict),
            queue_ms = ms(Stage::Queue),
            connect_ms = ms(Stage::Connect),
            first_ms = ms(Stage::First),
            body_ms = ms(Stage::Body),
            other_ms = ms(Stage::Other),
            total_ms = ms(Stage::Total),
            prompt = self.prompt.as_deref(),
        );
    }
}

/// Milliseconds with microseconds behind the point: what a person reads in a log.
fn millis(span: Duration) -> f64 {
    span.as_micros() as f64 / 1000.0
}

/// The beginning of a client's text, cut at a character.
fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

/// Holds a request's record while the request runs, and finishes it when dropped: by the response
/// body at its end, or by whatever future is dropped when the client goes away.
pub struct RecordGuard {
    // Boxed: the guard moves through the futures of a request, and a record is large.
    record: Box<Record>,
    observer: Arc<Observer>,
}

impl RecordGuard {
    pub(super) fn new(observer: Arc<Observer>, record: Record) -> Self {
        Self { record: Box::new(record), observer }
    }

    /// Takes the client's place in its trace, or begins one; the headers then name ours. Without a
    /// collector they stay as the client wrote them.
    pub fn trace(&mut self, headers: &mut HeaderMap) {
        self.record.trace = self.observer.tracer.get().map(|tracer| tracer.begin(headers));
    }

    /// Keeps the prompt's text for the access record and the trace, if the configuration wants that.
    pub fn prompt(&mut self, text: &Arc<str>) {
        if self.observer.prompts() == Prompts::Shown {
            self.record.prompt = Some(Arc::clone(text));
        }
    }

    /// Notes bytes of the body as [`Record::sent`] does, and in a stream how long after the piece
    /// before they came: the latency between tokens, where the upstream sends them one by one.
    pub fn sent(&mut self, bytes: usize) {
        if self.record.shape == Some("stream") {
            let now = self.record.stages.elapsed();
            if let Some(before) = self.record.piece_at.replace(now) {
                self.observer.metrics.piece(now.saturating_sub(before));
            }
        }
        self.record.sent(bytes);
    }

    /// Ends the request: the record is finished now.
    pub fn finish(mut self, end: BodyEnd) {
        self.record.end = Some(end);
    }
}

impl Deref for RecordGuard {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

impl DerefMut for RecordGuard {
    fn deref_mut(&mut self) -> &mut Record {
        &mut self.record
    }
}

impl Drop for RecordGuard {
    fn drop(&mut self) {
        self.record.close();
        self.observer.finish(&mut self.record);
    }
}

#[cfg(test)]
mod tests;
