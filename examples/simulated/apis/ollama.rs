//! `POST /api/chat` and `/api/generate`: Ollama's, a JSON document a line.

use serde_json::{Map, Value, json};

use super::{Api, Told, chat, list, message, tool, turns};
use crate::{api_error::ApiError, render::Frame};

pub(super) struct Chat;
pub(super) struct Generate;

impl Api for Chat {
    fn chat(&self, _: &http::Uri, body: &Value) -> Result<Map<String, Value>, ApiError> {
        let tools = list(&body["tools"]).iter().map(|one| one["function"].clone());
        let tools = tools.map(|one| tool(&one["name"], &one["parameters"])).collect();
        Ok(chat(&body["model"], turns(&body["messages"])?, body["stream"] != false, tools))
    }

    fn whole(&self, told: &Told) -> Value {
        let mut end = end(told);
        end["message"] = match &told.call {
            Some(_) => called(told),
            None => json!({"role": "assistant", "content": told.text()}),
        };
        end
    }

    fn frames(&self, told: &Told) -> Vec<Frame> {
        let word = |word: &str| json!({"role": "assistant", "content": word});
        let mut said: Vec<_> = told.words.iter().map(|one| word(one)).collect();
        if told.call.is_some() {
            said.push(called(told));
        }
        lines(told, "message", said, word(""))
    }

    fn kind(&self) -> &'static str {
        "application/x-ndjson"
    }
}

impl Api for Generate {
    fn chat(&self, _: &http::Uri, body: &Value) -> Result<Map<String, Value>, ApiError> {
        let text = |name: &str| body[name].as_str().unwrap_or_default();
        let messages = vec![message("system", text("system")), message("user", text("prompt"))];
        Ok(chat(&body["model"], messages, body["stream"] != false, Vec::new()))
    }

    fn whole(&self, told: &Told) -> Value {
        let mut end = end(told);
        end["response"] = told.text().into();
        end
    }

    fn frames(&self, told: &Told) -> Vec<Frame> {
        let said = told.words.iter().map(|word| word.as_str().into()).collect();
        lines(told, "response", said, "".into())
    }

    fn kind(&self) -> &'static str {
        "application/x-ndjson"
    }
}

fn called(told: &Told) -> Value {
    let calls = told
        .call
        .iter()
        .map(|(_, name, arguments)| json!({"function": {"name": name, "arguments": arguments}}));
    json!({"role": "assistant", "content": "", "tool_calls": calls.collect::<Vec<_>>()})
}

fn lines(told: &Told, name: &str, said: Vec<Value>, last: Value) -> Vec<Frame> {
    let frame = |step, line: &Value| Frame { step, bytes: format!("{line}\n").into() };
    let end_step = said.len();
    let mut frames = Vec::new();
    for (step, said) in said.into_iter().enumerate() {
        let mut line = begin(told);
        line["done"] = false.into();
        line[name] = said;
        frames.push(frame(step, &line));
    }
    let mut end = end(told);
    end[name] = last;
    frames.push(frame(end_step, &end));
    frames
}

fn begin(told: &Told) -> Value {
    json!({"model": told.model, "created_at": format!("2026-01-01T00:00:00.{}Z", told.created)})
}

fn end(told: &Told) -> Value {
    let mut end = begin(told);
    end["done"] = true.into();
    end["done_reason"] = if told.cut_off { "length" } else { "stop" }.into();
    end["total_duration"] = 7.into();
    end["prompt_eval_count"] = told.prompt_tokens.into();
    end["eval_count"] = told.completion_tokens.into();
    end
}
