//! `POST /v1/messages`: Anthropic's.

use serde_json::{Map, Value, json};

use super::{Api, Told, chat, list, message, named, text_of, tool, turns};
use crate::{api_error::ApiError, render::Frame};

pub(super) struct Anthropic;

impl Api for Anthropic {
    fn chat(&self, _: &http::Uri, body: &Value) -> Result<Map<String, Value>, ApiError> {
        let mut messages = turns(&body["messages"])?;
        messages.insert(0, message("system", &text_of(&body["system"])));
        let tools = list(&body["tools"]).iter();
        let tools = tools.map(|one| tool(&one["name"], &one["input_schema"])).collect();
        let mut chat = chat(&body["model"], messages, body["stream"] == true, tools);
        chat.insert("max_tokens".into(), body["max_tokens"].clone());
        Ok(chat)
    }

    fn whole(&self, told: &Told) -> Value {
        let content = match &told.call {
            Some((id, name, input)) => {
                json!({"type": "tool_use", "id": id, "name": name, "input": input})
            }
            None => json!({"type": "text", "text": told.text(), "citations": null}),
        };
        let mut message = head(told);
        message["content"] = json!([content]);
        message["stop_reason"] = reason(told).into();
        message["usage"]["output_tokens"] = told.completion_tokens.into();
        message
    }

    fn frames(&self, told: &Told) -> Vec<Frame> {
        let (start, deltas) = match &told.call {
            Some((id, name, input)) => (
                json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
                vec![
                    json!({"type": "input_json_delta", "partial_json": ""}),
                    json!({"type": "input_json_delta", "partial_json": input.to_string()}),
                ],
            ),
            None => {
                let delta = |word| json!({"type": "text_delta", "text": word});
                let start = json!({"type": "text", "text": "", "citations": null});
                (start, told.words.iter().map(delta).collect())
            }
        };
        let mut frames = vec![
            named(0, &json!({"type": "message_start", "message": head(told)})),
            named(0, &json!({"type": "content_block_start", "index": 0, "content_block": start})),
            named(0, &json!({"type": "ping"})),
        ];
        let end = deltas.len();
        for (step, delta) in deltas.into_iter().enumerate() {
            let event = json!({"type": "content_block_delta", "index": 0, "delta": delta});
            frames.push(named(step, &event));
        }
        let delta = json!({"stop_reason": reason(told), "stop_sequence": null});
        let usage = json!({"output_tokens": told.completion_tokens});
        frames.extend([
            named(end, &json!({"type": "content_block_stop", "index": 0})),
            named(end, &json!({"type": "message_delta", "delta": delta, "usage": usage})),
            named(end, &json!({"type": "message_stop"})),
        ]);
        frames
    }
}

fn head(told: &Told) -> Value {
    json!({
        "id": format!("msg_{}", told.id), "type": "message", "role": "assistant",
        "model": told.model, "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": told.prompt_tokens, "output_tokens": 1},
    })
}

fn reason(told: &Told) -> &'static str {
    match (&told.call, told.cut_off) {
        (_, true) => "max_tokens",
        (Some(_), false) => "tool_use",
        (None, false) => "end_turn",
    }
}
