//! Responses: OpenAI's agentic API.
//!
//! What makes it stateful is decided here: `previous_response_id` names a fixed history, so the
//! request is repeated exactly or not at all; a `conversation` changes with every call, and a
//! `background` answer is a promise: both are forwarded (`stateful`). `store` is part of the key:
//! the id of an answer that was not stored must not be given to a client that wants to go on from
//! it. Tools that the server runs itself may do something: exact only.
//!
//! Source: OpenAI API reference, "Responses" (create, streaming events).

mod events;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    super::{
        Call, Dialect, ExactOnly, Listener, Prompt, Shape, Unread,
        conversation::{Conversation, Manner, Parts, Turn, members, model, number, shape},
        dress::Marks,
        framing::Framing,
        hearing::{self, Account, Finish, has, list_at, number_at, text_at},
        json::Json,
        sse,
    },
    error, request,
};
use crate::fault::Fault;

const PARTS: Parts = Parts { text_types: &["input_text", "output_text", "text"], silent: &[] };

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Responses;

impl Dialect for Responses {
    fn name(&self) -> &str {
        "openai_responses"
    }

    fn claims(&self, path: &str) -> bool {
        path.ends_with("/responses")
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
                hearing::stream(Framing::Sse, |account: &mut Account, event: hearing::Event<'_>| {
                    if event.data != super::DONE {
                        match serde_json::from_slice(event.data) {
                            Ok(event) => add_event(account, &event),
                            Err(_) => account.unreadable = true,
                        }
                    }
                })
            }
        }
    }

    fn reshape(&self, stored: Shape, body: &Bytes, wanted: Shape) -> Option<Bytes> {
        match (stored, wanted) {
            (Shape::Whole, Shape::Stream { .. }) => events::split(body),
            (Shape::Stream { .. }, Shape::Whole) => events::join(body),
            // Counts travel in the answer itself, whatever the options say.
            (Shape::Stream { .. }, Shape::Stream { .. }) | (Shape::Whole, Shape::Whole) => {
                Some(body.clone())
            }
            (Shape::Array, _) | (_, Shape::Array) => None,
        }
    }

    fn marks(&self) -> Marks<'_> {
        Marks {
            framing: Some(Framing::Sse),
            ids: vec!["/id", "/response/id"],
            times: vec!["/created_at", "/response/created_at"],
            counts: vec!["/usage", "/response/usage"],
        }
    }

    fn error(&self, fault: &Fault) -> Bytes {
        error(fault)
    }

    /// The API's own `error` event.
    fn stream_error(&self, _: Shape, fault: &Fault, _: Option<u8>) -> Option<Bytes> {
        let event = json!({
            "type": "error", "code": fault.kind.name(), "message": fault.message, "param": null,
            "sequence_number": 0,
        });
        Some(sse::last_word_of("error", event.to_string().as_bytes()))
    }
}

fn read(call: Call<'_>) -> Result<Prompt, Unread> {
    let request = Json::parse(call.body).map_err(|_| Unread::Unreadable)?;
    let is_on = |name| !matches!(request.get(name), None | Some(Json::Null | Json::Bool(false)));
    if is_on("conversation") || is_on("background") {
        return Err(Unread::Stateful);
    }
    let shape = shape(&request, Shape::Whole)?;
    let mut conversation = Conversation::new(call.path, call.rules);
    for (name, value) in members(&request)? {
        match name.as_ref() {
            "input" => {}
            "store" if *value == Json::Bool(true) => {} // what it is unless said
            "store" => conversation.member(name, value),
            _ => request::parameter(&mut conversation, name, value),
        }
    }
    let last_is_user = input(&mut conversation, request.get("input"))?;
    let continued = ["previous_response_id", "prompt"].iter().any(|name| is_on(name));
    if !continued && request.get("input").is_none() {
        return Err(Unread::Unreadable);
    }
    let logprobs = number(&request, "top_logprobs").unwrap_or_default() > 0.0;
    let exact_only = if continued {
        Some(ExactOnly::Continued)
    } else if logprobs {
        Some(ExactOnly::Logprobs)
    } else if runs_tools(&request) {
        Some(ExactOnly::ServerTools)
    } else {
        (!last_is_user).then_some(ExactOnly::LastTurnNotUser)
    };
    let temperature = number(&request, "temperature");
    let manner = Manner { model: model(&request)?, temperature, exact_only };
    Ok(conversation.finish(shape, manner))
}

/// A text, or items of which some are messages. Says whether the last one is the user's.
fn input(conversation: &mut Conversation<'_>, input: Option<&Json<'_>>) -> Result<bool, Unread> {
    let items = match input {
        Some(Json::Text(text)) => {
            conversation.mark(b'1', b"");
            conversation.text(text, Turn::Last);
            return Ok(true);
        }
        Some(Json::List(items)) => items,
        // A stored prompt may need none.
        None => return Ok(false),
        Some(_) => return Err(Unread::Unreadable),
    };
    let (last, history) = items.split_last().ok_or(Unread::Unreadable)?;
    for item in history {
        add_item(conversation, item, Turn::Past)?;
    }
    let last_is_user = last.get("role").and_then(Json::text) == Some("user");
    add_item(conversation, last, if last_is_user { Turn::Last } else { Turn::Past })?;
    Ok(last_is_user)
}

fn add_item(
    conversation: &mut Conversation<'_>,
    item: &Json<'_>,
    turn: Turn,
) -> Result<(), Unread> {
    let kind = item.get("type").map(|kind| kind.text().ok_or(Unread::Unreadable)).transpose()?;
    match (kind, item.get("role")) {
        (None | Some("message"), Some(Json::Text(role))) if is_known(role) => {
            conversation.message(item, "content", turn, PARTS)
        }
        (Some(_), None) => {
            conversation.member("item", item);
            Ok(())
        }
        _ => Err(Unread::Unreadable),
    }
}

fn is_known(role: &str) -> bool {
    matches!(role, "system" | "developer" | "user" | "assistant" | "tool")
}

/// Are there tools that the server runs itself?
fn runs_tools(request: &Json<'_>) -> bool {
    let Some(Json::List(tools)) = request.get("tools") else { return false };
    let own = |tool: &Json<'_>| {
        matches!(tool.get("type").and_then(Json::text), Some("function" | "custom"))
    };
    !tools.iter().all(own)
}

// === hearing ===

/// A whole response.
fn add(account: &mut Account, answer: &Value) {
    account.failed |= has(answer, "error") || answer["status"] == "failed";
    let usage = &answer["usage"];
    account.count(number_at(usage, "/input_tokens"), number_at(usage, "/output_tokens"));
    let finish = match (text_at(answer, "/status"), text_at(answer, "/incomplete_details/reason")) {
        ("completed", _) => Some(Finish::Clean),
        ("incomplete", "max_output_tokens") => Some(Finish::Length),
        ("incomplete", "content_filter") => Some(Finish::Filtered),
        ("incomplete", _) => Some(Finish::Unknown),
        _ => None,
    };
    let heard = account.choice(0);
    heard.finish = finish;
    for item in list_at(answer, "/output") {
        if item["type"] != "message" {
            // Thoughts alone are no answer.
            heard.says_something |= item["type"] != "reasoning";
            continue;
        }
        for part in list_at(item, "/content") {
            heard.text.push_str(text_at(part, "/text"));
            heard.refused |= part["type"] == "refusal";
        }
    }
}

fn add_event(account: &mut Account, event: &Value) {
    match text_at(event, "/type") {
        "response.completed" | "response.incomplete" | "response.failed" => {
            account.done = true;
            add(account, &event["response"]);
        }
        "error" => {
            account.failed = true;
            account.done = true;
        }
        kind if events::is_known(kind) => {}
        _ => account.unreadable = true,
    }
}

#[cfg(test)]
mod tests;
