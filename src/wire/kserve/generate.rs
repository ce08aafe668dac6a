//! Triton's generate extension: `/v2/models/M[/versions/V]/generate` and `.../generate_stream`.
//!
//! `text_input` (and what `cache.text_inputs` names) is the question. A stream has no end mark but
//! its clean end, and whether a later event repeats an earlier one's text is the model's affair: only
//! a stream of one event and a whole answer are the same.

use bytes::Bytes;
use serde_json::Value;

use super::{
    super::{
        Call, Dialect, ExactOnly, Listener, Prompt, Shape, Unread,
        conversation::{Conversation, Manner, Turn, members, number},
        framing::{self, Framing},
        hearing::{self, Account, Finish, has, text_at},
        json::Json,
        sse,
    },
    error, model,
};
use crate::fault::Fault;

/// What the text backends (vLLM, TensorRT-LLM) call their prompt.
const TEXT_INPUT: &str = "text_input";

/// The dialect.
#[derive(Clone, Copy, Debug)]
pub struct Generate;

impl Dialect for Generate {
    fn name(&self) -> &str {
        "triton_generate"
    }

    fn claims(&self, path: &str) -> bool {
        model(path, "generate").or_else(|| model(path, "generate_stream")).is_some()
    }

    fn read(&self, call: Call<'_>) -> Result<Prompt, Unread> {
        let request = Json::parse(call.body).map_err(|_| Unread::Unreadable)?;
        let (path, shape) = match call.path.strip_suffix("_stream") {
            Some(path) => (path, Shape::Stream { usage: false }),
            None => (call.path, Shape::Whole),
        };
        let is_text =
            |name: &str| name == TEXT_INPUT || call.rules.text_inputs.iter().any(|one| one == name);
        let mut conversation = Conversation::new(path, call.rules);
        let mut texts = 0;
        for (name, value) in members(&request)? {
            // Some clients say here too what the path says.
            match value {
                _ if name == "stream" => {}
                Json::Text(text) if is_text(name) => {
                    conversation.mark(b'I', name.as_bytes());
                    conversation.text(text, Turn::Last);
                    texts += 1;
                }
                _ => conversation.member(name, value),
            }
        }
        let parameters = request.get("parameters").unwrap_or(&Json::Null);
        let temperature =
            number(&request, "temperature").or_else(|| number(parameters, "temperature"));
        let exact_only = (texts != 1).then_some(ExactOnly::NotAQuestion);
        let model = model(path, "generate").unwrap_or_default();
        Ok(conversation.finish(shape, Manner { model, temperature, exact_only }))
    }

    fn listener(&self, shape: Shape) -> Box<dyn Listener> {
        let ears = hearing::json(|account, _, event| add(account, event));
        match shape {
            Shape::Whole => hearing::whole(ears),
            Shape::Stream { .. } | Shape::Array => hearing::stream(Framing::Sse, ears),
        }
    }

    fn reshape(&self, stored: Shape, body: &Bytes, wanted: Shape) -> Option<Bytes> {
        match (stored, wanted) {
            (Shape::Whole, Shape::Stream { .. }) => {
                let mut out = Vec::with_capacity(body.len() + 8);
                sse::write(&mut out, body.trim_ascii());
                Some(Bytes::from(out))
            }
            (Shape::Stream { .. }, Shape::Whole) => match &framing::events(Framing::Sse, body)?[..]
            {
                [(_, only)] => Some(Bytes::from(only.to_string())),
                _ => None,
            },
            (stored, wanted) => (stored == wanted).then(|| body.clone()),
        }
    }

    fn error(&self, fault: &Fault) -> Bytes {
        error(fault)
    }

    fn stream_error(&self, _: Shape, fault: &Fault, _: Option<u8>) -> Option<Bytes> {
        Some(sse::last_word(&error(fault)))
    }
}

fn add(account: &mut Account, event: &Value) {
    account.failed |= has(event, "error");
    account.unreadable |= !event.is_object();
    let heard = account.choice(0);
    heard.text.push_str(text_at(event, "/text_output"));
    heard.says_something |= event.as_object().is_some_and(|members| {
        members.keys().any(|name| {
            !matches!(
                name.as_str(),
                "model_name" | "model_version" | "id" | "text_output" | "error"
            )
        })
    });
    heard.finish = Some(Finish::Clean);
    account.done = true;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Answer, NotStorable, trial};

    const EVENTS: Shape = Shape::Stream { usage: false };

    fn try_read(path: &str, body: &str) -> Result<Prompt, Unread> {
        trial::read(&Generate, path, "", body)
    }

    fn heard(shape: Shape, body: &[u8]) -> Result<Answer, NotStorable> {
        trial::heard(&Generate, shape, body)
    }

    #[test]
    fn both_paths_are_one_question() {
        let body = r#"{"text_input":"hi","parameters":{"temperature":0.5},"max_tokens":5}"#;
        let whole = try_read("/v2/models/m/generate", body).unwrap();
        let stream = try_read("/v2/models/m/generate_stream", body).unwrap();
        assert_eq!((whole.context, whole.turn), (stream.context, stream.turn));
        assert_eq!((whole.shape, stream.shape), (Shape::Whole, EVENTS));
        assert_eq!((&*whole.model, whole.question.as_deref()), ("m", Ok("hi")));
        let other = body.replace("\"max_tokens\":5", "\"max_tokens\":6");
        assert_ne!(try_read("/v2/models/m/generate", &other).unwrap().context, whole.context);
        let none = try_read("/v2/models/m/generate", r#"{"X":[1,2]}"#).unwrap();
        assert_eq!(none.question, Err(ExactOnly::NotAQuestion));
        assert_eq!(try_read("/v2/models/m/generate", "[]").unwrap_err(), Unread::Unreadable);
    }

    #[test]
    fn one_event_and_a_body_are_the_same() {
        let body = Bytes::from_static(b"{\"model_name\":\"m\",\"text_output\":\"Hello\"}");
        assert_eq!(heard(Shape::Whole, &body).unwrap().text, "Hello");
        let stream = Generate.reshape(Shape::Whole, &body, EVENTS).unwrap();
        assert_eq!(heard(EVENTS, &stream).unwrap().text, "Hello");
        assert_eq!(Generate.reshape(EVENTS, &stream, Shape::Whole).unwrap(), body);
        let twice = Bytes::from([&stream[..], &stream[..]].concat());
        assert_eq!(Generate.reshape(EVENTS, &twice, Shape::Whole), None);
    }

    #[test]
    fn what_must_not_be_kept_says_why() {
        assert_eq!(heard(Shape::Whole, b"{\"error\":\"x\"}"), Err(NotStorable::UpstreamError));
        assert_eq!(heard(Shape::Whole, b"{\"model_name\":\"m\"}"), Err(NotStorable::Empty));
        assert_eq!(heard(Shape::Whole, b"<"), Err(NotStorable::Unreadable));
        assert_eq!(heard(EVENTS, b""), Err(NotStorable::Incomplete));
        let last =
            Generate.stream_error(EVENTS, &Fault::new(crate::fault::Kind::Cut, "x"), None).unwrap();
        assert_eq!(heard(EVENTS, &last), Err(NotStorable::UpstreamError));
    }

    proptest::proptest! {
        #[test]
        fn any_chunking_hears_the_same(cuts in proptest::collection::vec(0_usize..120, 0..20)) {
            let stream = b"data: {\"text_output\":\"Hel\"}\n\ndata: {\"text_output\":\"lo\",\"x\":[1]}\n\n";
            let mut ears = Generate.listener(EVENTS);
            for chunk in framing::tests::chunked(stream, &cuts) {
                ears.hear(chunk);
            }
            proptest::prop_assert_eq!(ears.finish(stream), heard(EVENTS, stream));
        }

        #[test]
        fn garbage_never_panics(text in "(data: |[\\[\\]{}\":,0-9a-z\n]){0,60}") {
            let _ = (try_read("/v2/models/m/generate", &text), heard(EVENTS, text.as_bytes()));
            let body = Bytes::from(text);
            let _ = Generate.reshape(EVENTS, &body, Shape::Whole);
            let _ = Generate.reshape(Shape::Whole, &body, EVENTS);
        }
    }
}
