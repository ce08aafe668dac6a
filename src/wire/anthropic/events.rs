//! The way between a whole message and its events.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::super::{
    framing::{self, Framing},
    hearing::{list_at, text_at},
    sse,
};

/// A block that grows, with its tool input as text.
#[derive(Default)]
struct Block {
    content: Value,
    input: String,
}

/// Adds the events up, as the official clients do.
pub(super) fn join(body: &[u8]) -> Option<Bytes> {
    let mut message = Map::new();
    let mut blocks: Vec<Block> = Vec::new();
    for (_, event) in framing::events(Framing::Sse, body)? {
        let place =
            event.get("index").and_then(Value::as_u64).and_then(|at| usize::try_from(at).ok());
        match text_at(&event, "/type") {
            "message_start" => message = event.get("message")?.as_object()?.clone(),
            "content_block_start" => {
                let content = event.get("content_block")?.clone();
                (place? == blocks.len())
                    .then(|| blocks.push(Block { content, ..Block::default() }))?;
            }
            "content_block_delta" => grow(blocks.get_mut(place?)?, event.get("delta")?)?,
            "message_delta" => {
                message.extend(event.get("delta")?.as_object()?.clone());
                let usage = event.get("usage").and_then(Value::as_object).cloned();
                if let (Some(Value::Object(known)), Some(usage)) = (message.get_mut("usage"), usage)
                {
                    known.extend(usage.into_iter().filter(|(_, value)| !value.is_null()));
                }
            }
            _ => {}
        }
    }
    let blocks: Option<Vec<_>> = blocks.into_iter().map(finished).collect();
    message.insert("content".into(), Value::Array(blocks?));
    Some(Bytes::from(Value::Object(message).to_string()))
}

fn grow(block: &mut Block, delta: &Value) -> Option<()> {
    match text_at(delta, "/type") {
        "text_delta" => append(&mut block.content, "text", delta.get("text")?),
        "thinking_delta" => append(&mut block.content, "thinking", delta.get("thinking")?),
        "signature_delta" => append(&mut block.content, "signature", delta.get("signature")?),
        "input_json_delta" => {
            block.input.push_str(delta.get("partial_json")?.as_str()?);
            Some(())
        }
        "citations_delta" => {
            let citation = delta.get("citation")?.clone();
            let known =
                block.content.as_object_mut()?.entry("citations").or_insert_with(|| json!([]));
            if known.is_null() {
                *known = json!([]);
            }
            known.as_array_mut()?.push(citation);
            Some(())
        }
        _ => None,
    }
}

fn append(block: &mut Value, name: &str, more: &Value) -> Option<()> {
    let more = more.as_str()?;
    match block.as_object_mut()?.entry(name).or_insert("".into()) {
        Value::String(text) => {
            text.push_str(more);
            Some(())
        }
        _ => None,
    }
}

fn finished(block: Block) -> Option<Value> {
    let Block { mut content, input } = block;
    if !input.is_empty() {
        content.as_object_mut()?.insert("input".into(), serde_json::from_str(&input).ok()?);
    }
    Some(content)
}

/// One delta for each of what a block holds.
pub(super) fn split(body: &[u8]) -> Option<Bytes> {
    let whole: Value = serde_json::from_slice(body).ok()?;
    let mut begun = whole.clone();
    begun["content"] = json!([]);
    begun["stop_reason"] = Value::Null;
    begun["stop_sequence"] = Value::Null;
    if begun["usage"].get("output_tokens").is_some() {
        begun["usage"]["output_tokens"] = 0.into();
    }
    let mut out = Vec::with_capacity(body.len() * 2);
    let mut emit = |event: Value| {
        sse::write_kind(&mut out, text_at(&event, "/type"), event.to_string().as_bytes());
    };
    emit(json!({"type": "message_start", "message": begun}));
    for (index, block) in whole.get("content")?.as_array()?.iter().enumerate() {
        let (begun, deltas) = pieces(block)?;
        emit(json!({"type": "content_block_start", "index": index, "content_block": begun}));
        for delta in deltas {
            emit(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        emit(json!({"type": "content_block_stop", "index": index}));
    }
    let mut delta = Map::new();
    // Whatever else a last delta may bring (`container`) was in the first event already.
    for name in ["stop_reason", "stop_sequence"] {
        delta.insert(name.into(), whole.get(name).cloned().unwrap_or_default());
    }
    emit(json!({"type": "message_delta", "delta": delta, "usage": whole.get("usage")?}));
    emit(json!({"type": "message_stop"}));
    Some(Bytes::from(out))
}

/// A block as it begins, and what makes it whole.
fn pieces(block: &Value) -> Option<(Value, Vec<Value>)> {
    let mut begun = block.clone();
    let mut deltas = Vec::new();
    match text_at(block, "/type") {
        "text" => {
            begun["text"] = "".into();
            deltas.push(json!({"type": "text_delta", "text": block.get("text")?}));
            let citations = list_at(block, "/citations");
            if !citations.is_empty() {
                begun["citations"] = json!([]);
            }
            deltas.extend(
                citations.iter().map(|one| json!({"type": "citations_delta", "citation": one})),
            );
        }
        "thinking" => {
            begun["thinking"] = "".into();
            deltas.push(json!({"type": "thinking_delta", "thinking": block.get("thinking")?}));
            if let Some(signature) = block.get("signature") {
                begun["signature"] = "".into();
                deltas.push(json!({"type": "signature_delta", "signature": signature}));
            }
        }
        "tool_use" | "server_tool_use" => {
            begun["input"] = json!({});
            let input = block.get("input")?.to_string();
            deltas.push(json!({"type": "input_json_delta", "partial_json": input}));
        }
        _ => {}
    }
    Some((begun, deltas))
}
