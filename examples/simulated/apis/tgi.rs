//! `POST /generate` and `/generate_stream`: Text Generation Inference's own.

use serde_json::{Map, Value, json};

use super::{Api, Told, chat, message};
use crate::{api_error::ApiError, render::Frame};

pub(super) struct Tgi;

impl Api for Tgi {
    fn chat(&self, uri: &http::Uri, body: &Value) -> Result<Map<String, Value>, ApiError> {
        let text = body["inputs"].as_str().ok_or_else(|| ApiError::missing("inputs"))?;
        let stream = uri.path().ends_with("_stream");
        Ok(chat(&"tgi".into(), vec![message("user", text)], stream, Vec::new()))
    }

    fn whole(&self, told: &Told) -> Value {
        let mut whole = json!({"generated_text": told.text()});
        if wants_details(told) {
            let mut details = details(told);
            details["prefill"] = json!([]);
            details["tokens"] = told.words.iter().enumerate().map(token).collect();
            whole["details"] = details;
        }
        whole
    }

    fn frames(&self, told: &Told) -> Vec<Frame> {
        let last = told.words.len().saturating_sub(1);
        let event = |(step, word): (usize, &String)| {
            let mut event = json!({
                "index": step + 1, "token": token((step, word)), "generated_text": null,
                "details": null,
            });
            if step == last {
                event["generated_text"] = told.text().into();
                if wants_details(told) {
                    event["details"] = details(told);
                }
            }
            Frame::event(step, &event)
        };
        told.words.iter().enumerate().map(event).collect()
    }
}

fn wants_details(told: &Told) -> bool {
    told.asked["parameters"]["details"] == true
}

fn token((place, word): (usize, &String)) -> Value {
    json!({"id": place + 100, "text": word, "logprob": -0.25, "special": false})
}

fn details(told: &Told) -> Value {
    json!({
        "finish_reason": if told.cut_off { "length" } else { "eos_token" },
        "generated_tokens": told.completion_tokens, "input_length": told.prompt_tokens, "seed": null,
    })
}
