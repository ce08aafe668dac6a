//! An upstream's answer on its way into the log, and what is kept of it.

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::journey::{AnswerHead, Errand};
use crate::{
    cache::{
        flight::{Lead, log::Writer},
        pace::{Pace, Stopwatch},
    },
    config::{NoStore, Replay},
    fault::Fault,
    upstream::ReplyBody,
    wire::{Answer, Listener, NotStorable, Usage, grpc},
};

/// An answer that comes at full speed lets others on its thread go on after so many bytes: hearing them takes
/// longer than reading them.
const TURN_BYTES: usize = 64 << 10;

/// Why an answer with this head is not kept.
pub(super) fn not_storable(
    errand: &Errand,
    status: StatusCode,
    headers: &HeaderMap,
) -> Option<NotStorable> {
    // A call of gRPC that failed at once says so in its head.
    if status != StatusCode::OK || headers.contains_key(grpc::STATUS) {
        return Some(NotStorable::Status);
    }
    let directives = headers.get_all(header::CACHE_CONTROL).iter();
    let forbids = |directive: &str| {
        matches!(directive.trim().to_ascii_lowercase().as_str(), "no-store" | "private")
    };
    let forbidden = directives
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(forbids));
    if forbidden && errand.house.no_store(&errand.upstream) == NoStore::Heed {
        return Some(NotStorable::NoStore);
    }
    let encoding = headers.get(header::CONTENT_ENCODING);
    encoding.is_some_and(|encoding| encoding != "identity").then_some(NotStorable::Encoded)
}

/// A complete answer's body with what was heard of it.
pub(super) struct Complete {
    pub(super) body: Bytes,
    pub(super) text: String,
    pub(super) usage: Option<Usage>,
    pub(super) pace: Pace,
}

/// How draining ended.
pub(super) enum Drained {
    Kept(Complete),
    Gone(NotStorable),
    Failed(Fault),
}

/// What listens to an answer while it may still be kept.
pub(super) struct Recorder {
    ears: Box<dyn Listener>,
    /// Notes when its events come, where a replay shall keep their time.
    watch: Option<Stopwatch>,
    begun: Instant,
    not_storable: Option<NotStorable>,
}

impl Recorder {
    pub(super) fn new(errand: &Errand, begun: Instant, not_storable: Option<NotStorable>) -> Self {
        let shape = errand.prompt.shape;
        let timed = errand.house.config.cache.replay == Replay::Recorded && shape.is_events();
        let watch = timed.then(Stopwatch::default);
        Self { ears: errand.dialect.listener(shape), watch, begun, not_storable }
    }

    fn hear(&mut self, chunk: &[u8]) {
        self.ears.hear(chunk);
        if let Some(watch) = &mut self.watch {
            watch.note(chunk.len(), self.begun.elapsed());
        }
    }

    /// What is kept of an answer that ended cleanly.
    fn finish(self, errand: &Errand, writer: &Writer, trailers: Option<&HeaderMap>) -> Drained {
        let ended = errand.dialect.ended(trailers);
        if let Some(why) = self.not_storable.or(ended.err()) {
            return Drained::Gone(why);
        }
        let most = errand.house.config.cache.max_entry.bytes();
        let Some(body) = writer.body().filter(|body| body.len() <= most) else {
            return Drained::Gone(NotStorable::TooLarge);
        };
        match self.ears.finish(&body) {
            Ok(Answer { text, usage }) => {
                let pace = self.watch.map(Stopwatch::stop).unwrap_or_default();
                Drained::Kept(Complete { body, text, usage, pace })
            }
            Err(why) => Drained::Gone(why),
        }
    }
}

/// Drains the upstream into the log at the upstream's own speed; its trailers are kept apart.
pub(super) async fn drain(
    errand: &Errand,
    lead: &Lead<AnswerHead>,
    writer: &Writer,
    (mut body, trailers): (ReplyBody, &mut Option<HeaderMap>),
    mut recorder: Recorder,
) -> Drained {
    let mut recording = recorder.not_storable.is_none();
    let mut taken = 0;
    loop {
        // A client of a body whose length was announced leaves with the last byte, before we hear of
        // the end: what is complete is not abandoned.
        let finishes = errand.house.config.cache.finish_abandoned;
        let wanted = body.is_end_stream() || (recording && finishes);
        let frame = tokio::select! {
            biased;
            () = lead.deserted(), if !wanted => return Drained::Gone(NotStorable::Abandoned),
            frame = body.frame() => frame,
        };
        let chunk = match frame {
            None => return recorder.finish(errand, writer, trailers.as_ref()),
            Some(Err(fault)) => return Drained::Failed(fault),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(chunk) => chunk,
                // Those of other APIs say nothing that a client could use.
                Err(frame) => {
                    *trailers = errand.dialect.trailers(Ok(())).and(frame.into_trailers().ok());
                    continue;
                }
            },
        };
        if recording {
            recorder.hear(&chunk);
        }
        taken += chunk.len();
        writer.push(chunk);
        if taken >= TURN_BYTES {
            taken = 0;
            tokio::task::yield_now().await;
        }
        if !writer.is_recording() {
            recording = false;
            lead.close_doors();
        }
        tokio::select! {
            biased;
            () = writer.room() => {}
            // A leader's client that left before the head never took its place in the log: that
            // place alone would hold us back for ever.
            () = lead.deserted() => return Drained::Gone(NotStorable::Abandoned),
        }
    }
}
