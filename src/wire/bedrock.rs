//! Amazon Bedrock's Converse and ConverseStream.
//!
//! The model stands in the path (`/model/ID/converse`), a stream is AWS' binary event stream. A
//! client that signs its requests (SigV4) has another `Authorization` each time and so is another
//! tenant each time: such clients need `cache.scope = "header:..."`, and as a signature covers `Host`
//! they must sign for AWS' own name; API keys need nothing. A stream that dies is cut off: a
//! half-written message leaves no place for a last word.
//!
//! Source: Amazon Bedrock API reference, "Converse", "ConverseStream", "ContentBlockDelta".

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    Call, Dialect, ExactOnly, Listener, Prompt, Shape, Unread,
    conversation::{Conversation, Manner, Parts, Turn, members, number},
    dress::Marks,
    framing::{self, Framing, event_stream},
    hearing::{self, Account, Finish, list_at, number_at, text_at},
    json::Json,
};
use crate::fault::{Fault, Whose};

const PARTS: Parts = Parts { text_types: &[], silent: &[] };
const WHOLE: &str = "/converse";
const STREAM: &str = "/converse-stream";

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Bedrock;

impl Dialect for Bedrock {
    fn name(&self) -> &str {
        "bedrock"
    }

    fn claims(&self, path: &str) -> bool {
        path.contains("/model/") && (path.ends_with(WHOLE) || path.ends_with(STREAM))
    }

    fn read(&self, call: Call<'_>) -> Result<Prompt, Unread> {
        read(call)
    }

    fn listener(&self, shape: Shape) -> Box<dyn Listener> {
        match shape {
            Shape::Whole => {
                hearing::whole(hearing::json(|account, _, answer| add(account, answer)))
            }
            Shape::Stream { .. } | Shape::Array => {
                hearing::stream(Framing::EventStream, hearing::json(add_event))
            }
        }
    }

    fn split(&self, whole: &Bytes) -> Option<Bytes> {
        split(whole)
    }

    fn join(&self, stream: &Bytes) -> Option<Bytes> {
        join(stream)
    }

    fn content_type(&self, shape: Shape) -> &'static str {
        match shape {
            Shape::Whole | Shape::Array => "application/json",
            Shape::Stream { .. } => "application/vnd.amazon.eventstream",
        }
    }

    /// `{"message"}`; the official clients read the kind from the status.
    fn marks(&self) -> Marks<'_> {
        Marks { framing: Some(Framing::EventStream), counts: vec!["/usage"], ..Marks::default() }
    }

    fn error(&self, fault: &Fault) -> Bytes {
        let kind = match fault.kind.whose() {
            Whose::Client => "ValidationException",
            Whose::Upstream => "ModelErrorException",
            Whose::Cache | Whose::Us => "ServiceUnavailableException",
        };
        Bytes::from(json!({"__type": kind, "message": fault.to_string()}).to_string())
    }

    fn stream_error(&self, _: Shape, _: &Fault, _: Option<u8>) -> Option<Bytes> {
        None
    }
}

fn read(call: Call<'_>) -> Result<Prompt, Unread> {
    let request = Json::parse(call.body).map_err(|_| Unread::Unreadable)?;
    let (place, shape) = match call.path.strip_suffix(STREAM) {
        Some(place) => (place, Shape::Stream { usage: false }),
        None => (call.path.strip_suffix(WHOLE).ok_or(Unread::Unreadable)?, Shape::Whole),
    };
    let model = place.split_once("/model/").map_or("", |(_, model)| model);
    let mut conversation = Conversation::new(place, call.rules);
    for (name, value) in members(&request)? {
        if name != "messages" {
            conversation.parameter(name, value);
        }
    }
    let Some(Json::List(messages)) = request.get("messages") else {
        return Err(Unread::Unreadable);
    };
    let (last, history) = messages.split_last().ok_or(Unread::Unreadable)?;
    for message in history {
        role(message)?;
        conversation.message(message, "content", Turn::Past, PARTS)?;
    }
    let asks = role(last)? == "user" && !holds_result(last);
    conversation.message(last, "content", if asks { Turn::Last } else { Turn::Past }, PARTS)?;
    let config = request.get("inferenceConfig").unwrap_or(&Json::Null);
    let manner = Manner {
        model,
        temperature: number(config, "temperature"),
        exact_only: (!asks).then_some(ExactOnly::LastTurnNotUser),
    };
    Ok(conversation.finish(shape, manner))
}

fn role<'j>(message: &'j Json<'_>) -> Result<&'j str, Unread> {
    let role = message.get("role").and_then(Json::text);
    role.filter(|role| matches!(*role, "user" | "assistant")).ok_or(Unread::Unreadable)
}

fn holds_result(message: &Json<'_>) -> bool {
    let Some(Json::List(blocks)) = message.get("content") else { return false };
    blocks.iter().any(|block| block.get("toolResult").is_some())
}

// === hearing ===

fn add(account: &mut Account, answer: &Value) {
    let Some(message) = answer.pointer("/output/message") else {
        account.unreadable = true;
        return;
    };
    for block in list_at(message, "/content") {
        add_block(account, block);
    }
    account.choice(0).finish = finish(&answer["stopReason"]);
    count(account, &answer["usage"]);
}

fn add_block(account: &mut Account, block: &Value) {
    let heard = account.choice(0);
    heard.text.push_str(text_at(block, "/text"));
    // Thoughts alone are no answer.
    heard.says_something |= block.get("text").is_none() && block.get("reasoningContent").is_none();
}

fn add_event(account: &mut Account, kind: &[u8], event: &Value) {
    match kind {
        b"messageStart" | b"contentBlockStop" => {}
        b"contentBlockStart" => {
            let starts = event.get("start").and_then(Value::as_object);
            account.choice(0).says_something |= starts.is_some_and(|start| !start.is_empty());
        }
        b"contentBlockDelta" => add_block(account, &event["delta"]),
        b"messageStop" => account.choice(0).finish = finish(&event["stopReason"]),
        b"metadata" => {
            // It comes last, with the counts.
            count(account, &event["usage"]);
            account.done = true;
        }
        kind if kind.ends_with(b"Exception") || kind.ends_with(b"Error") => {
            account.failed = true;
            account.done = true;
        }
        _ => account.unreadable = true,
    }
}

fn count(account: &mut Account, usage: &Value) {
    account.count(number_at(usage, "/inputTokens"), number_at(usage, "/outputTokens"));
}

fn finish(reason: &Value) -> Option<Finish> {
    Some(match reason.as_str()? {
        "end_turn" | "stop_sequence" | "tool_use" => Finish::Clean,
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "guardrail_intervened" | "content_filtered" => Finish::Filtered,
        _ => Finish::Unknown,
    })
}

// === reshaping ===

/// A block that grows, with its tool input as text.
#[derive(Default)]
struct Block {
    content: Map<String, Value>,
    input: String,
}

fn join(body: &[u8]) -> Option<Bytes> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut role, mut whole) = (json!("assistant"), Map::new());
    for (kind, mut event) in framing::events(Framing::EventStream, body)? {
        let place = number_at(&event, "/contentBlockIndex").and_then(|at| usize::try_from(at).ok());
        match kind.as_str() {
            "messageStart" => role = event["role"].take(),
            "contentBlockStart" => {
                let block = block_at(&mut blocks, place?)?;
                block.content = event.get("start")?.as_object()?.clone();
            }
            "contentBlockDelta" => grow(block_at(&mut blocks, place?)?, event.get("delta")?)?,
            "contentBlockStop" => {}
            "messageStop" | "metadata" => {
                let members = event.as_object()?.clone();
                whole.extend(members.into_iter().filter(|(name, _)| name != "p"));
            }
            _ => return None,
        }
    }
    let blocks: Option<Vec<_>> = blocks.into_iter().map(finished).collect();
    whole.insert("output".into(), json!({"message": {"role": role, "content": blocks?}}));
    Some(Bytes::from(Value::Object(whole).to_string()))
}

/// The block of this index; texts begin without an event of their own.
fn block_at(blocks: &mut Vec<Block>, place: usize) -> Option<&mut Block> {
    if place == blocks.len() {
        blocks.push(Block::default());
    }
    blocks.get_mut(place)
}

fn grow(block: &mut Block, delta: &Value) -> Option<()> {
    if let Some(text) = delta.get("text") {
        append(&mut block.content, "text", text)
    } else if let Some(input) = delta.pointer("/toolUse/input") {
        block.input.push_str(input.as_str()?);
        Some(())
    } else {
        let thought = delta.get("reasoningContent")?;
        let known = block.content.entry("reasoningContent").or_insert_with(|| json!({}));
        let known = known.as_object_mut()?;
        if let Some(hidden) = thought.get("redactedContent") {
            known.insert("redactedContent".into(), hidden.clone());
            return Some(());
        }
        let text = known.entry("reasoningText").or_insert_with(|| json!({"text": ""}));
        let name = if thought.get("signature").is_some() { "signature" } else { "text" };
        append(text.as_object_mut()?, name, thought.get(name)?)
    }
}

fn append(into: &mut Map<String, Value>, name: &str, more: &Value) -> Option<()> {
    let text = into.get(name).and_then(Value::as_str).unwrap_or_default();
    let text = format!("{text}{}", more.as_str()?);
    into.insert(name.into(), text.into());
    Some(())
}

fn finished(block: Block) -> Option<Value> {
    let Block { mut content, input } = block;
    if let Some(tool) = content.get_mut("toolUse") {
        let input = if input.is_empty() { "{}" } else { &input };
        tool["input"] = serde_json::from_str(input).ok()?;
    }
    Some(Value::Object(content))
}

fn split(body: &[u8]) -> Option<Bytes> {
    let whole: Value = serde_json::from_slice(body).ok()?;
    let message = whole.pointer("/output/message")?;
    let mut out = Vec::with_capacity(body.len() * 2);
    let mut emit = |kind: &str, event: Value| {
        event_stream::write(&mut out, kind, event.to_string().as_bytes());
    };
    emit("messageStart", json!({"role": message.get("role")?}));
    for (index, block) in message.get("content")?.as_array()?.iter().enumerate() {
        let (start, deltas) = pieces(block)?;
        if let Some(start) = start {
            emit("contentBlockStart", json!({"contentBlockIndex": index, "start": start}));
        }
        for delta in deltas {
            emit("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta}));
        }
        emit("contentBlockStop", json!({"contentBlockIndex": index}));
    }
    let (mut stop, mut rest) = (Map::new(), Map::new());
    for (name, value) in whole.as_object()? {
        match name.as_str() {
            "output" => {}
            "stopReason" | "additionalModelResponseFields" => {
                stop.insert(name.clone(), value.clone());
            }
            _ => {
                rest.insert(name.clone(), value.clone());
            }
        }
    }
    emit("messageStop", Value::Object(stop));
    emit("metadata", Value::Object(rest));
    Some(Bytes::from(out))
}

/// How a block begins, where that is said, and what makes it whole; `None` for one whose pieces are
/// not known.
fn pieces(block: &Value) -> Option<(Option<Value>, Vec<Value>)> {
    if let Some(text) = block.get("text") {
        return Some((None, vec![json!({"text": text})]));
    }
    if let Some(tool) = block.get("toolUse") {
        let mut begun = tool.clone();
        begun.as_object_mut()?.remove("input");
        let input = tool.get("input")?.to_string();
        return Some((Some(json!({"toolUse": begun})), vec![json!({"toolUse": {"input": input}})]));
    }
    let thought = block.get("reasoningContent")?;
    let mut deltas = Vec::new();
    if let Some(hidden) = thought.get("redactedContent") {
        deltas.push(json!({"reasoningContent": {"redactedContent": hidden}}));
    }
    for name in ["text", "signature"] {
        if let Some(value) = thought.pointer(&format!("/reasoningText/{name}")) {
            deltas.push(json!({"reasoningContent": {name: value}}));
        }
    }
    Some((None, deltas))
}

#[cfg(test)]
mod tests;
