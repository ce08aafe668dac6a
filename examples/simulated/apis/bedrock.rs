//! `POST /model/ID/converse` and `/converse-stream`: Amazon Bedrock's.

use serde_json::{Map, Value, json};

use super::{Api, Told, chat, list, message, tool, turns};
use crate::{api_error::ApiError, render::Frame};

pub(super) struct Bedrock;

impl Api for Bedrock {
    fn chat(&self, uri: &http::Uri, body: &Value) -> Result<Map<String, Value>, ApiError> {
        let model = uri.path().split('/').nth_back(1).unwrap_or_default();
        let system: String =
            list(&body["system"]).iter().filter_map(|part| part["text"].as_str()).collect();
        let mut messages = vec![message("system", &system)];
        messages.extend(turns(&body["messages"])?);
        let specs = list(&body["toolConfig"]["tools"]).iter().map(|one| &one["toolSpec"]);
        let tools = specs.map(|spec| tool(&spec["name"], &spec["inputSchema"]["json"])).collect();
        let stream = uri.path().ends_with("-stream");
        let mut chat = chat(&model.into(), messages, stream, tools);
        if body["toolConfig"]["toolChoice"]["any"].is_object() {
            chat.insert("tool_choice".into(), "required".into());
        }
        if let Some(most) = body["inferenceConfig"]["maxTokens"].as_u64() {
            chat.insert("max_tokens".into(), most.into());
        }
        Ok(chat)
    }

    fn whole(&self, told: &Told) -> Value {
        let block = match &told.call {
            Some((id, name, input)) => {
                json!({"toolUse": {"toolUseId": id, "name": name, "input": input}})
            }
            None => json!({"text": told.text()}),
        };
        let mut whole = counts(told);
        whole["output"] = json!({"message": {"role": "assistant", "content": [block]}});
        whole["stopReason"] = reason(told).into();
        whole
    }

    fn frames(&self, told: &Told) -> Vec<Frame> {
        let mut frames = vec![event(0, "messageStart", json!({"role": "assistant"}))];
        let delta = |step, delta: Value| {
            event(step, "contentBlockDelta", json!({"contentBlockIndex": 0, "delta": delta}))
        };
        let last = match &told.call {
            Some((id, name, input)) => {
                let start = json!({"toolUse": {"toolUseId": id, "name": name}});
                let start = json!({"contentBlockIndex": 0, "start": start});
                let input = input.to_string();
                let (one, other) = input.split_at(input.len() / 2);
                frames.push(event(0, "contentBlockStart", start));
                frames.push(delta(0, json!({"toolUse": {"input": one}})));
                frames.push(delta(1, json!({"toolUse": {"input": other}})));
                1
            }
            None => {
                let words = told.words.iter().enumerate();
                frames.extend(words.map(|(step, word)| delta(step, json!({"text": word}))));
                told.words.len()
            }
        };
        frames.push(event(last, "contentBlockStop", json!({"contentBlockIndex": 0})));
        frames.push(event(last, "messageStop", json!({"stopReason": reason(told)})));
        frames.push(event(last, "metadata", counts(told)));
        frames
    }

    fn kind(&self) -> &'static str {
        "application/vnd.amazon.eventstream"
    }
}

fn reason(told: &Told) -> &'static str {
    match (&told.call, told.cut_off) {
        (_, true) => "max_tokens",
        (Some(_), false) => "tool_use",
        (None, false) => "end_turn",
    }
}

fn counts(told: &Told) -> Value {
    let (input, output) = (told.prompt_tokens, told.completion_tokens);
    let usage =
        json!({"inputTokens": input, "outputTokens": output, "totalTokens": input + output});
    json!({"usage": usage, "metrics": {"latencyMs": 7}})
}

/// A message of AWS' event stream: lengths and their checksum, headers, payload, checksum of all.
fn event(step: usize, kind: &str, mut payload: Value) -> Frame {
    // The real one hides the lengths of its words behind padding.
    payload["p"] = "abcdefgh".get(..step % 8).unwrap_or_default().into();
    let payload = payload.to_string();
    let mut headers = Vec::new();
    for (name, value) in
        [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")]
    {
        headers.extend([&[name.len() as u8][..], name.as_bytes(), &[7]].concat());
        headers.extend([&(value.len() as u16).to_be_bytes()[..], value.as_bytes()].concat());
    }
    let total = 12 + headers.len() + payload.len() + 4;
    let mut bytes = Vec::with_capacity(total);
    bytes.extend((total as u32).to_be_bytes());
    bytes.extend((headers.len() as u32).to_be_bytes());
    bytes.extend(crc32(&bytes).to_be_bytes());
    bytes.extend(headers);
    bytes.extend(payload.into_bytes());
    bytes.extend(crc32(&bytes).to_be_bytes());
    Frame { step, bytes: bytes.into() }
}

fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _: u8| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}
