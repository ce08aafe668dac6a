//! Reading a chat completion request.

use std::borrow::Cow;

use super::super::{
    Call, ExactOnly, Prompt, Shape, Unread,
    conversation::{Conversation, Manner, Parts, Turn, members, model, number, switch},
    json::Json,
};

const PARTS: Parts = Parts { text_types: &["text"], silent: &[] };

pub(super) fn read(call: Call<'_>) -> Result<Prompt, Unread> {
    let request = Json::parse(call.body).map_err(|_| Unread::Unreadable)?;
    let shape = shape(&request)?;
    let Some(Json::List(messages)) = request.get("messages") else {
        return Err(Unread::Unreadable);
    };
    let (last, history) = messages.split_last().ok_or(Unread::Unreadable)?;

    let mut conversation = Conversation::new(call.path, call.rules);
    for (name, value) in members(&request)? {
        if name != "messages" {
            parameter(&mut conversation, name, value);
        }
    }
    let last_is_user = role(last)? == "user";
    for message in history {
        role(message)?;
        conversation.message(message, "content", Turn::Past, PARTS)?;
    }
    let turn = if last_is_user { Turn::Last } else { Turn::Past };
    conversation.message(last, "content", turn, PARTS)?;

    let manner = Manner {
        model: model(&request)?,
        temperature: number(&request, "temperature"),
        exact_only: exact_only(&request, last_is_user),
    };
    Ok(conversation.finish(shape, manner))
}

/// A top-level member other than the conversation: exact, unless it cannot change an answer.
pub(super) fn parameter(conversation: &mut Conversation<'_>, name: &str, value: &Json<'_>) {
    if name != "stream_options" || !conversation.is_ignored(name) {
        return conversation.parameter(name, value);
    }
    // Only what `Shape` knows of it is ignored: another option (vLLM's `continuous_usage_stats`)
    // changes the bytes of the stream.
    let Json::Object(options) = value else { return };
    for (name, value) in options {
        if name != "include_usage" && name != "include_obfuscation" {
            conversation.mark(b's', name.as_bytes());
            conversation.member(name, value);
        }
    }
}

fn role<'j>(message: &'j Json<'_>) -> Result<&'j str, Unread> {
    let known = |role: &&str| {
        matches!(*role, "system" | "developer" | "user" | "assistant" | "tool" | "function")
    };
    message.get("role").and_then(Json::text).filter(known).ok_or(Unread::Unreadable)
}

pub(super) fn shape(request: &Json<'_>) -> Result<Shape, Unread> {
    if switch(request, "stream")? != Some(true) {
        return Ok(Shape::Whole);
    }
    let options = request.get("stream_options");
    let usage = options.and_then(|options| options.get("include_usage"));
    Ok(Shape::Stream { usage: usage == Some(&Json::Bool(true)) })
}

/// Why this request must not be matched by meaning.
fn exact_only(request: &Json<'_>, last_is_user: bool) -> Option<ExactOnly> {
    let count = |name| number(request, name).unwrap_or_default();
    if count("n") > 1.0 {
        return Some(ExactOnly::Choices);
    }
    if request.get("logprobs") == Some(&Json::Bool(true)) || count("top_logprobs") > 0.0 {
        return Some(ExactOnly::Logprobs);
    }
    let text_only = match request.get("modalities") {
        None | Some(Json::Null) => true,
        Some(Json::List(kinds)) => {
            kinds.iter().all(|kind| *kind == Json::Text(Cow::Borrowed("text")))
        }
        Some(_) => false,
    };
    if !text_only {
        return Some(ExactOnly::Modality);
    }
    (!last_is_user).then_some(ExactOnly::LastTurnNotUser)
}

#[cfg(test)]
mod tests;
