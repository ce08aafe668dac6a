//! Gemini's `generateContent` and `streamGenerateContent`, on Google's AI API and on Vertex.
//!
//! Model and method stand in the path (`.../models/NAME:METHOD`), a stream is a JSON list of chunks
//! or, with `alt=sse`, events. Both methods and both framings are one question with one key. A
//! stream has no end mark: it is complete when every candidate said why it ended.
//!
//! Source: Gemini API reference, "Generating content", `GenerateContentResponse`, `FinishReason`.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    Call, Dialect, ExactOnly, Listener, Prompt, Shape, Unread,
    conversation::{Conversation, Manner, Parts, Turn, members, number},
    dress::Marks,
    framing::{self, Framing},
    hearing::{self, Account, Finish, has, list_at, number_at, text_at},
    json::Json,
    oneshot::OneShot,
    sse,
};
use crate::fault::{Fault, Whose};

const PARTS: Parts = Parts { text_types: &[], silent: &[] };
const WHOLE: &str = ":generateContent";
const STREAM: &str = ":streamGenerateContent";

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Gemini;

/// A count of a request's tokens.
pub(super) const COUNT_TOKENS: OneShot =
    OneShot { name: "gemini_count_tokens", ends: &[":countTokens"], said: "totalTokens", error };

/// One text's vector.
pub(super) const EMBED: OneShot =
    OneShot { name: "gemini_embed", ends: &[":embedContent"], said: "embedding", error };

/// Several texts' vectors.
pub(super) const EMBED_BATCH: OneShot = OneShot {
    name: "gemini_embed_batch",
    ends: &[":batchEmbedContents"],
    said: "embeddings",
    error,
};

impl Dialect for Gemini {
    fn name(&self) -> &str {
        "gemini"
    }

    fn claims(&self, path: &str) -> bool {
        path.ends_with(WHOLE) || path.ends_with(STREAM)
    }

    /// Without `alt`, which only chooses the framing.
    fn keyed_query<'q>(&self, query: &'q str) -> Cow<'q, str> {
        let is_alt = |one: &&str| !one.starts_with("alt=") && !one.starts_with("$alt=");
        Cow::Owned(query.split('&').filter(is_alt).collect::<Vec<_>>().join("&"))
    }

    fn read(&self, call: Call<'_>) -> Result<Prompt, Unread> {
        read(call)
    }

    fn listener(&self, shape: Shape) -> Box<dyn Listener> {
        let ears = hearing::json(|account, _, event| add(account, event));
        match framing_of(shape) {
            None => hearing::whole(ears),
            Some(framing) => hearing::stream(framing, ears),
        }
    }

    fn reshape(&self, stored: Shape, body: &Bytes, wanted: Shape) -> Option<Bytes> {
        if stored == wanted {
            return Some(body.clone());
        }
        let chunks = match framing_of(stored) {
            None => vec![serde_json::from_slice(body).ok()?],
            Some(framing) => {
                framing::events(framing, body)?.into_iter().map(|(_, one)| one).collect()
            }
        };
        write(&chunks, wanted)
    }

    fn marks(&self) -> Marks<'_> {
        Marks {
            framing: Some(Framing::Sse),
            ids: vec!["/responseId"],
            counts: vec!["/usageMetadata"],
            ..Marks::default()
        }
    }

    fn error(&self, fault: &Fault) -> Bytes {
        error(fault)
    }

    /// An `error` object in an event. Inside a list there is no telling whether an element is open,
    /// so its connection is cut.
    fn stream_error(&self, shape: Shape, fault: &Fault, _: Option<u8>) -> Option<Bytes> {
        let Shape::Stream { .. } = shape else { return None };
        Some(sse::last_word(&error(fault)))
    }
}

fn framing_of(shape: Shape) -> Option<Framing> {
    match shape {
        Shape::Whole => None,
        Shape::Stream { .. } => Some(Framing::Sse),
        Shape::Array => Some(Framing::JsonArray),
    }
}

/// `{"error": {"code", "message", "status"}}`, with Google's canonical status names.
fn error(fault: &Fault) -> Bytes {
    let code = fault.kind.status().as_u16();
    let status = match (code, fault.kind.whose()) {
        (404, _) => "NOT_FOUND",
        (504, _) => "DEADLINE_EXCEEDED",
        (502 | 503, _) => "UNAVAILABLE",
        (_, Whose::Client) => "INVALID_ARGUMENT",
        (_, Whose::Upstream | Whose::Cache | Whose::Us) => "INTERNAL",
    };
    let message = format!("{} ({})", fault.message, fault.kind.name());
    Bytes::from(json!({"error": {"code": code, "message": message, "status": status}}).to_string())
}

// === reading ===

fn read(call: Call<'_>) -> Result<Prompt, Unread> {
    let request = Json::parse(call.body).map_err(|_| Unread::Unreadable)?;
    let (place, shape) = match call.path.strip_suffix(STREAM) {
        Some(place) if is_sse(call.query) => (place, Shape::Stream { usage: false }),
        Some(place) => (place, Shape::Array),
        None => (call.path.strip_suffix(WHOLE).ok_or(Unread::Unreadable)?, Shape::Whole),
    };
    let model = place.rsplit('/').next().unwrap_or_default();
    let mut conversation = Conversation::new(place, call.rules);
    for (name, value) in members(&request)? {
        if name != "contents" {
            conversation.parameter(name, value);
        }
    }
    let contents = match request.get("contents") {
        Some(Json::List(contents)) => contents.as_slice(),
        Some(one @ Json::Object(_)) => std::slice::from_ref(one),
        _ => return Err(Unread::Unreadable),
    };
    let (last, history) = contents.split_last().ok_or(Unread::Unreadable)?;
    for content in history {
        role(content)?;
        conversation.message(content, "parts", Turn::Past, PARTS)?;
    }
    let asks = role(last)? == "user" && !holds_result(last);
    conversation.message(last, "parts", if asks { Turn::Last } else { Turn::Past }, PARTS)?;
    let config = request.get("generationConfig").or_else(|| request.get("generation_config"));
    let config = config.unwrap_or(&Json::Null);
    let manner = Manner {
        model,
        temperature: number(config, "temperature"),
        exact_only: exact_only(&request, config, asks),
    };
    Ok(conversation.finish(shape, manner))
}

fn is_sse(query: &str) -> bool {
    query.split('&').any(|one| one == "alt=sse" || one == "$alt=sse")
}

/// A content without a role is the user's.
fn role<'j>(content: &'j Json<'_>) -> Result<&'j str, Unread> {
    match content.get("role") {
        None | Some(Json::Null) => Ok("user"),
        Some(role) => {
            let role = role.text();
            let known =
                |role: &&str| matches!(*role, "user" | "model" | "function" | "system" | "tool");
            role.filter(known).ok_or(Unread::Unreadable)
        }
    }
}

fn holds_result(content: &Json<'_>) -> bool {
    let Some(Json::List(parts)) = content.get("parts") else { return false };
    let result = |part: &Json<'_>| {
        part.get("functionResponse").or_else(|| part.get("function_response")).is_some()
    };
    parts.iter().any(result)
}

fn exact_only(request: &Json<'_>, config: &Json<'_>, asks: bool) -> Option<ExactOnly> {
    let on = |name| !matches!(config.get(name), None | Some(Json::Null | Json::Bool(false)));
    if number(config, "candidateCount").unwrap_or_default() > 1.0 {
        return Some(ExactOnly::Choices);
    }
    if on("responseLogprobs") || on("logprobs") {
        return Some(ExactOnly::Logprobs);
    }
    let is_text = |kind: &Json<'_>| kind.text() == Some("TEXT");
    match config.get("responseModalities") {
        None | Some(Json::Null) => {}
        Some(Json::List(kinds)) if kinds.iter().all(is_text) => {}
        Some(_) => return Some(ExactOnly::Modality),
    }
    if let Some(Json::List(tools)) = request.get("tools") {
        let own = |tool: &Json<'_>| match tool {
            Json::Object(members) => members.iter().all(|(name, _)| {
                matches!(name.as_ref(), "functionDeclarations" | "function_declarations")
            }),
            _ => false,
        };
        if !tools.iter().all(own) {
            return Some(ExactOnly::ServerTools);
        }
    }
    (!asks).then_some(ExactOnly::LastTurnNotUser)
}

// === hearing ===

/// A whole answer, or one chunk of it.
fn add(account: &mut Account, event: &Value) {
    if has(event, "error") {
        account.failed = true;
        account.done = true;
        return;
    }
    account.unreadable |= !event.is_object();
    for candidate in list_at(event, "/candidates") {
        let heard = account.choice(number_at(candidate, "/index").unwrap_or_default());
        for part in list_at(candidate, "/content/parts") {
            if part["thought"] != true {
                heard.text.push_str(text_at(part, "/text"));
            }
            heard.says_something |= part.get("text").is_none();
        }
        if has(candidate, "finishReason") {
            heard.finish = Some(finish(text_at(candidate, "/finishReason")));
        }
    }
    if has(&event["promptFeedback"], "blockReason") {
        account.choice(0).finish = Some(Finish::Filtered);
    }
    let usage = &event["usageMetadata"];
    let thoughts = number_at(usage, "/thoughtsTokenCount").unwrap_or_default();
    let completion = number_at(usage, "/candidatesTokenCount").map(|count| count + thoughts);
    account.count(number_at(usage, "/promptTokenCount"), completion);
    // The verdict asks every candidate why it ended; there is no other end mark.
    account.done = true;
}

fn finish(reason: &str) -> Finish {
    match reason {
        "STOP" => Finish::Clean,
        "MAX_TOKENS" => Finish::Length,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "LANGUAGE" => Finish::Filtered,
        _ => Finish::Unknown,
    }
}

// === reshaping ===

fn write(chunks: &[Value], wanted: Shape) -> Option<Bytes> {
    Some(Bytes::from(match wanted {
        Shape::Whole => join(chunks)?.to_string().into_bytes(),
        Shape::Array => {
            let chunks: Vec<_> = chunks.iter().map(Value::to_string).collect();
            format!("[{}\n]\n", chunks.join(",\r\n")).into_bytes()
        }
        Shape::Stream { .. } => {
            let mut out = Vec::new();
            for chunk in chunks {
                // The AI API ends its lines with CR LF; clients take either.
                sse::write(&mut out, chunk.to_string().as_bytes());
            }
            out
        }
    }))
}

/// Candidates grow part by part, everything else is as the last chunk says.
fn join(chunks: &[Value]) -> Option<Value> {
    let mut whole = Map::new();
    let mut candidates: Vec<Map<String, Value>> = Vec::new();
    for chunk in chunks {
        for (name, value) in chunk.as_object()? {
            if name != "candidates" {
                whole.insert(name.clone(), value.clone());
                continue;
            }
            for piece in value.as_array()? {
                let piece = piece.as_object()?;
                let index = |one: &Map<String, Value>| {
                    one.get("index").and_then(Value::as_u64).unwrap_or(0)
                };
                match candidates.iter_mut().find(|known| index(known) == index(piece)) {
                    Some(known) => grow(known, piece)?,
                    None => candidates.push(piece.clone()),
                }
            }
        }
    }
    if !candidates.is_empty() {
        whole.insert("candidates".into(), candidates.into_iter().map(Value::Object).collect());
    }
    Some(Value::Object(whole))
}

fn grow(known: &mut Map<String, Value>, piece: &Map<String, Value>) -> Option<()> {
    for (name, value) in piece {
        if name != "content" {
            known.insert(name.clone(), value.clone());
            continue;
        }
        let content =
            known.entry("content").or_insert_with(|| json!({"parts": [], "role": "model"}));
        let content = content.as_object_mut()?;
        let parts = content.entry("parts").or_insert_with(|| json!([])).as_array_mut()?;
        for part in list_at(value, "/parts") {
            match parts.last_mut() {
                Some(last)
                    if is_plain(last) && is_plain(part) && last["thought"] == part["thought"] =>
                {
                    let text = format!("{}{}", text_at(last, "/text"), text_at(part, "/text"));
                    last["text"] = text.into();
                }
                _ => parts.push(part.clone()),
            }
        }
    }
    Some(())
}

/// A text, perhaps a thought, and nothing else.
fn is_plain(part: &Value) -> bool {
    let Some(members) = part.as_object() else { return false };
    members.contains_key("text") && members.keys().all(|name| name == "text" || name == "thought")
}

#[cfg(test)]
mod tests;
