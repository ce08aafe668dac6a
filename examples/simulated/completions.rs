//! `POST /v1/completions`: the older shape, text only. It borrows the chat's composer.

use serde_json::{Value, json};

use crate::{
    api_error::ApiError,
    ask::{self, Ask, Delivery},
    render::{Frame, Head},
    reply::{Choice, Token},
};

/// Checks the body as a chat whose only message is the prompt.
pub(crate) fn parse(body: &Value) -> Result<Ask, ApiError> {
    let fields = ask::object(body)?;
    let prompt = match fields.get("prompt") {
        Some(Value::String(prompt)) => prompt.clone(),
        Some(Value::Array(prompts)) => match prompts.as_slice() {
            [Value::String(prompt)] => prompt.clone(),
            _ => return Err(ApiError::bad_value("prompt", "only one text is served here")),
        },
        Some(other) => return Err(ApiError::wrong_type("prompt", "a string", other)),
        None => return Err(ApiError::missing("prompt")),
    };
    let mut chat = fields.clone();
    chat.remove("prompt");
    // Here it is a number; the chat's is a boolean. The simulation leaves it out.
    chat.remove("logprobs");
    chat.insert("messages".to_owned(), json!([{"role": "user", "content": prompt}]));
    Ask::parse(&Value::Object(chat))
}

/// The whole answer.
pub(crate) fn whole(ask: &Ask, head: &Head, choices: &[Choice]) -> Value {
    let rendered = choices.iter().enumerate().map(|(index, choice)| {
        let text: String = choice.tokens.iter().map(text).collect();
        part(index, &text, Some(choice.finish.name()))
    });
    let mut body = envelope(ask, head, rendered.collect());
    body["usage"] = usage(ask, choices);
    body
}

/// The answer as events, without the closing `[DONE]`.
pub(crate) fn frames(ask: &Ask, head: &Head, choices: &[Choice]) -> Vec<Frame> {
    let event = |step, choices| Frame::event(step, &envelope(ask, head, choices));
    let mut frames = Vec::new();
    for (index, choice) in choices.iter().enumerate() {
        for (step, token) in choice.tokens.iter().enumerate() {
            frames.push(event(step, vec![part(index, text(token), None)]));
        }
        let finish = part(index, "", Some(choice.finish.name()));
        frames.push(event(choice.tokens.len(), vec![finish]));
    }
    frames.sort_by_key(|frame| frame.step);
    if ask.delivery == (Delivery::Stream { usage: true }) {
        let last = frames.last().map_or(0, |frame| frame.step);
        let mut counts = envelope(ask, head, Vec::new());
        counts["usage"] = usage(ask, choices);
        frames.push(Frame::event(last, &counts));
    }
    frames
}

fn envelope(ask: &Ask, head: &Head, choices: Vec<Value>) -> Value {
    let id = head.id.replacen("chatcmpl-", "cmpl-", 1);
    json!({
        "id": id, "object": "text_completion", "created": head.created, "model": ask.model,
        "choices": choices, "system_fingerprint": head.fingerprint,
    })
}

fn part(index: usize, text: &str, finish: Option<&str>) -> Value {
    json!({"index": index, "text": text, "logprobs": null, "finish_reason": finish})
}

fn usage(ask: &Ask, choices: &[Choice]) -> Value {
    let completion: usize = choices.iter().map(|choice| choice.tokens.len()).sum();
    json!({
        "prompt_tokens": ask.prompt_tokens, "completion_tokens": completion,
        "total_tokens": ask.prompt_tokens + completion,
    })
}

fn text(token: &Token) -> &str {
    match token {
        Token::Text(text) => text,
        Token::Call { .. } | Token::Arguments { .. } => "",
    }
}
