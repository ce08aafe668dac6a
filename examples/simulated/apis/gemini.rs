//! `POST .../models/NAME:generateContent` and `:streamGenerateContent`: Gemini's.

use serde_json::{Map, Value, json};

use super::{Api, Told, chat, list, message, text_of, tool};
use crate::{api_error::ApiError, render::Frame};

pub(super) struct Gemini;

impl Api for Gemini {
    fn chat(&self, uri: &http::Uri, body: &Value) -> Result<Map<String, Value>, ApiError> {
        let (place, method) = uri.path().rsplit_once(':').unwrap_or_default();
        let model = place.rsplit('/').next().unwrap_or_default();
        let contents = body["contents"].as_array().ok_or_else(|| ApiError::missing("contents"))?;
        let turn = |one: &Value| {
            let result =
                list(&one["parts"]).iter().any(|part| part.get("functionResponse").is_some());
            let role = match one["role"].as_str() {
                _ if result => "tool",
                Some("model") => "assistant",
                _ => "user",
            };
            message(role, &text_of(&one["parts"]))
        };
        let mut messages: Vec<_> = contents.iter().map(turn).collect();
        messages.insert(0, message("system", &text_of(&body["systemInstruction"]["parts"])));
        let tools = list(&body["tools"]).iter().flat_map(|one| list(&one["functionDeclarations"]));
        let tools = tools.map(|one| tool(&one["name"], &Value::Null)).collect();
        Ok(chat(&model.into(), messages, method.starts_with("stream"), tools))
    }

    fn whole(&self, told: &Told) -> Value {
        chunk(told, vec![said(told)], true)
    }

    fn frames(&self, told: &Told) -> Vec<Frame> {
        let mut chunks: Vec<Value> = match told.call {
            Some(_) => vec![chunk(told, vec![said(told)], false)],
            None => told
                .words
                .iter()
                .map(|word| chunk(told, vec![json!({"text": word})], false))
                .collect(),
        };
        if let Some(last) = chunks.last_mut() {
            last["candidates"][0]["finishReason"] = reason(told).into();
            last["usageMetadata"] = usage(told);
        }
        if told.query.contains("alt=sse") {
            let event = |(step, chunk): (usize, &Value)| Frame {
                step,
                bytes: format!("data: {chunk}\r\n\r\n").into(),
            };
            return chunks.iter().enumerate().map(event).collect();
        }
        let last = chunks.len() - 1;
        let element = |(step, chunk): (usize, &Value)| {
            let before = if step == 0 { "[" } else { ",\r\n" };
            let after = if step == last { "]\n" } else { "" };
            Frame { step, bytes: format!("{before}{chunk}{after}").into() }
        };
        chunks.iter().enumerate().map(element).collect()
    }

    fn kind(&self) -> &'static str {
        "text/event-stream"
    }
}

fn said(told: &Told) -> Value {
    match &told.call {
        Some((_, name, arguments)) => json!({"functionCall": {"name": name, "args": arguments}}),
        None => json!({"text": told.text()}),
    }
}

fn chunk(told: &Told, parts: Vec<Value>, last: bool) -> Value {
    let mut chunk = json!({
        "candidates": [{"content": {"parts": parts, "role": "model"}, "index": 0}],
        "modelVersion": told.model, "responseId": told.id,
        "usageMetadata": {"promptTokenCount": told.prompt_tokens},
    });
    if last {
        chunk["candidates"][0]["finishReason"] = reason(told).into();
        chunk["usageMetadata"] = usage(told);
    }
    chunk
}

fn reason(told: &Told) -> &'static str {
    if told.cut_off { "MAX_TOKENS" } else { "STOP" }
}

fn usage(told: &Told) -> Value {
    json!({
        "promptTokenCount": told.prompt_tokens, "candidatesTokenCount": told.completion_tokens,
        "totalTokenCount": told.prompt_tokens + told.completion_tokens,
    })
}
