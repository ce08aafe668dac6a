//! Ollama's own API: `/api/chat` and `/api/generate`, a JSON document a line.
//!
//! Streams unless told not to. `keep_alive` says how long the model stays loaded, never what it
//! answers. Source: Ollama's API documentation ("Generate a completion", "Generate a chat
//! completion", "Embeddings").

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    Call, Dialect, ExactOnly, Listener, Prompt, Shape, Unread,
    conversation::{Conversation, Manner, Parts, Turn, members, model, number, shape},
    dress::Marks,
    framing::{self, Framing, ndjson},
    hearing::{self, Account, Finish, has, number_at, text_at},
    json::Json,
    oneshot::OneShot,
};
use crate::fault::Fault;

const PARTS: Parts = Parts { text_types: &["text"], silent: &[] };

/// One of the two calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ollama {
    /// `/api/chat`
    Chat,
    /// `/api/generate`
    Generate,
}

/// Vectors.
pub(super) const EMBED: OneShot =
    OneShot { name: "ollama_embed", ends: &["/api/embed"], said: "embeddings", error };

impl Dialect for Ollama {
    fn name(&self) -> &str {
        match self {
            Self::Chat => "ollama_chat",
            Self::Generate => "ollama_generate",
        }
    }

    fn claims(&self, path: &str) -> bool {
        path.ends_with(match self {
            Self::Chat => "/api/chat",
            Self::Generate => "/api/generate",
        })
    }

    fn read(&self, call: Call<'_>) -> Result<Prompt, Unread> {
        let request = Json::parse(call.body).map_err(|_| Unread::Unreadable)?;
        let shape = shape(&request, Shape::Stream { usage: false })?;
        let mut conversation = Conversation::new(call.path, call.rules);
        for (name, value) in members(&request)? {
            if !matches!(name.as_ref(), "messages" | "prompt" | "keep_alive") {
                conversation.parameter(name, value);
            }
        }
        let asks = match self {
            Self::Chat => messages(&mut conversation, &request)?,
            Self::Generate => {
                // Without one the model is only loaded.
                let prompt = request.get("prompt").filter(|prompt| prompt.text().is_some());
                conversation.content(prompt.ok_or(Unread::Unreadable)?, Turn::Last, PARTS)?;
                true
            }
        };
        let exact_only = if matches!(request.get("context"), Some(Json::List(_))) {
            Some(ExactOnly::Continued)
        } else if number(&request, "top_logprobs").is_some() {
            Some(ExactOnly::Logprobs)
        } else {
            (!asks).then_some(ExactOnly::LastTurnNotUser)
        };
        let options = request.get("options").unwrap_or(&Json::Null);
        let temperature = number(options, "temperature");
        let manner = Manner { model: model(&request)?, temperature, exact_only };
        Ok(conversation.finish(shape, manner))
    }

    fn listener(&self, shape: Shape) -> Box<dyn Listener> {
        let ears = hearing::json(|account, _, event| add(account, event));
        match shape {
            Shape::Whole => hearing::whole(ears),
            Shape::Stream { .. } | Shape::Array => hearing::stream(Framing::Ndjson, ears),
        }
    }

    fn split(&self, whole: &Bytes) -> Option<Bytes> {
        split(whole)
    }

    fn join(&self, stream: &Bytes) -> Option<Bytes> {
        join(stream)
    }

    fn content_type(&self, shape: Shape) -> &'static str {
        match shape {
            Shape::Whole | Shape::Array => "application/json; charset=utf-8",
            Shape::Stream { .. } => "application/x-ndjson",
        }
    }

    fn marks(&self) -> Marks<'_> {
        Marks {
            framing: Some(Framing::Ndjson),
            times: vec!["/created_at"],
            counts: vec!["/prompt_eval_count", "/eval_count"],
            ..Marks::default()
        }
    }

    fn error(&self, fault: &Fault) -> Bytes {
        error(fault)
    }

    /// A line with an error, after the end of one that the cut left open.
    fn stream_error(&self, _: Shape, fault: &Fault, last: Option<u8>) -> Option<Bytes> {
        Some(ndjson::last_word(&error(fault), last))
    }
}

/// `{"error": "message"}`.
fn error(fault: &Fault) -> Bytes {
    Bytes::from(json!({"error": fault.to_string()}).to_string())
}

/// Says whether the last turn is the user's.
fn messages(conversation: &mut Conversation<'_>, request: &Json<'_>) -> Result<bool, Unread> {
    let Some(Json::List(messages)) = request.get("messages") else {
        return Err(Unread::Unreadable);
    };
    // Without messages the model is only loaded.
    let (last, history) = messages.split_last().ok_or(Unread::Unreadable)?;
    let role = |message: &Json<'_>| {
        let role = message.get("role").and_then(Json::text);
        let known = role.filter(|role| matches!(*role, "system" | "user" | "assistant" | "tool"));
        known.map(|role| role == "user").ok_or(Unread::Unreadable)
    };
    for message in history {
        role(message)?;
        conversation.message(message, "content", Turn::Past, PARTS)?;
    }
    let asks = role(last)?;
    conversation.message(last, "content", if asks { Turn::Last } else { Turn::Past }, PARTS)?;
    Ok(asks)
}

/// A whole answer, or one line of it.
fn add(account: &mut Account, event: &Value) {
    if has(event, "error") {
        account.failed = true;
        account.done = true;
        return;
    }
    let heard = account.choice(0);
    heard.text.push_str(text_at(event, "/message/content"));
    heard.text.push_str(text_at(event, "/response"));
    heard.says_something |= !hearing::list_at(event, "/message/tool_calls").is_empty();
    let is_last = event["done"] == true;
    if is_last {
        heard.finish = Some(match text_at(event, "/done_reason") {
            // Older servers give no reason.
            "stop" | "" => Finish::Clean,
            "length" => Finish::Length,
            _ => Finish::Unknown,
        });
    }
    account.unreadable |= !event["done"].is_boolean();
    account.done |= is_last;
    account.count(number_at(event, "/prompt_eval_count"), number_at(event, "/eval_count"));
}

/// The last line with what all lines said.
fn join(body: &[u8]) -> Option<Bytes> {
    let mut whole = Map::new();
    let (mut texts, mut calls) = (Map::new(), Vec::new());
    for (_, event) in framing::events(Framing::Ndjson, body)? {
        let Value::Object(event) = event else { return None };
        let said = event.get("message").and_then(Value::as_object).unwrap_or(&event);
        for name in ["content", "thinking", "response"] {
            if let Some(Value::String(more)) = said.get(name) {
                let text = texts.entry(name).or_insert("".into());
                *text = format!("{}{more}", text.as_str()?).into();
            }
        }
        if let Some(Value::Array(more)) = said.get("tool_calls") {
            calls.extend(more.iter().cloned());
        }
        // A last line need not have a message.
        let message = event.get("message").or_else(|| whole.get("message")).cloned();
        whole = event;
        whole.extend(message.map(|message| ("message".to_owned(), message)));
    }
    let said = match whole.get_mut("message") {
        Some(message) => message.as_object_mut()?,
        None => &mut whole,
    };
    said.extend(texts);
    if !calls.is_empty() {
        said.insert("tool_calls".into(), Value::Array(calls));
    }
    Some(Bytes::from(Value::Object(whole).to_string()))
}

/// One line with all of the text, one that ends it.
fn split(body: &[u8]) -> Option<Bytes> {
    /// What only the last line has.
    const ENDS: [&str; 9] = [
        "done_reason",
        "context",
        "total_duration",
        "load_duration",
        "prompt_eval_count",
        "prompt_eval_duration",
        "eval_count",
        "eval_duration",
        "logprobs",
    ];
    let mut last: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let mut first = last.clone();
    first.insert("done".into(), false.into());
    first.retain(|name, _| !ENDS.contains(&name.as_str()));
    let said = match last.get_mut("message") {
        Some(message) => message.as_object_mut()?,
        None => &mut last,
    };
    for name in ["content", "response"] {
        if let Some(text) = said.get_mut(name) {
            *text = "".into();
        }
    }
    said.remove("thinking");
    said.remove("tool_calls");
    let lines = format!("{}\n{}\n", Value::Object(first), Value::Object(last));
    Some(Bytes::from(lines))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::wire::{NotStorable, Rules, framing};

    const STREAM: Shape = Shape::Stream { usage: false };
    const CHAT: &str = r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"hi"}]}"#;

    fn read(dialect: Ollama, body: &str) -> Result<Prompt, Unread> {
        let (headers, rules) = (HeaderMap::new(), Rules::default());
        let body = body.as_bytes();
        dialect.read(Call { path: "/api/x", query: "", headers: &headers, body, rules })
    }

    const LINES: &str = concat!(
        "{\"model\":\"m\",\"created_at\":\"t\",\"message\":{\"role\":\"assistant\",\"content\":\"Hel\",\"thinking\":\"h\"},\"done\":false}\n",
        "{\"model\":\"m\",\"created_at\":\"t\",\"message\":{\"role\":\"assistant\",\"content\":\"lo\",\"thinking\":\"m\"},\"done\":false}\n",
        "{\"model\":\"m\",\"created_at\":\"t\",\"message\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{}}}]},\"done\":false}\n",
        "{\"model\":\"m\",\"created_at\":\"t\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done_reason\":\"stop\",\"done\":true,\"total_duration\":5,\"prompt_eval_count\":3,\"eval_count\":2}\n",
    );

    fn heard(text: &str) -> Result<crate::wire::Answer, NotStorable> {
        let mut ears = Ollama::Chat.listener(STREAM);
        ears.hear(text.as_bytes());
        ears.finish(b"")
    }

    #[test]
    fn it_streams_unless_told_not_to() {
        let prompt = read(Ollama::Chat, CHAT).unwrap();
        assert_eq!((prompt.shape, prompt.question.as_deref()), (STREAM, Ok("hi")));
        let whole =
            read(Ollama::Generate, r#"{"prompt":"p","stream":false,"keep_alive":5}"#).unwrap();
        assert_eq!((whole.shape, whole.question.as_deref()), (Shape::Whole, Ok("p")));
        let again = r#"{"prompt":"p","stream":false,"context":[1]}"#;
        assert_eq!(read(Ollama::Generate, again).unwrap().question, Err(ExactOnly::Continued));
        for bad in ["{}", "[]", r#"{"messages":[]}"#, r#"{"messages":[{"role":"x","content":""}]}"#]
        {
            assert_eq!(read(Ollama::Chat, bad).unwrap_err(), Unread::Unreadable, "{bad}");
        }
    }

    #[test]
    fn lines_add_up_and_come_apart() {
        let joined = Ollama::Chat.reshape(STREAM, &Bytes::from(LINES), Shape::Whole).unwrap();
        let whole: Value = serde_json::from_slice(&joined).unwrap();
        assert_eq!(whole["message"]["content"], "Hello");
        assert_eq!(whole["message"]["thinking"], "hm");
        assert_eq!(whole["message"]["tool_calls"][0]["function"]["name"], "f");
        assert_eq!((&whole["done"], &whole["eval_count"]), (&json!(true), &json!(2)));
        assert_eq!(Ollama::Chat.listener(Shape::Whole).finish(&joined), heard(LINES));
        // Found by fuzzing: a last line without a message lost the text of those before it.
        let (said, last) = LINES.rsplit_once(r#""message""#).unwrap();
        let terse = Bytes::from(format!(r#"{said}"other"{last}"#));
        let joined_tersely = Ollama::Chat.reshape(STREAM, &terse, Shape::Whole).unwrap();
        let terse: Value = serde_json::from_slice(&joined_tersely).unwrap();
        assert_eq!(terse["message"]["content"], "Hello");
        let split = Ollama::Chat.reshape(Shape::Whole, &joined, STREAM).unwrap();
        let back = Ollama::Chat.reshape(STREAM, &split, Shape::Whole).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&back).unwrap(), whole);
        let generated = Bytes::from_static(
            br#"{"model":"m","response":"Hello","done":true,"done_reason":"stop","context":[1,2]}"#,
        );
        let split = Ollama::Generate.reshape(Shape::Whole, &generated, STREAM).unwrap();
        let back = Ollama::Generate.reshape(STREAM, &split, Shape::Whole).unwrap();
        let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        assert_eq!(value(&back), value(&generated));
    }

    #[test]
    fn what_must_not_be_kept_says_why() {
        assert_eq!(heard(LINES).unwrap().usage.unwrap().prompt, 3);
        for (text, why) in [
            (LINES.replace("\"done\":true", "\"done\":false"), NotStorable::Incomplete),
            (LINES.replace("\"stop\"", "\"length\""), NotStorable::Length),
            (LINES.replace("\"stop\"", "\"unload\""), NotStorable::UnknownFinish),
            (format!("{LINES}{{\"error\":\"x\"}}\n"), NotStorable::UpstreamError),
            (LINES.replace("\"done\":false", "\"done\":null"), NotStorable::Unreadable),
            (LINES.replace("{\"model\"", "\"model\""), NotStorable::Unreadable),
            (String::new(), NotStorable::Incomplete),
        ] {
            assert_eq!(heard(&text), Err(why), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_chunking_hears_the_same(cuts in proptest::collection::vec(0_usize..1000, 0..20)) {
            let mut ears = Ollama::Chat.listener(STREAM);
            for chunk in framing::tests::chunked(LINES.as_bytes(), &cuts) {
                ears.hear(chunk);
            }
            proptest::prop_assert_eq!(ears.finish(b""), heard(LINES));
        }

        #[test]
        fn mutilated_input_never_panics(cut in 0_usize..900, junk in ".{0,8}") {
            for text in [CHAT, LINES] {
                let mut text = text.to_owned();
                text.insert_str(cut % text.len(), &junk);
                let _ = (read(Ollama::Chat, &text), read(Ollama::Generate, &text), heard(&text));
                let body = Bytes::from(text);
                let _ = Ollama::Chat.reshape(STREAM, &body, Shape::Whole);
                let _ = Ollama::Chat.reshape(Shape::Whole, &body, STREAM);
            }
        }
    }
}
