//! Turning a stored chat completion into the shape that a client asked for.
//!
//! Same shape: the same bytes. A stream becomes a body by adding its deltas up, as the official
//! clients do; a body becomes a stream of one delta a choice. `usage` is never made up: a stream
//! recorded without it cannot serve a stream that must end with it.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    super::{
        Shape,
        framing::{self, Framing},
        sse,
    },
    DONE,
};

pub(super) fn reshape(stored: Shape, body: &Bytes, wanted: Shape) -> Option<Bytes> {
    match (stored, wanted) {
        (Shape::Whole, Shape::Whole) => Some(body.clone()),
        (Shape::Whole, Shape::Stream { usage }) => split(body, usage),
        (Shape::Stream { .. }, Shape::Whole) => join(body),
        (Shape::Stream { usage: had }, Shape::Stream { usage }) if had == usage => {
            Some(body.clone())
        }
        (Shape::Stream { .. }, Shape::Stream { usage }) => with_usage(body, usage),
        (Shape::Array, _) | (_, Shape::Array) => None,
    }
}

// === whole -> stream ===

fn split(body: &[u8], usage: bool) -> Option<Bytes> {
    let whole: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let counts = whole.get("usage").filter(|counts| counts.is_object()).cloned();
    if usage && counts.is_none() {
        return None;
    }
    let mut head = whole.clone();
    head.remove("choices");
    head.remove("usage");
    head.insert("object".into(), "chat.completion.chunk".into());
    let mut out = Vec::with_capacity(body.len() * 2);
    let mut emit = |choices: Value, counts: Option<Value>| {
        let mut chunk = head.clone();
        chunk.insert("choices".into(), choices);
        if usage {
            chunk.insert("usage".into(), counts.unwrap_or(Value::Null));
        }
        sse::write(&mut out, Value::Object(chunk).to_string().as_bytes());
    };
    for choice in whole.get("choices")?.as_array()? {
        let index = choice.get("index").cloned().unwrap_or_else(|| 0.into());
        let mut delta = choice.get("message")?.as_object()?.clone();
        number_calls(&mut delta);
        let mut first = Map::new();
        first.insert("role".into(), delta.remove("role").unwrap_or_else(|| "assistant".into()));
        first.insert(
            "content".into(),
            if delta.get("content")?.is_null() { Value::Null } else { "".into() },
        );
        emit(json!([{"index": index, "delta": first, "finish_reason": null}]), None);
        delta.retain(|_, value| !value.is_null());
        let logprobs = choice.get("logprobs").cloned().unwrap_or_default();
        emit(
            json!([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": null}]),
            None,
        );
        let finish = choice.get("finish_reason").cloned().unwrap_or_default();
        emit(json!([{"index": index, "delta": {}, "finish_reason": finish}]), None);
    }
    if usage {
        emit(json!([]), counts);
    }
    sse::write(&mut out, DONE);
    Some(Bytes::from(out))
}

/// In a stream each tool call carries its place, by which clients put its pieces together.
fn number_calls(message: &mut Map<String, Value>) {
    let Some(Value::Array(calls)) = message.get_mut("tool_calls") else { return };
    for (place, call) in calls.iter_mut().enumerate() {
        if let Value::Object(call) = call {
            call.insert("index".into(), place.into());
        }
    }
}

// === stream -> whole ===

fn join(body: &[u8]) -> Option<Bytes> {
    let mut whole = Map::new();
    let mut choices: Vec<Map<String, Value>> = Vec::new();
    for (_, event) in framing::events(Framing::Sse, body)? {
        let Value::Object(event) = event else { return None };
        for (name, value) in event {
            match (name.as_str(), value) {
                ("choices", Value::Array(pieces)) => {
                    pieces.into_iter().try_for_each(|piece| add_piece(&mut choices, piece))?;
                }
                ("usage", Value::Null) => {}
                // A stream's padding against length probing; it has no place in a body.
                ("obfuscation", _) => {}
                (_, value) => {
                    whole.insert(name, value);
                }
            }
        }
    }
    whole.insert("object".into(), "chat.completion".into());
    choices.sort_by_key(|choice| choice.get("index").and_then(Value::as_u64));
    whole.insert("choices".into(), choices.into_iter().map(finish_choice).collect());
    Some(Bytes::from(Value::Object(whole).to_string()))
}

/// Adds one choice's piece to what is there of that choice.
pub(super) fn add_piece(choices: &mut Vec<Map<String, Value>>, piece: Value) -> Option<()> {
    let Value::Object(piece) = piece else { return None };
    let index = piece.get("index").cloned().unwrap_or_else(|| 0.into());
    let at = choices.iter().position(|choice| choice.get("index") == Some(&index));
    let at = at.unwrap_or_else(|| {
        choices.push(Map::from_iter([("index".to_owned(), index)]));
        choices.len() - 1
    });
    let choice = choices.get_mut(at)?;
    for (name, value) in piece {
        let name = if name == "delta" { "message".to_owned() } else { name };
        add(choice, name, value);
    }
    Some(())
}

/// The rule by which deltas add up: texts join, objects merge, lists merge by `index` or append,
/// what names or numbers a thing replaces.
fn add(into: &mut Map<String, Value>, name: String, value: Value) {
    let replaces = matches!(name.as_str(), "role" | "index" | "type" | "id" | "finish_reason");
    match (into.get_mut(&name), value) {
        (Some(there), Value::Null) if !there.is_null() => {}
        (Some(Value::String(there)), Value::String(more)) if !replaces => there.push_str(&more),
        (Some(Value::Object(there)), Value::Object(more)) => {
            for (name, value) in more {
                add(there, name, value);
            }
        }
        (Some(Value::Array(there)), Value::Array(more)) => {
            more.into_iter().for_each(|item| add_item(there, item));
        }
        (None, Value::Array(more)) => {
            let mut items = Vec::new();
            more.into_iter().for_each(|item| add_item(&mut items, item));
            into.insert(name, Value::Array(items));
        }
        (_, value) => {
            into.insert(name, value);
        }
    }
}

fn add_item(items: &mut Vec<Value>, item: Value) {
    let index = item.get("index").cloned();
    let same = |there: &&mut Value| index.is_some() && there.get("index") == index.as_ref();
    match (items.iter_mut().find(same), item) {
        (Some(Value::Object(there)), Value::Object(more)) => {
            for (name, value) in more {
                add(there, name, value);
            }
        }
        (_, item) => items.push(item),
    }
}

/// A body has no `delta` leftovers: tool calls lose their place numbers, `content` is always there.
fn finish_choice(mut choice: Map<String, Value>) -> Value {
    let message = choice.entry("message").or_insert_with(|| json!({"role": "assistant"}));
    if let Value::Object(message) = message {
        message.entry("role").or_insert_with(|| "assistant".into());
        if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
            calls.iter_mut().filter_map(Value::as_object_mut).for_each(|call| {
                call.remove("index");
            });
            // The role event of a tool call begins with empty text that a body has as null.
            if message.get("content").is_some_and(|content| content == "") {
                message.insert("content".into(), Value::Null);
            }
        }
        message.entry("content").or_insert(Value::Null);
    }
    choice.entry("logprobs").or_insert(Value::Null);
    Value::Object(choice)
}

// === stream -> stream with or without usage ===

fn with_usage(body: &[u8], usage: bool) -> Option<Bytes> {
    let mut out = Vec::with_capacity(body.len());
    let mut counted = false;
    for (_, event) in framing::events(Framing::Sse, body)? {
        let Value::Object(mut event) = event else { return None };
        let is_count = event.get("usage").is_some_and(Value::is_object);
        let no_choice = event.get("choices").and_then(Value::as_array).is_some_and(Vec::is_empty);
        counted |= is_count;
        if !usage {
            if is_count && no_choice {
                continue;
            }
            event.remove("usage");
        } else if !is_count {
            event.insert("usage".into(), Value::Null);
        }
        sse::write(&mut out, Value::Object(event).to_string().as_bytes());
    }
    if usage && !counted {
        return None;
    }
    sse::write(&mut out, DONE);
    Some(Bytes::from(out))
}

#[cfg(test)]
mod tests;
