//! The other APIs that the server speaks: one file each. A request becomes a chat, the chat's answer
//! becomes what that API would say.

mod anthropic;
mod bedrock;
mod cohere;
mod gemini;
mod llamacpp;
mod ollama;
mod responses_api;
mod tgi;

use bytes::Bytes;
use http::{Response, StatusCode, Uri};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};

use crate::{
    api_error::ApiError,
    ask::{Ask, Delivery},
    paced::Paced,
    render::Frame,
    reply::{self, Finish, Token},
    responses::{self, Body},
    script::Ending,
    server::Settings,
    stamp::Stamp,
    stats::{self, Call},
};

/// One API.
pub(crate) trait Api: Sync {
    /// The request as a chat: `model`, `messages`, `stream`, perhaps `tools`.
    fn chat(&self, uri: &Uri, body: &Value) -> Result<Map<String, Value>, ApiError>;
    /// The answer in one body.
    fn whole(&self, told: &Told) -> Value;
    /// The answer as it grows.
    fn frames(&self, told: &Told) -> Vec<Frame>;
    /// The content type of the latter.
    fn kind(&self) -> &'static str {
        "text/event-stream"
    }
}

/// What is to be said.
pub(crate) struct Told {
    /// The model's name.
    pub(crate) model: String,
    /// New for every answer, hexadecimal.
    pub(crate) id: String,
    /// Unix seconds.
    pub(crate) created: u64,
    /// The text's pieces.
    pub(crate) words: Vec<String>,
    /// A tool to call instead: id, name, arguments.
    pub(crate) call: Option<(String, String, Value)>,
    /// Its token limit cut it off.
    pub(crate) cut_off: bool,
    /// Words of the prompt.
    pub(crate) prompt_tokens: usize,
    /// Words of the answer.
    pub(crate) completion_tokens: usize,
    /// The target's query.
    pub(crate) query: String,
    /// The request.
    pub(crate) asked: Value,
}

impl Told {
    /// All of the text.
    pub(crate) fn text(&self) -> String {
        self.words.concat()
    }
}

/// The API that answers at this path.
pub(crate) fn at(path: &str) -> Option<&'static dyn Api> {
    Some(match path {
        "/v1/messages" => &anthropic::Anthropic,
        "/v1/responses" => &responses_api::Responses,
        "/api/chat" => &ollama::Chat,
        "/api/generate" => &ollama::Generate,
        "/v2/chat" => &cohere::Cohere,
        "/generate" | "/generate_stream" => &tgi::Tgi,
        "/completion" => &llamacpp::LlamaCpp,
        path if path.ends_with("/converse") || path.ends_with("/converse-stream") => {
            &bedrock::Bedrock
        }
        path if path.ends_with("GenerateContent") || path.ends_with(":generateContent") => {
            &gemini::Gemini
        }
        _ => return None,
    })
}

/// Answers a request of one of these APIs. A refusal comes back with the call.
pub(crate) async fn generate(
    api: &dyn Api,
    uri: &Uri,
    body: &Value,
    credential: &str,
    settings: &Settings,
    call: Call,
) -> Result<Response<Body>, (ApiError, Call)> {
    let started = Instant::now();
    let asked = api.chat(uri, body).and_then(|chat| Ask::parse(&Value::Object(chat)));
    let ask = match asked {
        Ok(ask) => ask,
        Err(error) => return Err((error, call)),
    };
    if let Some(status) = ask.script.fail {
        return Err((ApiError::provoked(status), call));
    }
    let told = told(&ask, uri, body, &Stamp::of(body, credential), settings);
    let pace = settings.pace.adjusted(&ask.script);
    let steps = told.words.len();
    if ask.delivery == Delivery::Whole {
        sleep_until(started + pace.due(steps, ask.script.stall)).await;
        let bytes = Bytes::from(api.whole(&told).to_string());
        let body = match ask.script.ending {
            Ending::Cut(_) => Paced::broken(&bytes, call),
            _ => Paced::whole(bytes, Some(call)),
        };
        return Ok(responses::response(StatusCode::OK, "application/json", None, body));
    }
    let mut frames = api.frames(&told);
    if let Ending::Cut(after) | Ending::SseError(after) = ask.script.ending {
        frames.retain(|frame| frame.step < after);
    }
    let mut body = Paced::stream(frames, pace, ask.script.stall, started, call);
    if ask.script.ending != Ending::Complete {
        body = body.then_break();
    }
    Ok(responses::response(StatusCode::OK, api.kind(), None, body))
}

fn told(ask: &Ask, uri: &Uri, body: &Value, stamp: &Stamp, settings: &Settings) -> Told {
    let mut words = Vec::new();
    let mut call: Option<(String, String, String)> = None;
    let choice = reply::compose(ask, stamp, settings.tokens).into_iter().next();
    let cut_off = choice.as_ref().is_some_and(|choice| choice.finish == Finish::Length);
    for token in choice.into_iter().flat_map(|choice| choice.tokens) {
        match (token, &mut call) {
            (Token::Text(text), _) => words.push(text),
            (Token::Call { id, name, .. }, call) => *call = Some((id, name, String::new())),
            (Token::Arguments { piece, .. }, Some((_, _, arguments))) => arguments.push_str(&piece),
            (Token::Arguments { .. }, None) => {}
        }
    }
    let mut random = [0; 8];
    // Without randomness the id is the clock alone, which is good enough for a simulation.
    let _ = getrandom::fill(&mut random);
    let now = stats::now();
    Told {
        model: ask.model.clone(),
        id: format!("{:016x}{:06x}", u64::from_be_bytes(random), now.subsec_micros()),
        created: now.as_secs(),
        completion_tokens: words.len().max(1),
        words,
        call: call
            .map(|(id, name, text)| (id, name, serde_json::from_str(&text).unwrap_or_default())),
        cut_off,
        prompt_tokens: ask.prompt_tokens,
        query: uri.query().unwrap_or_default().to_owned(),
        asked: body.clone(),
    }
}

/// An event with its kind.
fn named(step: usize, event: &Value) -> Frame {
    let kind = event["type"].as_str().unwrap_or_default();
    Frame { step, bytes: format!("event: {kind}\ndata: {event}\n\n").into() }
}

/// A chat of these parts; tools in OpenAI's shape.
fn chat(
    model: &Value,
    messages: Vec<Value>,
    stream: bool,
    tools: Vec<Value>,
) -> Map<String, Value> {
    let mut chat = Map::new();
    chat.insert("model".into(), model.clone());
    chat.insert("messages".into(), messages.into());
    chat.insert("stream".into(), stream.into());
    if !tools.is_empty() {
        chat.insert("tools".into(), tools.into());
    }
    chat
}

/// A message of the chat.
fn message(role: &str, text: &str) -> Value {
    json!({"role": role, "content": text})
}

/// A tool in OpenAI's shape.
fn tool(name: &Value, parameters: &Value) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": parameters}})
}

/// The texts of a content that is a string or a list of parts with `text`.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().map(|part| match &part["content"] {
                Value::Null => part["text"].as_str().unwrap_or_default().to_owned(),
                nested => text_of(nested),
            });
            texts.collect()
        }
        _ => String::new(),
    }
}

/// A list's elements, none where there is no list.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Messages whose content is a string or parts; a tool's result counts as the tool's turn.
fn turns(messages: &Value) -> Result<Vec<Value>, ApiError> {
    let messages = messages.as_array().ok_or_else(|| ApiError::missing("messages"))?;
    let turn = |one: &Value| {
        let role = one["role"].as_str().unwrap_or("user");
        let result = list(&one["content"]).iter().any(|part| part["type"] == "tool_result");
        message(if result { "tool" } else { role }, &text_of(&one["content"]))
    };
    Ok(messages.iter().map(turn).collect())
}
