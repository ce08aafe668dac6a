//! How streams are cut into events: one room a framing, one splitter for all of them.
//!
//! Splitters take bytes in any chunking, never panic, and give up on an event that is too large or
//! broken: what was not understood is not kept, and its bytes went to the client all the same.

pub(super) mod event_stream;
mod json_array;
pub(super) mod ndjson;

use serde_json::Value;

use super::sse;
pub(super) use super::sse::Event;

/// A framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events.
    Sse,
    /// A JSON document a line.
    Ndjson,
    /// The elements of one JSON list.
    JsonArray,
    /// AWS' binary messages (`application/vnd.amazon.eventstream`).
    EventStream,
}

/// Where a stream stands between events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// An event may begin here; for a list: it is closed.
    Even,
    /// The end is missing.
    Open,
    /// Something is too large or not in this framing.
    Broken,
}

/// Cuts a stream into events.
pub(super) enum Splitter {
    Sse(sse::Splitter),
    Ndjson(ndjson::Splitter),
    JsonArray(json_array::Splitter),
    EventStream(event_stream::Splitter),
}

impl Splitter {
    /// A splitter that gives up on an event of more than `limit` bytes.
    pub(super) fn new(framing: Framing, limit: usize) -> Self {
        match framing {
            Framing::Sse => Self::Sse(sse::Splitter::new(limit)),
            Framing::Ndjson => Self::Ndjson(ndjson::Splitter::new(limit)),
            Framing::JsonArray => Self::JsonArray(json_array::Splitter::new(limit)),
            Framing::EventStream => Self::EventStream(event_stream::Splitter::new(limit)),
        }
    }

    /// The next bytes; `each` is called for every event that they complete.
    pub(super) fn feed(&mut self, bytes: &[u8], each: impl FnMut(Event<'_>)) {
        match self {
            Self::Sse(splitter) => splitter.feed(bytes, each),
            Self::Ndjson(splitter) => splitter.feed(bytes, each),
            Self::JsonArray(splitter) => splitter.feed(bytes, each),
            Self::EventStream(splitter) => splitter.feed(bytes, each),
        }
    }

    /// The stream ended: reports an event whose end was forgotten, where a framing allows that.
    pub(super) fn finish(&mut self, each: impl FnMut(Event<'_>)) {
        match self {
            Self::Sse(splitter) => splitter.finish(each),
            Self::Ndjson(splitter) => splitter.finish(each),
            Self::JsonArray(_) | Self::EventStream(_) => {}
        }
    }

    /// Where the stream stands.
    pub(super) fn state(&self) -> State {
        match self {
            Self::Sse(splitter) if splitter.overflowed() => State::Broken,
            Self::Ndjson(splitter) if splitter.overflowed() => State::Broken,
            Self::Sse(_) | Self::Ndjson(_) => State::Even,
            Self::JsonArray(splitter) => splitter.state(),
            Self::EventStream(splitter) => splitter.state(),
        }
    }
}

/// The events of a complete body as JSON, each with its kind; `[DONE]` is left out. `None` if any
/// of them is not JSON.
pub(super) fn events(framing: Framing, body: &[u8]) -> Option<Vec<(String, Value)>> {
    let mut all = Vec::new();
    let mut good = true;
    let mut each = |event: Event<'_>| {
        if event.data == b"[DONE]" {
            return;
        }
        match serde_json::from_slice(event.data) {
            Ok(value) => all.push((String::from_utf8_lossy(event.kind).into_owned(), value)),
            Err(_) => good = false,
        }
    };
    let mut splitter = Splitter::new(framing, usize::MAX);
    splitter.feed(body, &mut each);
    splitter.finish(&mut each);
    (good && splitter.state() == State::Even).then_some(all)
}

#[cfg(test)]
pub(super) mod tests;
