//! A replayed answer as its operator wants it: with an id and a time of its own, or without counts.
//!
//! By default a replay is what was recorded, to the last byte, and nothing here is called.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Dialect, Shape,
    framing::{self, Framing, event_stream},
    sse,
};

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dress {
    /// Ids and times are new.
    pub fresh: bool,
    /// Token counts are zero.
    pub uncounted: bool,
}

/// Where an answer (or an event of it) says something about itself: JSON pointers.
#[derive(Clone, Debug, Default)]
pub struct Marks<'d> {
    /// How a stream is cut into events.
    pub framing: Option<Framing>,
    /// Ids, equal where they name one thing.
    pub ids: Vec<&'d str>,
    /// Unix seconds, or RFC 3339.
    pub times: Vec<&'d str>,
    /// Counts: numbers, or objects of them.
    pub counts: Vec<&'d str>,
}

/// The body in this dress; as it is where it cannot be read.
pub fn dressed(dialect: &dyn Dialect, shape: Shape, body: &Bytes, dress: Dress) -> Bytes {
    let marks = dialect.marks();
    let wardrobe = Wardrobe { dress, seed: seed(), now: SystemTime::now(), marks };
    wardrobe.change(shape, body).unwrap_or_else(|| body.clone())
}

struct Wardrobe<'d> {
    dress: Dress,
    seed: [u8; 32],
    now: SystemTime,
    marks: Marks<'d>,
}

/// Without randomness two replays would have one id, which does no harm.
fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    let _ = getrandom::fill(&mut seed);
    seed
}

/// Is there the mark of the end, whatever comes after it?
fn says_done(stream: &[u8]) -> bool {
    let mut done = false;
    let mut each = |event: framing::Event<'_>| done |= event.data == b"[DONE]";
    let mut splitter = framing::Splitter::new(Framing::Sse, usize::MAX);
    splitter.feed(stream, &mut each);
    splitter.finish(each);
    done
}

impl Wardrobe<'_> {
    fn change(&self, shape: Shape, body: &Bytes) -> Option<Bytes> {
        let framing = match shape {
            Shape::Whole => {
                let mut answer: Value = serde_json::from_slice(body).ok()?;
                self.document(&mut answer);
                return Some(Bytes::from(answer.to_string()));
            }
            Shape::Array => Framing::JsonArray,
            Shape::Stream { .. } => self.marks.framing?,
        };
        let mut out = Vec::with_capacity(body.len());
        let mut documents = Vec::new();
        for (kind, mut event) in framing::events(framing, body)? {
            self.document(&mut event);
            let data = event.to_string();
            match framing {
                Framing::Sse if kind.is_empty() => sse::write(&mut out, data.as_bytes()),
                Framing::Sse => sse::write_kind(&mut out, &kind, data.as_bytes()),
                Framing::Ndjson => out.extend_from_slice(format!("{data}\n").as_bytes()),
                Framing::EventStream => event_stream::write(&mut out, &kind, data.as_bytes()),
                Framing::JsonArray => documents.push(data),
            }
        }
        match framing {
            Framing::JsonArray => out = format!("[{}\n]\n", documents.join(",\r\n")).into_bytes(),
            // The mark is no JSON and so no event here.
            Framing::Sse if says_done(body) => sse::write(&mut out, b"[DONE]"),
            Framing::Sse | Framing::Ndjson | Framing::EventStream => {}
        }
        Some(Bytes::from(out))
    }

    fn document(&self, document: &mut Value) {
        if self.dress.fresh {
            for place in &self.marks.ids {
                if let Some(Value::String(id)) = document.pointer_mut(place) {
                    *id = self.id(id);
                }
            }
            for place in &self.marks.times {
                match document.pointer_mut(place) {
                    Some(Value::String(time)) => {
                        *time = humantime::format_rfc3339_micros(self.now).to_string();
                    }
                    Some(time @ Value::Number(_)) => {
                        let since = self.now.duration_since(UNIX_EPOCH).unwrap_or_default();
                        *time = json!(since.as_secs());
                    }
                    _ => {}
                }
            }
        }
        if self.dress.uncounted {
            for place in &self.marks.counts {
                if let Some(count) = document.pointer_mut(place) {
                    zero(count);
                }
            }
        }
    }

    /// A new id that looks like the old one: the same prefix (`chatcmpl-`), as many hex digits.
    fn id(&self, old: &str) -> String {
        let prefix = old.rfind(['-', '_']).map_or(0, |at| at + 1);
        let (prefix, rest) = old.split_at(prefix);
        let mut digits = vec![0; rest.len().div_ceil(2)];
        blake3::Hasher::new_keyed(&self.seed)
            .update(old.as_bytes())
            .finalize_xof()
            .fill(&mut digits);
        let digits: String = digits.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{prefix}{}", digits.get(..rest.len()).unwrap_or(&digits))
    }
}

fn zero(count: &mut Value) {
    match count {
        Value::Number(_) => *count = 0.into(),
        Value::Object(counts) => counts.values_mut().for_each(zero),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::dialects::{Dialects, Family};

    const BOTH: Dress = Dress { fresh: true, uncounted: true };
    /// Long enough that no new id is, or ends like, this one by chance.
    const OLD: &str = "chatcmpl-0123456789abcdef";

    fn dialect(path: &str) -> std::sync::Arc<dyn Dialect> {
        Dialects::of(&Family::Auto).at(path).unwrap().clone()
    }

    #[test]
    fn ids_and_times_are_new_and_the_same_throughout() {
        let chat = dialect("/v1/chat/completions");
        let chunk = |content: &str| json!({"id": OLD, "created": 7, "choices": [{"index": 0, "delta": {"content": content}}], "usage": {"prompt_tokens": 5, "details": {"cached": 1}}});
        let mut body = Vec::new();
        for content in ["a", "b"] {
            sse::write(&mut body, chunk(content).to_string().as_bytes());
        }
        sse::write(&mut body, b"[DONE]");
        let shape = Shape::Stream { usage: false };
        let replay = dressed(&*chat, shape, &Bytes::from(body), BOTH);
        assert!(replay.ends_with(b"data: [DONE]\n\n"));
        let events = framing::events(Framing::Sse, &replay).unwrap();
        let (first, second) = (&events[0].1, &events[1].1);
        assert_eq!(first["id"], second["id"]);
        let id = first["id"].as_str().unwrap();
        assert!(id.starts_with("chatcmpl-") && id != OLD && id.len() == OLD.len(), "{id}");
        assert!(first["created"].as_u64().unwrap() > 7);
        assert_eq!(first["usage"], json!({"prompt_tokens": 0, "details": {"cached": 0}}));
        assert_eq!(second["choices"], chunk("b")["choices"]);
    }

    #[test]
    fn a_comment_behind_the_end_does_not_take_the_mark_away() {
        let body = Bytes::from("data: {}\n\ndata: [DONE]\n\n: alive\n\n");
        let shape = Shape::Stream { usage: false };
        let replay = dressed(&*dialect("/v1/chat/completions"), shape, &body, BOTH);
        assert!(replay.ends_with(b"data: [DONE]\n\n"));
    }

    #[test]
    fn every_framing_can_be_dressed() {
        for (path, shape, body) in [
            (
                "/v1/messages",
                Shape::Stream { usage: false },
                "event: message_start\ndata: {\"message\":{\"id\":\"msg_0123456789abcdef\",\"usage\":{\"input_tokens\":3}}}\n\n",
            ),
            (
                "/api/chat",
                Shape::Stream { usage: false },
                "{\"created_at\":\"t\",\"eval_count\":3}\n",
            ),
            (
                "/v1beta/models/g:generateContent",
                Shape::Array,
                "[{\"responseId\":\"0123456789abcdef\",\"usageMetadata\":{\"promptTokenCount\":3}}]",
            ),
            (
                "/v1beta/models/g:generateContent",
                Shape::Whole,
                "{\"responseId\":\"0123456789abcdef\",\"usageMetadata\":{\"promptTokenCount\":3}}",
            ),
        ] {
            let dressed = dressed(&*dialect(path), shape, &Bytes::from(body), BOTH);
            let text = String::from_utf8(dressed.to_vec()).unwrap();
            // A count is a member's value: `:3` alone is also a quarter of all times of day.
            assert!(
                !text.contains("0123456789abcdef")
                    && !text.contains("\"t\"")
                    && !text.contains("\":3"),
                "{text}"
            );
            assert_eq!(text.contains("event: message_start\n"), path == "/v1/messages");
        }
    }

    #[test]
    fn what_cannot_be_read_stays_as_it_is() {
        let body = Bytes::from_static(b"data: {\n\n");
        for shape in [Shape::Whole, Shape::Array, Shape::Stream { usage: false }] {
            assert_eq!(dressed(&*dialect("/v1/chat/completions"), shape, &body, BOTH), body);
        }
    }
}
