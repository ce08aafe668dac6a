//! Anthropic's messages, as the hosted API, vLLM and llama.cpp speak them.
//!
//! `cache_control` marks say what the server may keep and what that costs, never what it answers:
//! they are forwarded as they came and are not part of the key. `anthropic-version` and
//! `anthropic-beta` are (`cache.vary_headers`). Thoughts with their signatures are replayed as they
//! were recorded. Tools that the server runs itself, and those with a version in their type, make a
//! request exact only.
//!
//! Source: Anthropic API reference, "Messages", "Streaming messages", "Errors".

mod events;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Call, Dialect, ExactOnly, Listener, Prompt, Shape, Unread,
    conversation::{Conversation, Manner, Parts, Turn, members, model, number, shape},
    dress::Marks,
    framing::Framing,
    hearing::{self, Account, Finish, has, list_at, number_at, text_at},
    json::Json,
    oneshot::OneShot,
    sse,
};
use crate::fault::{Fault, Kind, Whose};

const PARTS: Parts = Parts { text_types: &["text"], silent: &["cache_control"] };

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Anthropic;

/// A count of a request's tokens.
pub(super) const COUNT_TOKENS: OneShot = OneShot {
    name: "anthropic_count_tokens",
    ends: &["/v1/messages/count_tokens"],
    said: "input_tokens",
    error,
};

impl Dialect for Anthropic {
    fn name(&self) -> &str {
        "anthropic"
    }

    fn claims(&self, path: &str) -> bool {
        path.ends_with("/v1/messages")
    }

    fn read(&self, call: Call<'_>) -> Result<Prompt, Unread> {
        read(call)
    }

    fn listener(&self, shape: Shape) -> Box<dyn Listener> {
        match shape {
            Shape::Whole => {
                hearing::whole(hearing::json(|account, _, answer| add(account, answer)))
            }
            Shape::Stream { .. } | Shape::Array => hearing::stream(
                Framing::Sse,
                hearing::json(|account, _, event| add_event(account, event)),
            ),
        }
    }

    fn split(&self, whole: &Bytes) -> Option<Bytes> {
        events::split(whole)
    }

    fn join(&self, stream: &Bytes) -> Option<Bytes> {
        events::join(stream)
    }

    fn marks(&self) -> Marks<'_> {
        Marks {
            framing: Some(Framing::Sse),
            ids: vec!["/id", "/message/id"],
            counts: vec!["/usage", "/message/usage"],
            ..Marks::default()
        }
    }

    fn error(&self, fault: &Fault) -> Bytes {
        error(fault)
    }

    fn stream_error(&self, _: Shape, fault: &Fault, _: Option<u8>) -> Option<Bytes> {
        Some(sse::last_word_of("error", &error(fault)))
    }
}

/// `{"type": "error", "error": {"type", "message"}}`.
fn error(fault: &Fault) -> Bytes {
    let kind = match (fault.kind, fault.kind.whose()) {
        (Kind::NoRoute, _) => "not_found_error",
        (Kind::BodyTooLarge, _) => "request_too_large",
        (Kind::Overloaded | Kind::Draining, _) => "overloaded_error",
        (_, Whose::Client) => "invalid_request_error",
        (_, Whose::Upstream | Whose::Cache | Whose::Us) => "api_error",
    };
    let message = format!("{} ({})", fault.message, fault.kind.name());
    let body = json!({"type": "error", "error": {"type": kind, "message": message}});
    Bytes::from(body.to_string())
}

// === reading ===

fn read(call: Call<'_>) -> Result<Prompt, Unread> {
    let request = Json::parse(call.body).map_err(|_| Unread::Unreadable)?;
    let shape = shape(&request, Shape::Whole)?;
    let Some(Json::List(messages)) = request.get("messages") else {
        return Err(Unread::Unreadable);
    };
    let (last, history) = messages.split_last().ok_or(Unread::Unreadable)?;
    let mut conversation = Conversation::new(call.path, call.rules);
    for (name, value) in members(&request)? {
        match name.as_ref() {
            "messages" | "cache_control" => {}
            "system" => {
                conversation.mark(b'm', b"system");
                conversation.content(value, Turn::Past, PARTS)?;
            }
            "tools" => {
                conversation.mark(b'm', b"tools");
                conversation.nested(value, PARTS);
            }
            _ => conversation.parameter(name, value),
        }
    }
    for message in history {
        role(message)?;
        conversation.message(message, "content", Turn::Past, PARTS)?;
    }
    let asks = role(last)? == "user" && !holds_result(last);
    let turn = if asks { Turn::Last } else { Turn::Past };
    conversation.message(last, "content", turn, PARTS)?;
    let exact_only = if runs_tools(&request) {
        Some(ExactOnly::ServerTools)
    } else {
        (!asks).then_some(ExactOnly::LastTurnNotUser)
    };
    let temperature = number(&request, "temperature");
    let manner = Manner { model: model(&request)?, temperature, exact_only };
    Ok(conversation.finish(shape, manner))
}

fn role<'j>(message: &'j Json<'_>) -> Result<&'j str, Unread> {
    let role = message.get("role").and_then(Json::text);
    role.filter(|role| matches!(*role, "user" | "assistant" | "system")).ok_or(Unread::Unreadable)
}

/// A user turn that brings a tool's result is no question.
fn holds_result(message: &Json<'_>) -> bool {
    let Some(Json::List(blocks)) = message.get("content") else { return false };
    let kind = |block: &Json<'_>| {
        block.get("type").and_then(Json::text).is_some_and(|kind| kind.ends_with("tool_result"))
    };
    blocks.iter().any(kind)
}

fn runs_tools(request: &Json<'_>) -> bool {
    let has_some = |name| matches!(request.get(name), Some(Json::List(items)) if !items.is_empty());
    if has_some("mcp_servers") || !matches!(request.get("container"), None | Some(Json::Null)) {
        return true;
    }
    let Some(Json::List(tools)) = request.get("tools") else { return false };
    let own = |tool: &Json<'_>| match tool.get("type") {
        None | Some(Json::Null) => true,
        Some(kind) => kind.text() == Some("custom"),
    };
    !tools.iter().all(own)
}

// === hearing ===

/// A whole message.
fn add(account: &mut Account, message: &Value) {
    match text_at(message, "/type") {
        "message" => {}
        "error" => return account.failed = true,
        _ => return account.unreadable = true,
    }
    count(account, &message["usage"]);
    for block in list_at(message, "/content") {
        add_block(account, block);
    }
    account.choice(0).finish = finish(&message["stop_reason"]);
}

fn add_block(account: &mut Account, block: &Value) {
    let heard = account.choice(0);
    match text_at(block, "/type") {
        "text" => heard.text.push_str(text_at(block, "/text")),
        // Thoughts alone are no answer.
        "thinking" | "redacted_thinking" => {}
        "tool_use" | "server_tool_use" => heard.says_something = true,
        kind if kind.ends_with("tool_result") || kind.ends_with("tool_use") => {}
        _ => account.unreadable = true,
    }
}

fn add_event(account: &mut Account, event: &Value) {
    match text_at(event, "/type") {
        "message_start" => count(account, &event["message"]["usage"]),
        "content_block_start" => add_block(account, &event["content_block"]),
        "content_block_delta" => match text_at(event, "/delta/type") {
            "text_delta" => account.choice(0).text.push_str(text_at(event, "/delta/text")),
            "input_json_delta" | "thinking_delta" | "signature_delta" | "citations_delta" => {}
            _ => account.unreadable = true,
        },
        "message_delta" => {
            count(account, &event["usage"]);
            if has(&event["delta"], "stop_reason") {
                account.choice(0).finish = finish(&event["delta"]["stop_reason"]);
            }
        }
        "message_stop" => account.done = true,
        "content_block_stop" | "ping" => {}
        "error" => {
            account.failed = true;
            account.done = true;
        }
        _ => account.unreadable = true,
    }
}

/// Tokens that were read from or written to the server's own cache were in the prompt too.
fn count(account: &mut Account, usage: &Value) {
    let input = number_at(usage, "/input_tokens").map(|input| {
        input
            + number_at(usage, "/cache_creation_input_tokens").unwrap_or_default()
            + number_at(usage, "/cache_read_input_tokens").unwrap_or_default()
    });
    account.count(input, number_at(usage, "/output_tokens"));
}

fn finish(reason: &Value) -> Option<Finish> {
    Some(match reason.as_str()? {
        "end_turn" | "stop_sequence" | "tool_use" => Finish::Clean,
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "refusal" => Finish::Filtered,
        // `pause_turn`: the server wants to go on.
        _ => Finish::Unknown,
    })
}

#[cfg(test)]
mod tests;
