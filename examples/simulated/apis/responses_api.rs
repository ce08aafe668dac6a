//! `POST /v1/responses`: OpenAI's agentic API.

use serde_json::{Map, Value, json};

use super::{Api, Told, chat, list, message, named, text_of, tool};
use crate::{api_error::ApiError, render::Frame};

pub(super) struct Responses;

impl Api for Responses {
    fn chat(&self, _: &http::Uri, body: &Value) -> Result<Map<String, Value>, ApiError> {
        let turn = |item: &Value| match item["type"].as_str() {
            Some("function_call_output") => message("tool", &text_of(&item["output"])),
            Some("function_call") => message("assistant", ""),
            _ => message(item["role"].as_str().unwrap_or("user"), &text_of(&item["content"])),
        };
        let mut messages = match &body["input"] {
            Value::String(text) => vec![message("user", text)],
            Value::Array(items) => items.iter().map(turn).collect(),
            _ => return Err(ApiError::missing("input")),
        };
        messages.insert(0, message("system", body["instructions"].as_str().unwrap_or_default()));
        let tools = list(&body["tools"]).iter();
        let tools = tools.map(|one| tool(&one["name"], &one["parameters"])).collect();
        Ok(chat(&body["model"], messages, body["stream"] == true, tools))
    }

    fn whole(&self, told: &Told) -> Value {
        let mut whole = head(told);
        whole["status"] = if told.cut_off { "incomplete" } else { "completed" }.into();
        if told.cut_off {
            whole["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        whole["output"] = json!([item(told, "completed")]);
        whole["usage"] = json!({
            "input_tokens": told.prompt_tokens, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": told.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": told.prompt_tokens + told.completion_tokens,
        });
        whole
    }

    fn frames(&self, told: &Told) -> Vec<Frame> {
        let mut events = vec![
            (0, "created", json!({"response": head(told)})),
            (0, "in_progress", json!({"response": head(told)})),
            (0, "output_item.added", json!({"output_index": 0, "item": begun(told)})),
        ];
        let done = item(told, "completed");
        let at = json!({"item_id": done["id"], "output_index": 0});
        let with = |more: Value| {
            let mut event = at.clone();
            if let (Value::Object(event), Value::Object(more)) = (&mut event, more) {
                event.extend(more);
            }
            event
        };
        let last = told.words.len();
        if let Some((_, name, arguments)) = &told.call {
            let text = arguments.to_string();
            events.push((0, "function_call_arguments.delta", with(json!({"delta": text}))));
            let end = with(json!({"arguments": text, "name": name}));
            events.push((0, "function_call_arguments.done", end));
        } else {
            let empty = json!({"type": "output_text", "text": "", "annotations": []});
            let part = |part: &Value| with(json!({"content_index": 0, "part": part}));
            events.push((0, "content_part.added", part(&empty)));
            for (step, word) in told.words.iter().enumerate() {
                let delta = with(json!({"content_index": 0, "delta": word, "logprobs": []}));
                events.push((step, "output_text.delta", delta));
            }
            let end = with(json!({"content_index": 0, "text": told.text(), "logprobs": []}));
            events.push((last, "output_text.done", end));
            events.push((last, "content_part.done", part(&done["content"][0])));
        }
        events.push((last, "output_item.done", json!({"output_index": 0, "item": done})));
        events.push((last, "completed", json!({"response": self.whole(told)})));
        let frame = |(number, (step, kind, mut event)): (usize, (usize, &str, Value))| {
            event["type"] = format!("response.{kind}").into();
            event["sequence_number"] = number.into();
            named(step, &event)
        };
        events.into_iter().enumerate().map(frame).collect()
    }
}

fn head(told: &Told) -> Value {
    json!({
        "id": format!("resp_{}", told.id), "object": "response", "created_at": told.created,
        "status": "in_progress", "error": null, "incomplete_details": null, "model": told.model,
        "instructions": told.asked["instructions"], "metadata": {}, "output": [],
        "parallel_tool_calls": true, "temperature": 1.0, "tool_choice": "auto", "tools": [],
        "top_p": 1.0, "usage": null,
    })
}

fn item(told: &Told, status: &str) -> Value {
    match &told.call {
        Some((id, name, arguments)) => json!({
            "type": "function_call", "id": format!("fc_{}", told.id), "call_id": id, "name": name,
            "arguments": arguments.to_string(), "status": status,
        }),
        None => json!({
            "type": "message", "id": format!("msg_{}", told.id), "role": "assistant",
            "status": status,
            "content": [{"type": "output_text", "text": told.text(), "annotations": []}],
        }),
    }
}

fn begun(told: &Told) -> Value {
    let mut item = item(told, "in_progress");
    match told.call {
        Some(_) => item["arguments"] = "".into(),
        None => item["content"] = json!([]),
    }
    item
}
