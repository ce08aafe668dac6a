//! Chat completions in OpenAI's shapes: one body, or chunks.
//!
//! Chunks come as that API sends them: a role chunk per alternative, then the tokens, then a chunk
//! with the finish reason; with `include_usage` every chunk says `"usage": null` and one more, with
//! no choices, holds the counts.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::{
    ask::{Ask, Delivery},
    reply::{Choice, Token},
    stamp::Stamp,
};

/// What differs between two answers to the same request, and who answered.
pub(crate) struct Head {
    /// `chatcmpl-...`, new for every answer.
    pub(crate) id: String,
    /// Unix seconds.
    pub(crate) created: u64,
    /// `system_fingerprint`.
    pub(crate) fingerprint: String,
}

/// One server-sent event.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Tokens that come before it; decides when it is due.
    pub(crate) step: usize,
    /// The event's bytes with its blank line.
    pub(crate) bytes: Bytes,
}

impl Frame {
    /// The event that holds `data`.
    pub(crate) fn event(step: usize, data: &Value) -> Self {
        Self { step, bytes: format!("data: {data}\n\n").into() }
    }

    /// The end of every complete stream.
    pub(crate) fn done(step: usize) -> Self {
        Self { step, bytes: Bytes::from_static(b"data: [DONE]\n\n") }
    }
}

/// The whole answer.
pub(crate) fn whole(ask: &Ask, head: &Head, stamp: &Stamp, choices: &[Choice]) -> Value {
    let rendered: Vec<Value> = choices
        .iter()
        .enumerate()
        .map(|(index, choice)| {
            json!({
                "index": index,
                "message": message(&choice.tokens),
                "logprobs": logprobs(ask, stamp, index, 0, &choice.tokens),
                "finish_reason": choice.finish.name(),
            })
        })
        .collect();
    json!({
        "id": head.id, "object": "chat.completion", "created": head.created, "model": ask.model,
        "choices": rendered, "usage": usage(ask, choices), "service_tier": "default",
        "system_fingerprint": head.fingerprint,
    })
}

/// The answer as events, without the closing `[DONE]`.
pub(crate) fn frames(ask: &Ask, head: &Head, stamp: &Stamp, choices: &[Choice]) -> Vec<Frame> {
    let chunk = |delta: Value, index: usize, logprobs: Value, finish: Option<&str>| {
        let choice = json!({
            "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish,
        });
        chunk_body(ask, head, vec![choice], Value::Null)
    };
    let longest = longest(choices);
    let mut frames = Vec::new();
    for (index, choice) in choices.iter().enumerate() {
        let role = match ask.tool_use {
            Some(_) => json!({"role": "assistant", "content": null, "refusal": null}),
            None => json!({"role": "assistant", "content": "", "refusal": null}),
        };
        frames.push(Frame::event(0, &chunk(role, index, Value::Null, None)));
        for (step, token) in choice.tokens.iter().enumerate() {
            let logprobs = logprobs(ask, stamp, index, step, std::slice::from_ref(token));
            frames.push(Frame::event(step, &chunk(delta(token), index, logprobs, None)));
        }
        let finish = chunk(json!({}), index, Value::Null, Some(choice.finish.name()));
        frames.push(Frame::event(choice.tokens.len(), &finish));
    }
    // Alternatives grow side by side; the sort is stable, so each keeps its own order.
    frames.sort_by_key(|frame| frame.step);
    if ask.delivery == (Delivery::Stream { usage: true }) {
        let counts = chunk_body(ask, head, Vec::new(), usage(ask, choices));
        frames.push(Frame::event(longest, &counts));
    }
    frames
}

/// Tokens of the longest alternative.
pub(crate) fn longest(choices: &[Choice]) -> usize {
    choices.iter().map(|choice| choice.tokens.len()).max().unwrap_or(0)
}

fn chunk_body(ask: &Ask, head: &Head, choices: Vec<Value>, usage: Value) -> Value {
    let mut chunk = json!({
        "id": head.id, "object": "chat.completion.chunk", "created": head.created,
        "model": ask.model, "service_tier": "default", "system_fingerprint": head.fingerprint,
        "choices": choices,
    });
    if ask.delivery == (Delivery::Stream { usage: true }) {
        chunk["usage"] = usage;
    }
    chunk
}

fn usage(ask: &Ask, choices: &[Choice]) -> Value {
    let completion: usize = choices.iter().map(|choice| choice.tokens.len()).sum();
    json!({
        "prompt_tokens": ask.prompt_tokens, "completion_tokens": completion,
        "total_tokens": ask.prompt_tokens + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    })
}

fn delta(token: &Token) -> Value {
    match token {
        Token::Text(text) => json!({"content": text}),
        Token::Call { index, id, name } => json!({"tool_calls": [{
            "index": index, "id": id, "type": "function",
            "function": {"name": name, "arguments": ""},
        }]}),
        Token::Arguments { index, piece } => json!({"tool_calls": [{
            "index": index, "function": {"arguments": piece},
        }]}),
    }
}

/// The message that the tokens add up to.
fn message(tokens: &[Token]) -> Value {
    let mut text = String::new();
    let mut calls: Vec<(String, String, String)> = Vec::new();
    for token in tokens {
        match token {
            Token::Text(piece) => text.push_str(piece),
            Token::Call { id, name, .. } => calls.push((id.clone(), name.clone(), String::new())),
            Token::Arguments { index, piece } => {
                if let Some((_, _, arguments)) = calls.get_mut(*index) {
                    arguments.push_str(piece);
                }
            }
        }
    }
    let mut message = Map::new();
    message.insert("role".to_owned(), "assistant".into());
    message.insert("refusal".to_owned(), Value::Null);
    message.insert("annotations".to_owned(), json!([]));
    if calls.is_empty() {
        message.insert("content".to_owned(), text.into());
    } else {
        let calls = calls.into_iter().map(|(id, name, arguments)| {
            json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
        });
        message.insert("content".to_owned(), Value::Null);
        message.insert("tool_calls".to_owned(), calls.collect());
    }
    message.into()
}

/// `logprobs` for text tokens, where the request asked for them; `first` is the position of the
/// first token, which its numbers are drawn by.
fn logprobs(ask: &Ask, stamp: &Stamp, choice: usize, first: usize, tokens: &[Token]) -> Value {
    let Some(top) = ask.top_logprobs else { return Value::Null };
    let entry = |token: &str, logprob: f64| json!({"token": token, "logprob": logprob, "bytes": token.as_bytes()});
    let mut content = Vec::new();
    for (offset, token) in tokens.iter().enumerate() {
        let Token::Text(text) = token else { continue };
        // Thousandths, so that the decimal form is short and exact on both sides.
        let logprob = -((stamp.draw(choice, first + offset) % 5000) as f64) / 1000.0;
        let others = (0..top).map(|rank| match rank {
            0 => entry(text, logprob),
            rank => entry(&format!("{text}{rank}"), logprob - rank as f64),
        });
        let mut full = entry(text, logprob);
        full["top_logprobs"] = others.collect();
        content.push(full);
    }
    json!({"content": content, "refusal": null})
}
