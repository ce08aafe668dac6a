//! An API that we do not know, described by its operator: a `[dialect.NAME]` section.
//!
//! What names a place is a JSON pointer (RFC 6901). Everything in a request that no setting names
//! must match exactly. An answer is only replayed in the shape that it was recorded in: how one
//! becomes the other cannot be described in a few lines.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Call, Dialect, ExactOnly, Listener, Prompt, Shape, Unread,
    conversation::{Conversation, Manner, Parts, Turn, switch},
    dress::Marks,
    framing::{Event, Framing, ndjson},
    hearing::{self, Account, Finish},
    json::Json,
    sse,
};
use crate::fault::Fault;

const PARTS: Parts = Parts { text_types: &["text"], silent: &[] };

/// A described API.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Custom {
    /// Its name: that of its section.
    #[serde(skip)]
    pub name: String,
    /// Ends of the paths of its calls.
    pub paths: Vec<String>,
    /// Ends of the paths that ask the same question for a stream; in the order of `paths`.
    pub stream_paths: Vec<String>,
    /// Where the question stands, as a text.
    pub prompt: String,
    /// Or where a list of messages with `role` and `content` stands, whose last one is the question.
    pub messages: String,
    /// Where the model's name stands.
    pub model: String,
    /// Where the switch for a stream stands.
    pub stream: String,
    /// Whether a request without that switch is for a stream.
    pub streams_by_default: bool,
    /// Where the temperature stands.
    pub temperature: String,
    /// The only places beside question and history that must match; empty: all.
    pub scope: Vec<String>,
    /// Places that cannot change an answer.
    pub ignore: Vec<String>,
    /// How a stream is cut into events.
    pub framing: CustomFraming,
    /// Where a whole answer's text stands.
    pub answer: String,
    /// Where an event's piece of text stands.
    pub piece: String,
    /// An event that has something here is the last one...
    pub end: String,
    /// ... and so is one whose data is this (`[DONE]`).
    pub end_data: String,
    /// Where the reason of an end stands; empty: no answer says why it ended.
    pub finish: String,
    /// Reasons of a clean end.
    pub finish_clean: Vec<String>,
    /// Reasons that mean a token limit.
    pub finish_length: Vec<String>,
    /// Where the prompt's tokens are counted.
    pub prompt_tokens: String,
    /// Where the answer's tokens are counted.
    pub completion_tokens: String,
    /// What has something here is an error, and errors of ours are told here too.
    pub error: String,
}

/// How a stream is cut into events.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum CustomFraming {
    /// Server-sent events.
    #[default]
    Sse,
    /// A JSON document a line.
    Ndjson,
    /// One JSON list.
    Json,
}

impl Custom {
    /// What is wrong with it, with the setting's name.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        if self.paths.is_empty() {
            wrong.push(("paths", "is missing: how the paths of its calls end".to_owned()));
        }
        if self.prompt.is_empty() == self.messages.is_empty() {
            wrong.push((
                "prompt",
                "set one of `prompt` and `messages`: where the question stands".into(),
            ));
        }
        if self.answer.is_empty() {
            wrong.push(("answer", "is missing: where a whole answer's text stands".to_owned()));
        }
        if self.stream_paths.len() > self.paths.len() {
            wrong.push((
                "stream_paths",
                "each belongs to one of `paths`, in their order".to_owned(),
            ));
        }
        let streams = !self.stream_paths.is_empty() || !self.stream.is_empty();
        if streams && self.end.is_empty() && self.end_data.is_empty() {
            wrong.push(("end", "is missing: how the last event of a stream is known".to_owned()));
        }
        for (name, pointer) in [
            ("prompt", &self.prompt),
            ("messages", &self.messages),
            ("model", &self.model),
            ("stream", &self.stream),
            ("temperature", &self.temperature),
            ("answer", &self.answer),
            ("piece", &self.piece),
            ("end", &self.end),
            ("finish", &self.finish),
            ("prompt_tokens", &self.prompt_tokens),
            ("completion_tokens", &self.completion_tokens),
            ("error", &self.error),
        ]
        .into_iter()
        .chain(self.scope.iter().map(|one| ("scope", one)))
        .chain(self.ignore.iter().map(|one| ("ignore", one)))
        {
            if !pointer.is_empty() && !pointer.starts_with('/') {
                wrong.push((name, format!("expected a JSON pointer such as \"/{pointer}\"")));
            }
        }
        wrong
    }

    /// The path as it is for a whole answer, and whether it was one for a stream.
    fn canonical<'p>(&'p self, path: &'p str) -> (&'p str, bool) {
        let streamed = self.stream_paths.iter().position(|end| path.ends_with(end.as_str()));
        match streamed.and_then(|at| self.paths.get(at)) {
            Some(whole) => (whole, true),
            None => (path, false),
        }
    }

    fn framing(&self) -> Framing {
        match self.framing {
            CustomFraming::Sse => Framing::Sse,
            CustomFraming::Ndjson => Framing::Ndjson,
            CustomFraming::Json => Framing::JsonArray,
        }
    }
}

impl Dialect for Custom {
    fn name(&self) -> &str {
        &self.name
    }

    fn claims(&self, path: &str) -> bool {
        self.paths.iter().chain(&self.stream_paths).any(|end| path.ends_with(end.as_str()))
    }

    fn read(&self, call: Call<'_>) -> Result<Prompt, Unread> {
        let request = Json::parse(call.body).map_err(|_| Unread::Unreadable)?;
        let (path, streams) = self.canonical(call.path);
        let shape = if streams || self.switched(&request)? {
            Shape::Stream { usage: false }
        } else {
            Shape::Whole
        };
        let conversation = Conversation::new(path, call.rules);
        let mut walk = Walk { custom: self, conversation, asks: None };
        walk.value(&request, &mut String::new())?;
        let Walk { conversation, asks, .. } = walk;
        let exact_only = match asks {
            None => return Err(Unread::Unreadable),
            Some(true) => None,
            Some(false) => Some(ExactOnly::LastTurnNotUser),
        };
        let model = request.pointer(&self.model).and_then(Json::text).unwrap_or_default();
        let temperature = request.pointer(&self.temperature).and_then(Json::number);
        Ok(conversation.finish(shape, Manner { model, temperature, exact_only }))
    }

    fn listener(&self, shape: Shape) -> Box<dyn Listener> {
        let custom = self.clone();
        match shape {
            Shape::Whole => hearing::whole(hearing::json(move |account, _, answer| {
                custom.add_end(account, answer);
                match at(answer, &custom.answer).and_then(Value::as_str) {
                    Some(text) => account.choice(0).text.push_str(text),
                    None => account.unreadable = true,
                }
            })),
            Shape::Stream { .. } | Shape::Array => {
                hearing::stream(self.framing(), move |account: &mut Account, event: Event<'_>| {
                    custom.add_event(account, event);
                })
            }
        }
    }

    fn content_type(&self, shape: Shape) -> &'static str {
        match (shape, self.framing) {
            (Shape::Stream { .. }, CustomFraming::Sse) => "text/event-stream",
            (Shape::Stream { .. }, CustomFraming::Ndjson) => "application/x-ndjson",
            _ => "application/json",
        }
    }

    fn marks(&self) -> Marks<'_> {
        let counts = [&self.prompt_tokens, &self.completion_tokens].into_iter();
        let counts = counts.filter(|place| !place.is_empty()).map(String::as_str).collect();
        Marks { framing: Some(self.framing()), counts, ..Marks::default() }
    }

    fn error(&self, fault: &Fault) -> Bytes {
        let mut told = json!(fault.to_string());
        let place = if self.error.is_empty() { "/error" } else { &self.error };
        for name in place.rsplit('/').filter(|name| !name.is_empty()) {
            told = json!({name: told});
        }
        Bytes::from(told.to_string())
    }

    fn stream_error(&self, _: Shape, fault: &Fault, last: Option<u8>) -> Option<Bytes> {
        match self.framing {
            CustomFraming::Sse => Some(sse::last_word(&self.error(fault))),
            CustomFraming::Ndjson => Some(ndjson::last_word(&self.error(fault), last)),
            CustomFraming::Json => None,
        }
    }
}

// === reading ===

struct Walk<'c> {
    custom: &'c Custom,
    conversation: Conversation<'c>,
    /// Whether the last turn is the user's, once it was found.
    asks: Option<bool>,
}

impl Walk<'_> {
    fn value(&mut self, value: &Json<'_>, place: &mut String) -> Result<(), Unread> {
        let custom = self.custom;
        let is = |pointer: &String| !pointer.is_empty() && *pointer == *place;
        if is(&custom.stream) || custom.ignore.iter().any(is) {
            return Ok(());
        }
        if is(&custom.prompt) {
            let text = value.text().ok_or(Unread::Unreadable)?;
            self.conversation.text(text, Turn::Last);
            self.asks = Some(true);
            return Ok(());
        }
        if is(&custom.messages) {
            return self.messages(value);
        }
        if let Json::Object(members) = value
            && custom.names_inside(place)
        {
            self.conversation.mark(b'O', place.as_bytes());
            for (name, value) in members {
                let length = place.len();
                place.push('/');
                place.push_str(&name.replace('~', "~0").replace('/', "~1"));
                self.value(value, place)?;
                place.truncate(length);
            }
            return Ok(());
        }
        let in_scope = |scope: &String| place.starts_with(scope.as_str());
        if custom.scope.is_empty() || custom.scope.iter().any(in_scope) {
            self.conversation.member(place, value);
        }
        Ok(())
    }

    fn messages(&mut self, list: &Json<'_>) -> Result<(), Unread> {
        let Json::List(messages) = list else { return Err(Unread::Unreadable) };
        let (last, history) = messages.split_last().ok_or(Unread::Unreadable)?;
        for message in history {
            self.conversation.message(message, "content", Turn::Past, PARTS)?;
        }
        let asks = last.get("role").and_then(Json::text) == Some("user");
        let turn = if asks { Turn::Last } else { Turn::Past };
        self.conversation.message(last, "content", turn, PARTS)?;
        self.asks = Some(asks);
        Ok(())
    }
}

impl Custom {
    /// Does a setting name a place inside of this one?
    fn names_inside(&self, place: &str) -> bool {
        let inside = |pointer: &String| {
            pointer.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'))
        };
        [&self.prompt, &self.messages, &self.stream].into_iter().any(inside)
            || self.ignore.iter().chain(&self.scope).any(inside)
    }

    fn switched(&self, request: &Json<'_>) -> Result<bool, Unread> {
        let Some((place, name)) = self.stream.rsplit_once('/') else { return Ok(false) };
        let on = request.pointer(place).map(|of| switch(of, name)).transpose()?.flatten();
        Ok(on.unwrap_or(self.streams_by_default))
    }

    // === hearing ===

    fn add_event(&self, account: &mut Account, event: Event<'_>) {
        if !self.end_data.is_empty() && event.data == self.end_data.as_bytes() {
            account.done = true;
            account.choice(0).finish.get_or_insert(Finish::Clean);
            return;
        }
        let Ok(value) = serde_json::from_slice::<Value>(event.data) else {
            account.unreadable = true;
            return;
        };
        let piece = at(&value, &self.piece).and_then(Value::as_str).unwrap_or_default();
        account.choice(0).text.push_str(piece);
        let is_last = !self.end.is_empty() && at(&value, &self.end).is_some();
        if is_last || at(&value, &self.error).is_some() {
            self.add_end(account, &value);
            account.done = true;
        } else {
            self.add_finish(account, &value);
        }
    }

    fn add_end(&self, account: &mut Account, value: &Value) {
        account.failed |= at(value, &self.error).is_some();
        self.add_finish(account, value);
        account.choice(0).finish.get_or_insert(Finish::Clean);
        let count = |place: &String| at(value, place).and_then(Value::as_u64);
        account.count(count(&self.prompt_tokens), count(&self.completion_tokens));
    }

    fn add_finish(&self, account: &mut Account, value: &Value) {
        let Some(reason) = at(value, &self.finish).and_then(Value::as_str) else { return };
        let among = |list: &Vec<String>| list.iter().any(|one| one == reason);
        account.choice(0).finish = Some(if among(&self.finish_clean) {
            Finish::Clean
        } else if among(&self.finish_length) {
            Finish::Length
        } else {
            Finish::Unknown
        });
    }
}

/// What stands at a place, if that is named and there is something but null.
fn at<'v>(value: &'v Value, place: &str) -> Option<&'v Value> {
    if place.is_empty() {
        return None;
    }
    value.pointer(place).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests;
