//! What model servers say in these tests.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::origin::{Reply, Seen};

/// One event of a stream.
pub(crate) fn event(data: &Value) -> Bytes {
    Bytes::from(format!("data: {data}\n\n"))
}

/// The event that carries one piece of text.
pub(crate) fn piece(text: &str) -> Bytes {
    chunk(&json!({"content": text}), None)
}

/// The event that ends a choice.
pub(crate) fn finish(reason: &str) -> Bytes {
    chunk(&json!({}), Some(reason))
}

/// The mark of a complete stream.
pub(crate) fn done() -> Bytes {
    Bytes::from_static(b"data: [DONE]\n\n")
}

fn chunk(delta: &Value, finish: Option<&str>) -> Bytes {
    event(&json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }))
}

/// The event with token counts.
pub(crate) fn usage() -> Bytes {
    event(&json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
    }))
}

/// A complete stream of these pieces.
pub(crate) fn events(pieces: &[&str]) -> Vec<Bytes> {
    let mut events: Vec<_> = pieces.iter().map(|text| piece(text)).collect();
    events.extend([finish("stop"), done()]);
    events
}

/// A complete answer in one body, with its finish reason.
pub(crate) fn whole(text: &str, finish: &str) -> Bytes {
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{
            "index": 0, "finish_reason": finish,
            "message": {"role": "assistant", "content": text},
        }],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
    });
    Bytes::from(body.to_string())
}

/// A well-behaved model server: answers in the shape that was asked for, and says whose request it
/// answered and which call this was, so that no two answers are alike.
pub(crate) fn model(seen: &Seen, call: usize) -> Reply {
    let request: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let asked = blake3::hash(&seen.body).to_hex();
    let credential = seen.header("authorization");
    let text = format!("call {call} asked {} by {credential}", &asked[..16]);
    if request["stream"] != json!(true) {
        return Reply::json(whole(&text, "stop"));
    }
    let mut events = vec![piece(&text), piece(", and so on"), finish("stop")];
    if request["stream_options"]["include_usage"] == json!(true) {
        events.push(usage());
    }
    events.push(done());
    Reply::stream(events)
}
