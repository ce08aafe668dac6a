//! A chat completion request, checked: after this file nobody looks at the raw JSON again.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::{
    api_error::ApiError,
    script::{self, Script},
    tools::{self, ToolUse},
};

const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// What the answer's text must be.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    /// Prose.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that fits this schema.
    JsonSchema(Value),
}

/// Whether the answer comes in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// One JSON body.
    Whole,
    /// Server-sent events; `usage` adds the chunk that counts tokens.
    Stream {
        /// `stream_options.include_usage`.
        usage: bool,
    },
}

/// One checked request.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The model's name, echoed.
    pub(crate) model: String,
    /// Whole or streamed.
    pub(crate) delivery: Delivery,
    /// Alternatives, 1 to 16.
    pub(crate) n: usize,
    /// Alternatives listed with each token's log probability, if any were asked for.
    pub(crate) top_logprobs: Option<usize>,
    /// The form of the text.
    pub(crate) format: Format,
    /// The most tokens that an alternative may have.
    pub(crate) max_tokens: Option<usize>,
    /// Texts at which an alternative ends.
    pub(crate) stop: Vec<String>,
    /// The tool to call instead of answering.
    pub(crate) tool_use: Option<ToolUse>,
    /// The last user message's text without markers.
    pub(crate) question: String,
    /// Words in all messages.
    pub(crate) prompt_tokens: usize,
    /// What the markers asked for.
    pub(crate) script: Script,
}

impl Ask {
    /// Checks the body of `POST /v1/chat/completions`.
    pub(crate) fn parse(body: &Value) -> Result<Self, ApiError> {
        let fields = object(body)?;
        let model = model(fields)?;
        let messages = messages(fields)?;
        let all_text: String = messages.iter().map(|turn| turn.text.as_str()).collect();
        let last_user = messages.iter().rev().find(|turn| turn.role == "user");
        let question = last_user.map(|turn| script::without_markers(&turn.text));
        let question = question.unwrap_or_default();
        let after_tool = messages.last().is_some_and(|turn| turn.role == "tool");
        number(fields, "temperature", 0.0..=2.0)?;
        number(fields, "top_p", 0.0..=1.0)?;
        Ok(Self {
            model,
            delivery: delivery(fields)?,
            n: count(fields, "n", 1..=16)?.unwrap_or(1),
            top_logprobs: top_logprobs(fields)?,
            format: format(fields)?,
            max_tokens: match count(fields, "max_completion_tokens", 1..=1_000_000)? {
                Some(limit) => Some(limit),
                None => count(fields, "max_tokens", 1..=1_000_000)?,
            },
            stop: stop(fields)?,
            tool_use: tools::parse(fields, &question, after_tool)?,
            question,
            prompt_tokens: all_text.split_whitespace().count(),
            script: Script::parse(&all_text)?,
        })
    }
}

/// The fields of a JSON object body.
pub(crate) fn object(body: &Value) -> Result<&Map<String, Value>, ApiError> {
    body.as_object().ok_or_else(|| ApiError::invalid("The body must be a JSON object."))
}

/// The required `model`.
pub(crate) fn model(fields: &Map<String, Value>) -> Result<String, ApiError> {
    let value = fields.get("model").ok_or_else(|| ApiError::missing("model"))?;
    let name = value.as_str().ok_or_else(|| ApiError::wrong_type("model", "a string", value))?;
    if name.starts_with("missing-") {
        return Err(ApiError::unknown_model(name));
    }
    Ok(name.to_owned())
}

/// `stream` and `stream_options`.
pub(crate) fn delivery(fields: &Map<String, Value>) -> Result<Delivery, ApiError> {
    let stream = boolean(fields, "stream")?.unwrap_or(false);
    let options = match present(fields, "stream_options") {
        None => None,
        Some(_) if !stream => {
            return Err(ApiError::bad_value("stream_options", "it needs 'stream'"));
        }
        Some(Value::Object(options)) => Some(options),
        Some(other) => return Err(ApiError::wrong_type("stream_options", "an object", other)),
    };
    let usage = options.map(|options| boolean(options, "include_usage")).transpose()?.flatten();
    Ok(match stream {
        true => Delivery::Stream { usage: usage.unwrap_or(false) },
        false => Delivery::Whole,
    })
}

/// A whole number in `range`, if the field is there and not null.
pub(crate) fn count(
    fields: &Map<String, Value>,
    name: &str,
    range: RangeInclusive<usize>,
) -> Result<Option<usize>, ApiError> {
    let Some(value) = present(fields, name) else { return Ok(None) };
    let number = value.as_i64().ok_or_else(|| ApiError::wrong_type(name, "an integer", value))?;
    match usize::try_from(number) {
        Ok(number) if range.contains(&number) => Ok(Some(number)),
        _ => {
            let why = format!("{number} is not in {}..={}", range.start(), range.end());
            Err(ApiError::bad_value(name, &why))
        }
    }
}

/// The field, unless it is absent or null: OpenAI takes null for "not set" everywhere.
pub(crate) fn present<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

fn boolean(fields: &Map<String, Value>, name: &str) -> Result<Option<bool>, ApiError> {
    let wrong = |value| ApiError::wrong_type(name, "a boolean", value);
    present(fields, name).map(|value| value.as_bool().ok_or_else(|| wrong(value))).transpose()
}

fn number(
    fields: &Map<String, Value>,
    name: &str,
    range: RangeInclusive<f64>,
) -> Result<(), ApiError> {
    let Some(value) = present(fields, name) else { return Ok(()) };
    let number = value.as_f64().ok_or_else(|| ApiError::wrong_type(name, "a number", value))?;
    match range.contains(&number) {
        true => Ok(()),
        false => Err(ApiError::bad_value(name, &format!("{number} is out of range"))),
    }
}

fn top_logprobs(fields: &Map<String, Value>) -> Result<Option<usize>, ApiError> {
    let wanted = boolean(fields, "logprobs")?.unwrap_or(false);
    match count(fields, "top_logprobs", 0..=20)? {
        Some(_) if !wanted => Err(ApiError::bad_value("top_logprobs", "it needs 'logprobs'")),
        top => Ok(wanted.then(|| top.unwrap_or(0))),
    }
}

fn format(fields: &Map<String, Value>) -> Result<Format, ApiError> {
    let Some(value) = present(fields, "response_format") else { return Ok(Format::Text) };
    match value.get("type").and_then(Value::as_str) {
        Some("text") => Ok(Format::Text),
        Some("json_object") => Ok(Format::JsonObject),
        Some("json_schema") => match value.pointer("/json_schema/schema") {
            Some(schema) => Ok(Format::JsonSchema(schema.clone())),
            None => Err(ApiError::missing("response_format.json_schema.schema")),
        },
        _ => Err(ApiError::wrong_type("response_format", "an object with a known type", value)),
    }
}

fn stop(fields: &Map<String, Value>) -> Result<Vec<String>, ApiError> {
    let Some(value) = present(fields, "stop") else { return Ok(Vec::new()) };
    let wrong = || ApiError::wrong_type("stop", "a string or up to four of them", value);
    let texts = match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) if items.len() <= 4 => {
            let texts: Option<Vec<_>> =
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            texts.ok_or_else(wrong)?
        }
        _ => return Err(wrong()),
    };
    Ok(texts.into_iter().filter(|text| !text.is_empty()).collect())
}

/// One message, as far as the simulation cares.
struct Turn {
    role: String,
    text: String,
}

fn messages(fields: &Map<String, Value>) -> Result<Vec<Turn>, ApiError> {
    let value = fields.get("messages").ok_or_else(|| ApiError::missing("messages"))?;
    let list =
        value.as_array().ok_or_else(|| ApiError::wrong_type("messages", "an array", value))?;
    if list.is_empty() {
        return Err(ApiError::bad_value("messages", "it holds no message"));
    }
    list.iter().enumerate().map(|(index, message)| turn(index, message)).collect()
}

fn turn(index: usize, message: &Value) -> Result<Turn, ApiError> {
    let name = format!("messages[{index}]");
    let fields =
        message.as_object().ok_or_else(|| ApiError::wrong_type(&name, "an object", message))?;
    let role = fields.get("role").ok_or_else(|| ApiError::missing(&format!("{name}.role")))?;
    let role = match role.as_str() {
        Some(role) if ROLES.contains(&role) => role,
        _ => return Err(ApiError::bad_value(&format!("{name}.role"), "no such role")),
    };
    let text = content(&format!("{name}.content"), role, fields.get("content"))?;
    Ok(Turn { role: role.to_owned(), text })
}

/// The text of a message's content. Parts that are not text are accepted as they are: they count
/// through the stamp, which covers the whole request.
fn content(name: &str, role: &str, content: Option<&Value>) -> Result<String, ApiError> {
    match content {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            let mut text = String::new();
            for part in parts {
                match (part.get("type").and_then(Value::as_str), part.get("text")) {
                    (Some("text"), Some(Value::String(piece))) => text.push_str(piece),
                    (Some("image_url" | "input_audio" | "file" | "refusal"), _) => {}
                    _ => return Err(ApiError::bad_value(name, "a part of an unknown type")),
                }
            }
            Ok(text)
        }
        // An assistant turn that only called tools has no content.
        None | Some(Value::Null) if role == "assistant" => Ok(String::new()),
        None => Err(ApiError::missing(name)),
        Some(other) => Err(ApiError::wrong_type(name, "a string or an array of parts", other)),
    }
}
