//! llama.cpp's own API: `/completion`.
//!
//! Source: llama.cpp `tools/server/README.md`, "POST /completion". (`/completions` and
//! `/v1/completions` are read as OpenAI's; what answers there in this shape is not kept.)

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{
    Call, Dialect, ExactOnly, Listener, Prompt, Shape, Unread,
    conversation::{Conversation, Manner, Turn, members, model, number, shape},
    dress::Marks,
    framing::{self, Framing},
    hearing::{self, Account, Finish, has, number_at, text_at},
    json::Json,
    openai, sse,
};
use crate::fault::Fault;

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct LlamaCpp;

impl Dialect for LlamaCpp {
    fn name(&self) -> &str {
        "llamacpp"
    }

    fn claims(&self, path: &str) -> bool {
        path.ends_with("/completion")
    }

    fn read(&self, call: Call<'_>) -> Result<Prompt, Unread> {
        let request = Json::parse(call.body).map_err(|_| Unread::Unreadable)?;
        let shape = shape(&request, Shape::Whole)?;
        let mut conversation = Conversation::new(call.path, call.rules);
        for (name, value) in members(&request)? {
            match (name.as_ref(), value) {
                ("prompt", Json::Text(text)) => conversation.text(text, Turn::Last),
                _ => conversation.parameter(name, value),
            }
        }
        let exact_only = match request.get("prompt") {
            // Token numbers, several prompts, a mix of both.
            Some(Json::List(_) | Json::Object(_)) => Some(ExactOnly::Choices),
            Some(Json::Text(_)) if number(&request, "n_probs").unwrap_or_default() > 0.0 => {
                Some(ExactOnly::Logprobs)
            }
            Some(Json::Text(_)) => None,
            _ => return Err(Unread::Unreadable),
        };
        let temperature = number(&request, "temperature");
        let manner = Manner { model: model(&request)?, temperature, exact_only };
        Ok(conversation.finish(shape, manner))
    }

    fn listener(&self, shape: Shape) -> Box<dyn Listener> {
        let ears = hearing::json(add);
        match shape {
            Shape::Whole => hearing::whole(ears),
            Shape::Stream { .. } | Shape::Array => hearing::stream(Framing::Sse, ears),
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
            counts: vec!["/tokens_predicted", "/tokens_evaluated"],
            ..Marks::default()
        }
    }

    fn error(&self, fault: &Fault) -> Bytes {
        openai::error(fault)
    }

    fn stream_error(&self, _: Shape, fault: &Fault, _: Option<u8>) -> Option<Bytes> {
        Some(sse::last_word(&openai::error(fault)))
    }
}

fn add(account: &mut Account, kind: &[u8], event: &Value) {
    if kind == b"error" || has(event, "error") {
        account.failed = true;
        account.done = true;
        return;
    }
    let stop = event["stop"] == true;
    account.unreadable |= !event["content"].is_string() || !event["stop"].is_boolean();
    let heard = account.choice(0);
    heard.text.push_str(text_at(event, "/content"));
    if stop {
        let limited = event["stopped_limit"] == true || event["truncated"] == true;
        heard.finish = Some(match text_at(event, "/stop_type") {
            _ if limited => Finish::Length,
            // Older servers have a switch for each reason.
            "eos" | "word" | "" => Finish::Clean,
            "limit" => Finish::Length,
            _ => Finish::Unknown,
        });
    }
    account.done |= stop;
    account.count(number_at(event, "/tokens_evaluated"), number_at(event, "/tokens_predicted"));
}

/// The last event with what all events said.
fn join(body: &[u8]) -> Option<Bytes> {
    let (mut whole, mut text, mut tokens) = (Map::new(), String::new(), Vec::new());
    for (_, event) in framing::events(Framing::Sse, body)? {
        let Value::Object(event) = event else { return None };
        text.push_str(event.get("content")?.as_str()?);
        if let Some(Value::Array(more)) = event.get("tokens") {
            tokens.extend(more.iter().cloned());
        }
        whole = event;
    }
    whole.insert("content".into(), text.into());
    if whole.contains_key("tokens") {
        whole.insert("tokens".into(), Value::Array(tokens));
    }
    Some(Bytes::from(Value::Object(whole).to_string()))
}

fn split(body: &[u8]) -> Option<Bytes> {
    let mut last: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let mut first = json!({"content": last.get("content")?, "stop": false});
    for name in ["index", "id_slot", "multimodal"] {
        if let Some(value) = last.get(name) {
            first[name] = value.clone();
        }
    }
    if let Some(tokens) = last.get_mut("tokens") {
        first["tokens"] = std::mem::replace(tokens, json!([]));
    }
    last.insert("content".into(), "".into());
    let mut out = Vec::with_capacity(body.len() * 2);
    sse::write(&mut out, first.to_string().as_bytes());
    sse::write(&mut out, Value::Object(last).to_string().as_bytes());
    Some(Bytes::from(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Answer, NotStorable, framing, trial};

    const EVENTS: Shape = Shape::Stream { usage: false };

    fn try_read(body: &str) -> Result<Prompt, Unread> {
        trial::read(&LlamaCpp, "/completion", "", body)
    }

    fn whole() -> Value {
        json!({"index": 0, "content": "Hello", "tokens": [1, 2], "id_slot": 0, "stop": true,
            "model": "m", "tokens_predicted": 2, "tokens_evaluated": 3, "truncated": false,
            "stop_type": "eos", "stopping_word": "", "timings": {"predicted_n": 2}})
    }

    fn heard(shape: Shape, body: &[u8]) -> Result<Answer, NotStorable> {
        trial::heard(&LlamaCpp, shape, body)
    }

    fn streamed() -> Bytes {
        LlamaCpp.reshape(Shape::Whole, &Bytes::from(whole().to_string()), EVENTS).unwrap()
    }

    #[test]
    fn requests_are_read() {
        let prompt = try_read(r#"{"prompt":"hi","stream":true,"n_predict":5}"#).unwrap();
        assert_eq!((prompt.shape, prompt.question.as_deref()), (EVENTS, Ok("hi")));
        assert_eq!(try_read(r#"{"prompt":[1,2]}"#).unwrap().question, Err(ExactOnly::Choices));
        let probable = try_read(r#"{"prompt":"hi","n_probs":3}"#).unwrap();
        assert_eq!(probable.question, Err(ExactOnly::Logprobs));
        assert_eq!(try_read("{}").unwrap_err(), Unread::Unreadable);
    }

    #[test]
    fn an_answer_survives_the_way_through_a_stream() {
        let answer = heard(EVENTS, &streamed()).unwrap();
        assert_eq!(answer, heard(Shape::Whole, whole().to_string().as_bytes()).unwrap());
        assert_eq!((answer.text.as_str(), answer.usage.unwrap().prompt), ("Hello", 3));
        let back = LlamaCpp.reshape(EVENTS, &streamed(), Shape::Whole).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&back).unwrap(), whole());
    }

    #[test]
    fn what_must_not_be_kept_says_why() {
        let stream = String::from_utf8(streamed().to_vec()).unwrap();
        for (from, to, why) in [
            ("\"eos\"", "\"limit\"", NotStorable::Length),
            ("\"eos\"", "\"none\"", NotStorable::UnknownFinish),
            ("\"truncated\":false", "\"truncated\":true", NotStorable::Length),
            ("\"stop\":true", "\"stop\":false", NotStorable::Incomplete),
            ("\"content\":\"\"", "\"content\":null", NotStorable::Unreadable),
        ] {
            assert_eq!(heard(EVENTS, stream.replace(from, to).as_bytes()), Err(why), "{to}");
        }
        let last =
            LlamaCpp.stream_error(EVENTS, &Fault::new(crate::fault::Kind::Cut, "x"), None).unwrap();
        assert_eq!(heard(EVENTS, &last), Err(NotStorable::UpstreamError));
    }

    proptest::proptest! {
        #[test]
        fn any_chunking_hears_the_same(cuts in proptest::collection::vec(0_usize..900, 0..20)) {
            let stream = streamed();
            let mut ears = LlamaCpp.listener(EVENTS);
            for chunk in framing::tests::chunked(&stream, &cuts) {
                ears.hear(chunk);
            }
            proptest::prop_assert_eq!(ears.finish(&stream), heard(EVENTS, &stream));
        }

        #[test]
        fn garbage_never_panics(text in "(data: |[\\[\\]{}\":,0-9a-z\n]){0,60}") {
            let _ = (try_read(&text), heard(EVENTS, text.as_bytes()));
            let body = Bytes::from(text);
            let _ = LlamaCpp.reshape(EVENTS, &body, Shape::Whole);
            let _ = LlamaCpp.reshape(Shape::Whole, &body, EVENTS);
        }
    }
}
