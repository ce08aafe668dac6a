//! Text Generation Inference's own API: `/generate` and `/generate_stream`.
//!
//! The two paths are one question with one key. A whole answer becomes a stream only where it lists
//! its tokens (`details`): their numbers and probabilities are never made up. Source: TGI's OpenAPI
//! description ("Generate tokens", "Generate a stream of token").

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Call, Dialect, ExactOnly, Listener, Prompt, Shape, Unread,
    conversation::{Conversation, Manner, Turn, members, number, switch},
    dress::Marks,
    framing::{self, Framing},
    hearing::{self, Account, Finish, has, list_at, number_at, text_at},
    json::Json,
    sse,
};
use crate::fault::{Fault, Whose};

const STREAM: &str = "_stream";

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Tgi;

impl Dialect for Tgi {
    fn name(&self) -> &str {
        "tgi"
    }

    /// Ollama's `/api/generate` and Triton's `/v2/models/M/generate` are other APIs.
    fn claims(&self, path: &str) -> bool {
        let place = path.strip_suffix(STREAM).unwrap_or(path).strip_suffix("/generate");
        place.is_some_and(|place| !place.ends_with("/api") && !place.contains("/models/"))
    }

    fn read(&self, call: Call<'_>) -> Result<Prompt, Unread> {
        let request = Json::parse(call.body).map_err(|_| Unread::Unreadable)?;
        let (path, shape) = match call.path.strip_suffix(STREAM) {
            Some(path) => (path, Shape::Stream { usage: false }),
            None => (call.path, Shape::Whole),
        };
        let mut conversation = Conversation::new(path, call.rules);
        for (name, value) in members(&request)? {
            match (name.as_ref(), value) {
                ("inputs", Json::Text(text)) => conversation.text(text, Turn::Last),
                ("inputs", _) => return Err(Unread::Unreadable),
                _ => conversation.parameter(name, value),
            }
        }
        request.get("inputs").ok_or(Unread::Unreadable)?;
        let parameters = request.get("parameters").unwrap_or(&Json::Null);
        let exact_only = if number(parameters, "best_of").unwrap_or_default() > 1.0 {
            Some(ExactOnly::Choices)
        } else if number(parameters, "top_n_tokens").is_some()
            || switch(parameters, "decoder_input_details")? == Some(true)
        {
            Some(ExactOnly::Logprobs)
        } else {
            let full_text = switch(parameters, "return_full_text")? == Some(true);
            // The answer repeats the very words of its question.
            full_text.then_some(ExactOnly::NotAQuestion)
        };
        let temperature = number(parameters, "temperature");
        Ok(conversation.finish(shape, Manner { model: "", temperature, exact_only }))
    }

    fn listener(&self, shape: Shape) -> Box<dyn Listener> {
        match shape {
            Shape::Whole => hearing::whole(hearing::json(|account, _, answer| {
                // Some servers wrap the one answer into a list.
                let answer = answer.get(0).unwrap_or(answer);
                add(account, answer);
                account.choice(0).text = text_at(answer, "/generated_text").to_owned();
            })),
            Shape::Stream { .. } | Shape::Array => hearing::stream(
                Framing::Sse,
                hearing::json(|account, _, event| {
                    if !has(event, "error") && !has(event, "token") {
                        account.unreadable = true;
                    }
                    if has(event, "error") || has(event, "generated_text") {
                        add(account, event);
                        account.choice(0).text = text_at(event, "/generated_text").to_owned();
                        account.done = true;
                    }
                }),
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
            counts: vec!["/details/generated_tokens", "/details/input_length"],
            ..Marks::default()
        }
    }

    fn error(&self, fault: &Fault) -> Bytes {
        let kind = match fault.kind.whose() {
            Whose::Client => "validation",
            Whose::Upstream => "generation",
            Whose::Cache | Whose::Us => "overloaded",
        };
        Bytes::from(json!({"error": fault.to_string(), "error_type": kind}).to_string())
    }

    fn stream_error(&self, _: Shape, fault: &Fault, _: Option<u8>) -> Option<Bytes> {
        Some(sse::last_word(&self.error(fault)))
    }
}

/// What the end of an answer says.
fn add(account: &mut Account, end: &Value) {
    account.failed |= has(end, "error");
    account.unreadable |= !end["generated_text"].is_string();
    let details = &end["details"];
    let finish = match text_at(details, "/finish_reason") {
        // Without details there is no telling, and every repeat would end the same way.
        "" | "eos_token" | "stop_sequence" => Finish::Clean,
        "length" => Finish::Length,
        _ => Finish::Unknown,
    };
    account.choice(0).finish = Some(finish);
    account.count(number_at(details, "/input_length"), number_at(details, "/generated_tokens"));
}

fn join(body: &[u8]) -> Option<Bytes> {
    let events = framing::events(Framing::Sse, body)?;
    let (_, last) = events.last()?;
    let mut whole = json!({"generated_text": last.get("generated_text")?});
    if has(last, "details") {
        let tokens: Vec<_> = events.iter().map(|(_, event)| event["token"].clone()).collect();
        let mut details = last["details"].clone();
        details.as_object_mut()?.insert("prefill".into(), json!([]));
        details["tokens"] = Value::Array(tokens);
        whole["details"] = details;
    }
    Some(Bytes::from(whole.to_string()))
}

fn split(body: &[u8]) -> Option<Bytes> {
    let whole: Value = serde_json::from_slice(body).ok()?;
    let mut details = whole.get("details")?.clone();
    let tokens = list_at(&whole, "/details/tokens");
    let last = tokens.len().checked_sub(1)?;
    let members = details.as_object_mut()?;
    members.remove("tokens");
    members.remove("prefill");
    let mut out = Vec::with_capacity(body.len() * 2);
    for (index, token) in tokens.iter().enumerate() {
        let mut event = json!({
            "index": index + 1, "token": token, "generated_text": null, "details": null,
        });
        if index == last {
            event["generated_text"] = whole.get("generated_text")?.clone();
            event["details"] = details.clone();
        }
        sse::write(&mut out, event.to_string().as_bytes());
    }
    Some(Bytes::from(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Answer, NotStorable, framing, trial};

    const EVENTS: Shape = Shape::Stream { usage: false };

    fn try_read(path: &str, body: &str) -> Result<Prompt, Unread> {
        trial::read(&Tgi, path, "", body)
    }

    fn whole() -> Value {
        let token = |id: u64, text: &str| json!({"id": id, "text": text, "logprob": -0.5, "special": false});
        json!({"generated_text": "Hello", "details": {
            "finish_reason": "eos_token", "generated_tokens": 2, "input_length": 3, "seed": null,
            "prefill": [], "tokens": [token(1, "Hel"), token(2, "lo")],
        }})
    }

    fn heard(shape: Shape, body: &[u8]) -> Result<Answer, NotStorable> {
        trial::heard(&Tgi, shape, body)
    }

    fn streamed() -> Bytes {
        Tgi.reshape(Shape::Whole, &Bytes::from(whole().to_string()), EVENTS).unwrap()
    }

    #[test]
    fn both_paths_are_one_question() {
        let body = r#"{"inputs":"hi","parameters":{"temperature":0.5,"details":true}}"#;
        let (whole, stream) =
            (try_read("/generate", body).unwrap(), try_read("/generate_stream", body).unwrap());
        assert_eq!((whole.context, whole.turn), (stream.context, stream.turn));
        assert_eq!((whole.shape, stream.shape), (Shape::Whole, EVENTS));
        assert_eq!(whole.question.as_deref(), Ok("hi"));
        let full = r#"{"inputs":"hi","parameters":{"return_full_text":true}}"#;
        assert_eq!(try_read("/generate", full).unwrap().question, Err(ExactOnly::NotAQuestion));
        for bad in ["{}", "[]", r#"{"inputs":["a"]}"#, r#"{"inputs":null}"#] {
            assert_eq!(try_read("/generate", bad).unwrap_err(), Unread::Unreadable, "{bad}");
        }
    }

    #[test]
    fn an_answer_survives_the_way_through_a_stream() {
        let answer = heard(EVENTS, &streamed()).unwrap();
        assert_eq!(answer, heard(Shape::Whole, whole().to_string().as_bytes()).unwrap());
        assert_eq!((answer.text.as_str(), answer.usage.unwrap().completion), ("Hello", 2));
        let back = Tgi.reshape(EVENTS, &streamed(), Shape::Whole).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&back).unwrap(), whole());
        let bare = Bytes::from_static(b"{\"generated_text\":\"Hello\"}");
        assert_eq!(Tgi.reshape(Shape::Whole, &bare, EVENTS), None, "no token is made up");
    }

    #[test]
    fn what_must_not_be_kept_says_why() {
        let stream = String::from_utf8(streamed().to_vec()).unwrap();
        for (from, to, why) in [
            ("eos_token", "length", NotStorable::Length),
            ("eos_token", "novelty", NotStorable::UnknownFinish),
            ("\"token\"", "\"tokem\"", NotStorable::Unreadable),
            ("\"generated_text\":\"Hello\"", "\"generated_text\":null", NotStorable::Incomplete),
        ] {
            assert_eq!(heard(EVENTS, stream.replace(from, to).as_bytes()), Err(why), "{to}");
        }
        let last =
            Tgi.stream_error(EVENTS, &Fault::new(crate::fault::Kind::Cut, "x"), None).unwrap();
        assert_eq!(heard(EVENTS, &last), Err(NotStorable::UpstreamError));
        assert_eq!(heard(Shape::Whole, b"{}"), Err(NotStorable::Unreadable));
    }

    proptest::proptest! {
        #[test]
        fn any_chunking_hears_the_same(cuts in proptest::collection::vec(0_usize..900, 0..20)) {
            let stream = streamed();
            let mut ears = Tgi.listener(EVENTS);
            for chunk in framing::tests::chunked(&stream, &cuts) {
                ears.hear(chunk);
            }
            proptest::prop_assert_eq!(ears.finish(&stream), heard(EVENTS, &stream));
        }

        #[test]
        fn garbage_never_panics(text in "(data: |[\\[\\]{}\":,0-9a-z\n]){0,60}") {
            let _ = (try_read("/generate", &text), heard(EVENTS, text.as_bytes()));
            let body = Bytes::from(text);
            let _ = Tgi.reshape(EVENTS, &body, Shape::Whole);
            let _ = Tgi.reshape(Shape::Whole, &body, EVENTS);
        }
    }
}
