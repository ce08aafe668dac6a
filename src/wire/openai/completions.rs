//! Legacy completions: a text is continued.
//!
//! Source: OpenAI API reference, "Completions"; vLLM and llama.cpp serve it under the same path.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    super::{
        Call, Dialect, ExactOnly, Listener, Prompt, Shape, Unread,
        conversation::{Conversation, Manner, Turn, members, model, number},
        dress::Marks,
        framing::{self, Framing},
        json::Json,
        sse,
    },
    DONE, error, listener, request, reshape, stream_error,
};
use crate::fault::Fault;

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Completions;

impl Dialect for Completions {
    fn name(&self) -> &str {
        "openai_completions"
    }

    fn claims(&self, path: &str) -> bool {
        path.ends_with("/completions") && !path.ends_with("/chat/completions")
    }

    fn read(&self, call: Call<'_>) -> Result<Prompt, Unread> {
        let request = Json::parse(call.body).map_err(|_| Unread::Unreadable)?;
        let shape = request::shape(&request)?;
        let mut conversation = Conversation::new(call.path, call.rules);
        for (name, value) in members(&request)? {
            if name != "prompt" {
                request::parameter(&mut conversation, name, value);
            }
        }
        let prompt = request.get("prompt").ok_or(Unread::Unreadable)?;
        let texts = match prompt {
            Json::List(texts) => texts.as_slice(),
            Json::Text(_) => std::slice::from_ref(prompt),
            _ => return Err(Unread::Unreadable),
        };
        // Several texts, or token numbers, are no question that could be asked in other words.
        let one_text = matches!(texts, [Json::Text(_)]);
        match texts {
            [Json::Text(text)] => conversation.text(text, Turn::Last),
            _ => conversation.member("prompt", prompt),
        }
        let count = |name| number(&request, name).unwrap_or_default();
        let exact_only = if !one_text || count("n") > 1.0 || count("best_of") > 1.0 {
            Some(ExactOnly::Choices)
        } else if !matches!(request.get("logprobs"), None | Some(Json::Null)) {
            Some(ExactOnly::Logprobs)
        } else if request.get("echo") == Some(&Json::Bool(true)) {
            // The answer repeats the very words of its question.
            Some(ExactOnly::NotAQuestion)
        } else {
            None
        };
        let temperature = number(&request, "temperature");
        let manner = Manner { model: model(&request)?, temperature, exact_only };
        Ok(conversation.finish(shape, manner))
    }

    fn listener(&self, shape: Shape) -> Box<dyn Listener> {
        listener(shape)
    }

    fn reshape(&self, stored: Shape, body: &Bytes, wanted: Shape) -> Option<Bytes> {
        match (stored, wanted) {
            (Shape::Whole, Shape::Stream { usage }) => split(body, usage),
            (Shape::Stream { .. }, Shape::Whole) => join(body),
            _ => reshape::reshape(stored, body, wanted),
        }
    }

    fn marks(&self) -> Marks<'_> {
        Marks {
            framing: Some(Framing::Sse),
            ids: vec!["/id"],
            times: vec!["/created"],
            counts: vec!["/usage"],
        }
    }

    fn error(&self, fault: &Fault) -> Bytes {
        error(fault)
    }

    fn stream_error(&self, _: Shape, fault: &Fault, _: Option<u8>) -> Option<Bytes> {
        Some(stream_error(fault))
    }
}

/// One event a choice, with its finish reason, as servers send the last one.
fn split(body: &[u8], usage: bool) -> Option<Bytes> {
    let mut whole: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let counts = whole.remove("usage").filter(Value::is_object);
    if usage && counts.is_none() {
        return None;
    }
    let Some(Value::Array(choices)) = whole.remove("choices") else { return None };
    let mut out = Vec::with_capacity(body.len() * 2);
    let mut emit = |choices: Value, counts: Value| {
        let mut chunk = whole.clone();
        chunk.insert("choices".into(), choices);
        if usage {
            chunk.insert("usage".into(), counts);
        }
        sse::write(&mut out, Value::Object(chunk).to_string().as_bytes());
    };
    for choice in choices {
        emit(json!([choice]), Value::Null);
    }
    if let Some(counts) = counts.filter(|_| usage) {
        emit(json!([]), counts);
    }
    sse::write(&mut out, DONE);
    Some(Bytes::from(out))
}

fn join(body: &[u8]) -> Option<Bytes> {
    let mut whole = Map::new();
    let mut choices: Vec<Map<String, Value>> = Vec::new();
    for (_, event) in framing::events(Framing::Sse, body)? {
        let Value::Object(event) = event else { return None };
        for (name, value) in event {
            match (name.as_str(), value) {
                ("choices", Value::Array(pieces)) => {
                    for piece in pieces {
                        reshape::add_piece(&mut choices, piece)?;
                    }
                }
                ("usage", Value::Null) | ("obfuscation", _) => {}
                (_, value) => {
                    whole.insert(name, value);
                }
            }
        }
    }
    choices.sort_by_key(|choice| choice.get("index").and_then(Value::as_u64));
    whole.insert("choices".into(), choices.into_iter().map(Value::Object).collect());
    Some(Bytes::from(Value::Object(whole).to_string()))
}

#[cfg(test)]
mod tests;
