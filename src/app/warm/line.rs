//! Lines of a file of questions.
//!
//! ```json
//! {"prompt": "...", "model": "..."}
//! {"prompt": "...", "model": "...", "answer": "..."}
//! {"body": {...}, "path": "/v1/messages", "answer": {...}}
//! ```
//!
//! `body` is a whole request; files for OpenAI's batch API (`custom_id`, `method`, `url`, `body`) are
//! understood as they are. `answer` is the text of a chat completion, or a whole response.

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{json, value::RawValue};

/// What lines need not say.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The model of prompts.
    pub model: Option<String>,
    /// Where requests go.
    pub path: String,
}

/// What a line asks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Question {
    pub(super) path: String,
    pub(super) body: Bytes,
    /// The response, where it is known.
    pub(super) answer: Option<Bytes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'l> {
    prompt: Option<String>,
    model: Option<String>,
    #[serde(borrow)]
    body: Option<&'l RawValue>,
    #[serde(alias = "url")]
    path: Option<String>,
    #[serde(borrow)]
    answer: Option<&'l RawValue>,
    #[serde(rename = "custom_id")]
    _custom_id: Option<IgnoredAny>,
    #[serde(rename = "method")]
    _method: Option<IgnoredAny>,
}

/// The end of the paths at which a prompt and the text of an answer have an obvious form.
const CHAT: &str = "/chat/completions";

impl Question {
    /// Reads a line.
    ///
    /// # Errors
    /// What was expected.
    pub(super) fn read(line: &str, defaults: &Defaults) -> Result<Self, String> {
        let line: Line<'_> = serde_json::from_str(line).map_err(|error| {
            format!(
                "{error}; expected an object with a `prompt` (or a request's `body`), and an \
                 `answer` where it is known"
            )
        })?;
        let path = line.path.unwrap_or_else(|| defaults.path.clone());
        if !path.starts_with('/') {
            return Err(format!(
                "`path` begins with /, such as /v1/chat/completions, not `{path}`"
            ));
        }
        let body = match (line.prompt, line.body) {
            (Some(_), Some(_)) => {
                return Err("has `prompt` and `body`: expected one of them".into());
            }
            (None, None) => return Err("expected a `prompt`, or a request's `body`".into()),
            (None, Some(body)) if body.get().starts_with('{') => body.get().to_owned(),
            (None, Some(_)) => return Err("`body` is a request's JSON object".into()),
            (Some(prompt), None) => chat(&path, &prompt, line.model.or(defaults.model.clone()))?,
        };
        let answer = line.answer.map(|answer| response(&path, &body, answer)).transpose()?;
        Ok(Self { path, body: body.into(), answer })
    }
}

fn chat(path: &str, prompt: &str, model: Option<String>) -> Result<String, String> {
    if prompt.trim().is_empty() {
        return Err("`prompt` is empty".into());
    }
    if !path.ends_with(CHAT) {
        return Err(format!("a `prompt` becomes a chat completion; for {path} give the `body`"));
    }
    let model = model.ok_or("which model? Give `model` in the line, or --model for all")?;
    let messages = [json!({"role": "user", "content": prompt})];
    Ok(json!({"model": model, "messages": messages}).to_string())
}

/// A response that says so, without token counts: those are never made up.
fn response(path: &str, request: &str, answer: &RawValue) -> Result<Bytes, String> {
    #[derive(Deserialize)]
    struct Asked {
        #[serde(default)]
        model: String,
    }
    if answer.get().starts_with('{') {
        return Ok(Bytes::from(answer.get().to_owned()));
    }
    let text: String = serde_json::from_str(answer.get())
        .map_err(|_| "`answer` is a text, or a whole response as an object".to_owned())?;
    if text.trim().is_empty() {
        return Err("`answer` is empty".into());
    }
    if !path.ends_with(CHAT) {
        return Err(format!(
            "an `answer` in text is understood for chat completions; for {path} give the whole \
             response as an object"
        ));
    }
    let asked: Asked = serde_json::from_str(request).map_err(|error| error.to_string())?;
    let message = json!({"role": "assistant", "content": text});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    let digest = blake3::hash(request.as_bytes()).to_hex();
    let whole = json!({
        "id": format!("chatcmpl-{}", &digest[..24]),
        "object": "chat.completion",
        "created": crate::cache::entry::now_ms() / 1000,
        "model": asked.model,
        "choices": [choice],
    });
    Ok(Bytes::from(whole.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Question, String> {
        let defaults = Defaults { model: Some("m".into()), path: "/v1/chat/completions".into() };
        Question::read(line, &defaults)
    }

    #[test]
    fn prompts_bodies_and_batch_files_are_understood() {
        let plain = read(r#"{"prompt": "why?", "answer": "so"}"#).unwrap();
        let asked: serde_json::Value = serde_json::from_slice(&plain.body).unwrap();
        assert_eq!(asked, json!({"model": "m", "messages": [{"role": "user", "content": "why?"}]}));
        let said: serde_json::Value = serde_json::from_slice(&plain.answer.unwrap()).unwrap();
        assert_eq!(said["choices"][0]["message"]["content"], "so");
        assert_eq!((&said["model"], said.get("usage")), (&json!("m"), None));

        let batch =
            r#"{"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {"n":1.0}}"#;
        let batch = read(batch).unwrap();
        assert_eq!((&*batch.path, &batch.body[..]), ("/v1/embeddings", &br#"{"n":1.0}"#[..]));
        let whole = read(r#"{"body": {}, "path": "/v1/messages", "answer": {"x": 1.0}}"#).unwrap();
        assert_eq!(whole.answer.as_deref(), Some(&br#"{"x": 1.0}"#[..]));
    }

    #[test]
    fn what_is_wrong_says_what_was_expected() {
        for (line, expected) in [
            ("why?", "expected an object with a `prompt`"),
            (r#"{"messages": []}"#, "unknown field `messages`"),
            (r#"{"model": "m"}"#, "expected a `prompt`"),
            (r#"{"prompt": "a", "body": {}}"#, "expected one of them"),
            (r#"{"prompt": " "}"#, "is empty"),
            (r#"{"prompt": "a", "answer": ""}"#, "is empty"),
            (r#"{"prompt": "a", "answer": 7}"#, "is a text"),
            (r#"{"body": []}"#, "JSON object"),
            (r#"{"prompt": "a", "path": "/v1/messages"}"#, "give the `body`"),
            (r#"{"body": {}, "path": "/v1/messages", "answer": "x"}"#, "whole response"),
            (r#"{"prompt": "a", "path": "v1"}"#, "begins with /"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
        let bare = Defaults { model: None, path: "/v1/chat/completions".into() };
        assert!(Question::read(r#"{"prompt": "a"}"#, &bare).unwrap_err().contains("--model"));
    }
}
