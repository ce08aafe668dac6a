//! `POST /v2/chat`: Cohere's.

use serde_json::{Map, Value, json};

use super::{Api, Told, chat, list, named, tool, turns};
use crate::{api_error::ApiError, render::Frame};

pub(super) struct Cohere;

impl Api for Cohere {
    fn chat(&self, _: &http::Uri, body: &Value) -> Result<Map<String, Value>, ApiError> {
        let tools = list(&body["tools"]).iter().map(|one| one["function"].clone());
        let tools = tools.map(|one| tool(&one["name"], &one["parameters"])).collect();
        Ok(chat(&body["model"], turns(&body["messages"])?, body["stream"] == true, tools))
    }

    fn whole(&self, told: &Told) -> Value {
        let message = match &told.call {
            Some((id, name, arguments)) => json!({
                "role": "assistant", "tool_plan": "I will ask a tool.",
                "tool_calls": [{"id": id, "type": "function",
                    "function": {"name": name, "arguments": arguments.to_string()}}],
            }),
            None => {
                json!({"role": "assistant", "content": [{"type": "text", "text": told.text()}]})
            }
        };
        let mut whole = end(told);
        whole["id"] = told.id.as_str().into();
        whole["message"] = message;
        whole
    }

    fn frames(&self, told: &Told) -> Vec<Frame> {
        let said = |kind: &str, index: usize, said: Value| json!({"type": kind, "index": index, "delta": {"message": said}});
        let begun = json!({"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []});
        let start = json!({"id": told.id, "type": "message-start", "delta": {"message": begun}});
        let mut frames = vec![named(0, &start)];
        let last = match &told.call {
            Some((id, name, arguments)) => {
                let plan = json!({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I will ask a tool."}}});
                let begun = json!({"id": id, "type": "function", "function": {"name": name, "arguments": ""}});
                let more = json!({"function": {"arguments": arguments.to_string()}});
                frames.extend([
                    named(0, &plan),
                    named(0, &said("tool-call-start", 0, json!({"tool_calls": begun}))),
                    named(1, &said("tool-call-delta", 0, json!({"tool_calls": more}))),
                    named(1, &json!({"type": "tool-call-end", "index": 0})),
                ]);
                1
            }
            None => {
                let empty = json!({"content": {"type": "text", "text": ""}});
                frames.push(named(0, &said("content-start", 0, empty)));
                for (step, word) in told.words.iter().enumerate() {
                    let more = json!({"content": {"text": word}});
                    frames.push(named(step, &said("content-delta", 0, more)));
                }
                frames.push(named(told.words.len(), &json!({"type": "content-end", "index": 0})));
                told.words.len()
            }
        };
        frames.push(named(last, &json!({"type": "message-end", "delta": end(told)})));
        frames
    }
}

fn end(told: &Told) -> Value {
    let reason = match (&told.call, told.cut_off) {
        (_, true) => "MAX_TOKENS",
        (Some(_), false) => "TOOL_CALL",
        (None, false) => "COMPLETE",
    };
    let counts =
        json!({"input_tokens": told.prompt_tokens, "output_tokens": told.completion_tokens});
    json!({"finish_reason": reason, "usage": {"billed_units": counts, "tokens": counts}})
}
