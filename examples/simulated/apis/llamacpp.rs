//! `POST /completion`: llama.cpp's own.

use serde_json::{Map, Value, json};

use super::{Api, Told, chat, message};
use crate::{api_error::ApiError, render::Frame};

pub(super) struct LlamaCpp;

impl Api for LlamaCpp {
    fn chat(&self, _: &http::Uri, body: &Value) -> Result<Map<String, Value>, ApiError> {
        let text = body["prompt"].as_str().ok_or_else(|| ApiError::missing("prompt"))?;
        let stream = body["stream"] == true;
        Ok(chat(&"llama".into(), vec![message("user", text)], stream, Vec::new()))
    }

    fn whole(&self, told: &Told) -> Value {
        end(told, &told.text())
    }

    fn frames(&self, told: &Told) -> Vec<Frame> {
        let piece = |(step, word): (usize, &String)| {
            let event =
                json!({"index": 0, "content": word, "tokens": [], "stop": false, "id_slot": 0});
            Frame::event(step, &event)
        };
        let mut frames: Vec<_> = told.words.iter().enumerate().map(piece).collect();
        frames.push(Frame::event(told.words.len(), &end(told, "")));
        frames
    }
}

fn end(told: &Told, content: &str) -> Value {
    json!({
        "index": 0, "content": content, "tokens": [], "id_slot": 0, "stop": true,
        "model": told.model, "tokens_predicted": told.completion_tokens,
        "tokens_evaluated": told.prompt_tokens, "truncated": false,
        "stop_type": if told.cut_off { "limit" } else { "eos" }, "stopping_word": "",
    })
}
