//! Cohere's v2 chat.
//!
//! Source: Cohere API reference, "Chat" and "Chat with streaming" (v2).

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    Call, Dialect, ExactOnly, Listener, Prompt, Shape, Unread,
    conversation::{Conversation, Manner, Parts, Turn, members, model, number, shape, switch},
    dress::Marks,
    framing::{self, Framing},
    hearing::{self, Account, Finish, has, list_at, number_at, text_at},
    json::Json,
    oneshot::OneShot,
    sse,
};
use crate::fault::Fault;

const PARTS: Parts = Parts { text_types: &["text"], silent: &[] };

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Cohere;

/// Vectors.
pub(super) const EMBED: OneShot =
    OneShot { name: "cohere_embed", ends: &["/v2/embed", "/v1/embed"], said: "embeddings", error };

impl Dialect for Cohere {
    fn name(&self) -> &str {
        "cohere"
    }

    fn claims(&self, path: &str) -> bool {
        path.ends_with("/v2/chat")
    }

    fn read(&self, call: Call<'_>) -> Result<Prompt, Unread> {
        read(call)
    }

    fn listener(&self, shape: Shape) -> Box<dyn Listener> {
        match shape {
            Shape::Whole => {
                hearing::whole(hearing::json(|account, _, answer| add(account, answer)))
            }
            Shape::Stream { .. } | Shape::Array => hearing::stream(
                Framing::Sse,
                hearing::json(|account, _, event| add_event(account, event)),
            ),
        }
    }

    fn split(&self, whole: &Bytes) -> Option<Bytes> {
        split(whole)
    }

    fn join(&self, stream: &Bytes) -> Option<Bytes> {
        join(stream)
    }

    fn marks(&self) -> Marks<'_> {
        Marks {
            framing: Some(Framing::Sse),
            ids: vec!["/id"],
            counts: vec!["/usage", "/delta/usage"],
            ..Marks::default()
        }
    }

    fn error(&self, fault: &Fault) -> Bytes {
        error(fault)
    }

    /// The API ends a stream that failed with its last event, whose reason is `ERROR`.
    fn stream_error(&self, _: Shape, fault: &Fault, _: Option<u8>) -> Option<Bytes> {
        let end = json!({
            "type": "message-end",
            "delta": {"finish_reason": "ERROR", "error": fault.to_string()},
        });
        Some(sse::last_word_of("message-end", end.to_string().as_bytes()))
    }
}

/// `{"message"}`.
fn error(fault: &Fault) -> Bytes {
    Bytes::from(json!({"message": fault.to_string()}).to_string())
}

fn read(call: Call<'_>) -> Result<Prompt, Unread> {
    let request = Json::parse(call.body).map_err(|_| Unread::Unreadable)?;
    let shape = shape(&request, Shape::Whole)?;
    let Some(Json::List(messages)) = request.get("messages") else {
        return Err(Unread::Unreadable);
    };
    let (last, history) = messages.split_last().ok_or(Unread::Unreadable)?;
    let mut conversation = Conversation::new(call.path, call.rules);
    for (name, value) in members(&request)? {
        if name != "messages" {
            conversation.parameter(name, value);
        }
    }
    let is_user = |message: &Json<'_>| {
        let role = message.get("role").and_then(Json::text);
        let known = role.filter(|role| matches!(*role, "system" | "user" | "assistant" | "tool"));
        known.map(|role| role == "user").ok_or(Unread::Unreadable)
    };
    for message in history {
        is_user(message)?;
        conversation.message(message, "content", Turn::Past, PARTS)?;
    }
    let asks = is_user(last)?;
    conversation.message(last, "content", if asks { Turn::Last } else { Turn::Past }, PARTS)?;
    let exact_only = if switch(&request, "logprobs")? == Some(true) {
        Some(ExactOnly::Logprobs)
    } else {
        (!asks).then_some(ExactOnly::LastTurnNotUser)
    };
    let temperature = number(&request, "temperature");
    let manner = Manner { model: model(&request)?, temperature, exact_only };
    Ok(conversation.finish(shape, manner))
}

// === hearing ===

fn add(account: &mut Account, answer: &Value) {
    let Some(message) = answer.get("message").filter(|message| message.is_object()) else {
        account.unreadable = true;
        return;
    };
    for part in list_at(message, "/content") {
        account.choice(0).text.push_str(text_at(part, "/text"));
    }
    account.choice(0).says_something |= !list_at(message, "/tool_calls").is_empty();
    end(account, answer);
}

fn end(account: &mut Account, said: &Value) {
    account.failed |= said["finish_reason"] == "ERROR" || has(said, "error");
    account.choice(0).finish = finish(&said["finish_reason"]);
    let tokens = &said["usage"]["tokens"];
    account.count(number_at(tokens, "/input_tokens"), number_at(tokens, "/output_tokens"));
}

fn add_event(account: &mut Account, event: &Value) {
    match text_at(event, "/type") {
        "content-start" | "content-delta" => {
            account.choice(0).text.push_str(text_at(event, "/delta/message/content/text"));
        }
        "tool-call-start" => account.choice(0).says_something = true,
        "message-start" | "content-end" | "tool-plan-delta" | "tool-call-delta"
        | "tool-call-end" | "citation-start" | "citation-end" | "debug" => {}
        "message-end" => {
            end(account, &event["delta"]);
            account.done = true;
        }
        _ => account.unreadable = true,
    }
}

fn finish(reason: &Value) -> Option<Finish> {
    Some(match reason.as_str()? {
        "COMPLETE" | "STOP_SEQUENCE" | "TOOL_CALL" => Finish::Clean,
        "MAX_TOKENS" => Finish::Length,
        _ => Finish::Unknown,
    })
}

// === reshaping ===

fn join(body: &[u8]) -> Option<Bytes> {
    let mut whole = Map::new();
    let mut message = Map::new();
    let (mut content, mut calls, mut citations) = (Vec::new(), Vec::new(), Vec::new());
    for (_, mut event) in framing::events(Framing::Sse, body)? {
        let kind = text_at(&event, "/type").to_owned();
        if kind == "message-start" {
            whole.insert("id".into(), event.get("id")?.clone());
        }
        let mut delta = event.get_mut("delta").map(Value::take).unwrap_or_default();
        let said = delta.get_mut("message").map(Value::take).unwrap_or_default();
        match kind.as_str() {
            "message-start" => message = said.as_object()?.clone(),
            "content-start" => content.push(said.get("content")?.clone()),
            "content-delta" => {
                for name in ["text", "thinking"] {
                    append(content.last_mut()?, name, &said["content"][name])?;
                }
            }
            "tool-plan-delta" => {
                let plan = message.get("tool_plan").and_then(Value::as_str).unwrap_or_default();
                let plan = format!("{plan}{}", text_at(&said, "/tool_plan"));
                message.insert("tool_plan".into(), plan.into());
            }
            "tool-call-start" => calls.push(said.get("tool_calls")?.clone()),
            "tool-call-delta" => {
                let more = &said["tool_calls"]["function"]["arguments"];
                append(calls.last_mut()?.get_mut("function")?, "arguments", more)?;
            }
            "citation-start" => citations.push(said.get("citations")?.clone()),
            "message-end" => whole.extend(delta.as_object()?.clone()),
            _ => {}
        }
    }
    for (name, list) in [("content", content), ("tool_calls", calls), ("citations", citations)] {
        message.remove(name);
        if !list.is_empty() {
            message.insert(name.into(), Value::Array(list));
        }
    }
    if message.get("tool_plan").is_some_and(|plan| plan == "") {
        message.remove("tool_plan");
    }
    whole.insert("message".into(), Value::Object(message));
    Some(Bytes::from(Value::Object(whole).to_string()))
}

fn append(into: &mut Value, name: &str, more: &Value) -> Option<()> {
    let Some(more) = more.as_str() else { return Some(()) };
    let text = format!("{}{more}", text_at(into, &format!("/{name}")));
    into.as_object_mut()?.insert(name.into(), text.into());
    Some(())
}

fn split(body: &[u8]) -> Option<Bytes> {
    let mut whole: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let message = whole.remove("message")?;
    let mut out = Vec::with_capacity(body.len() * 2);
    let mut emit = |kind: &str, index: Option<usize>, said: Value| {
        let mut event = json!({"type": kind});
        if let Some(index) = index {
            event["index"] = index.into();
        }
        if !said.is_null() {
            event["delta"] = json!({"message": said});
        }
        sse::write_kind(&mut out, kind, event.to_string().as_bytes());
    };
    let begun = json!({
        "role": message.get("role")?, "content": [], "tool_plan": "", "tool_calls": [],
        "citations": [],
    });
    let start =
        json!({"type": "message-start", "id": whole.remove("id")?, "delta": {"message": begun}});
    let mut first = Vec::new();
    sse::write_kind(&mut first, "message-start", start.to_string().as_bytes());
    if let Some(plan) = message.get("tool_plan").filter(|plan| plan.is_string()) {
        emit("tool-plan-delta", None, json!({"tool_plan": plan}));
    }
    for (index, part) in list_at(&message, "/content").iter().enumerate() {
        let name = if part.get("thinking").is_some() { "thinking" } else { "text" };
        let text = part.get(name)?;
        let mut empty = part.clone();
        empty[name] = "".into();
        emit("content-start", Some(index), json!({"content": empty}));
        emit("content-delta", Some(index), json!({"content": {name: text}}));
        emit("content-end", Some(index), Value::Null);
    }
    for (index, call) in list_at(&message, "/tool_calls").iter().enumerate() {
        let mut empty = call.clone();
        let arguments = empty.get_mut("function")?.get_mut("arguments")?.take();
        empty["function"]["arguments"] = "".into();
        emit("tool-call-start", Some(index), json!({"tool_calls": empty}));
        let more = json!({"tool_calls": {"function": {"arguments": arguments}}});
        emit("tool-call-delta", Some(index), more);
        emit("tool-call-end", Some(index), Value::Null);
    }
    for (index, citation) in list_at(&message, "/citations").iter().enumerate() {
        emit("citation-start", Some(index), json!({"citations": citation}));
        emit("citation-end", Some(index), Value::Null);
    }
    let end = json!({"type": "message-end", "delta": whole});
    sse::write_kind(&mut out, "message-end", end.to_string().as_bytes());
    first.extend(out);
    Some(Bytes::from(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Answer, NotStorable, framing, trial};

    const EVENTS: Shape = Shape::Stream { usage: false };
    const BASE: &str = r#"{"model":"command","stream":true,"messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"hi"}]}]}"#;

    fn try_read(body: &str) -> Result<Prompt, Unread> {
        trial::read(&Cohere, "/v2/chat", "", body)
    }

    fn whole() -> Value {
        json!({
            "id": "c", "finish_reason": "TOOL_CALL",
            "message": {
                "role": "assistant", "tool_plan": "I will",
                "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hello"}],
                "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                "citations": [{"start": 0, "end": 5, "text": "Hello", "sources": []}],
            },
            "usage": {"billed_units": {"input_tokens": 1, "output_tokens": 1},
                      "tokens": {"input_tokens": 3, "output_tokens": 2}},
        })
    }

    fn heard(shape: Shape, body: &[u8]) -> Result<Answer, NotStorable> {
        trial::heard(&Cohere, shape, body)
    }

    fn streamed() -> Bytes {
        Cohere.reshape(Shape::Whole, &Bytes::from(whole().to_string()), EVENTS).unwrap()
    }

    #[test]
    fn requests_are_read() {
        let prompt = try_read(BASE).unwrap();
        assert_eq!((prompt.shape, prompt.question.as_deref()), (EVENTS, Ok("hi")));
        let tool = BASE.replace("\"user\"", "\"tool\"");
        assert_eq!(try_read(&tool).unwrap().question, Err(ExactOnly::LastTurnNotUser));
        for bad in ["{}", r#"{"message":"v1"}"#, &BASE.replace("\"user\"", "\"x\"")] {
            assert_eq!(try_read(bad).unwrap_err(), Unread::Unreadable, "{bad}");
        }
    }

    #[test]
    fn an_answer_survives_the_way_through_a_stream() {
        let answer = heard(EVENTS, &streamed()).unwrap();
        assert_eq!(answer, heard(Shape::Whole, whole().to_string().as_bytes()).unwrap());
        assert_eq!((answer.text.as_str(), answer.usage.unwrap().prompt), ("Hello", 3));
        let back = Cohere.reshape(EVENTS, &streamed(), Shape::Whole).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&back).unwrap(), whole());
    }

    #[test]
    fn what_must_not_be_kept_says_why() {
        let stream = String::from_utf8(streamed().to_vec()).unwrap();
        for (from, to, why) in [
            ("TOOL_CALL", "MAX_TOKENS", NotStorable::Length),
            ("TOOL_CALL", "ERROR", NotStorable::UpstreamError),
            ("TOOL_CALL", "TIMEOUT", NotStorable::UnknownFinish),
            ("\"content-end\"", "\"novelty\"", NotStorable::Unreadable),
            ("\"type\":\"message-end\"", "\"type\":\"debug\"", NotStorable::Incomplete),
        ] {
            assert_eq!(heard(EVENTS, stream.replace(from, to).as_bytes()), Err(why), "{to}");
        }
        assert_eq!(heard(Shape::Whole, b"{\"message\":\"x\"}"), Err(NotStorable::Unreadable));
        let last =
            Cohere.stream_error(EVENTS, &Fault::new(crate::fault::Kind::Cut, "x"), None).unwrap();
        assert_eq!(heard(EVENTS, &last), Err(NotStorable::UpstreamError));
    }

    proptest::proptest! {
        #[test]
        fn any_chunking_hears_the_same(cuts in proptest::collection::vec(0_usize..3000, 0..20)) {
            let stream = streamed();
            let mut ears = Cohere.listener(EVENTS);
            for chunk in framing::tests::chunked(&stream, &cuts) {
                ears.hear(chunk);
            }
            proptest::prop_assert_eq!(ears.finish(&stream), heard(EVENTS, &stream));
        }

        #[test]
        fn mutilated_input_never_panics(cut in 0_usize..900, junk in ".{0,8}") {
            for text in [BASE.to_owned(), whole().to_string(), String::from_utf8(streamed().to_vec()).unwrap()] {
                let mut text = text;
                let at = cut % text.len();
                text.insert_str(at, &junk);
                let _ = (try_read(&text), heard(EVENTS, text.as_bytes()));
                let body = Bytes::from(text);
                let _ = Cohere.reshape(EVENTS, &body, Shape::Whole);
                let _ = Cohere.reshape(Shape::Whole, &body, EVENTS);
            }
        }
    }
}
