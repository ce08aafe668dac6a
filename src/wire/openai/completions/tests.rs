use http::HeaderMap;

use super::*;
use crate::wire::{NotStorable, Rules};

const PLAIN: Shape = Shape::Stream { usage: false };
const COUNTED: Shape = Shape::Stream { usage: true };

fn read(body: &str) -> Result<Prompt, Unread> {
    let headers = HeaderMap::new();
    let body = body.as_bytes();
    let path = "/v1/completions";
    Completions.read(Call { path, query: "", headers: &headers, body, rules: Rules::default() })
}

#[test]
fn the_text_is_the_question() {
    let one = read(r#"{"model":"m","prompt":"Once upon"}"#).unwrap();
    assert_eq!(one.question.as_deref(), Ok("Once upon"));
    let listed = read(r#"{"model":"m","prompt":["Once upon"]}"#).unwrap();
    assert_eq!((one.context, one.turn), (listed.context, listed.turn));
    for (more, why) in [
        (r#""n":2"#, ExactOnly::Choices),
        (r#""best_of":2"#, ExactOnly::Choices),
        (r#""logprobs":0"#, ExactOnly::Logprobs),
        (r#""echo":true"#, ExactOnly::NotAQuestion),
    ] {
        let prompt = read(&format!(r#"{{"model":"m","prompt":"a",{more}}}"#)).unwrap();
        assert_eq!(prompt.question, Err(why));
    }
    for tokens in ["[1,2]", "[[1],[2]]", r#"["a","b"]"#, "[]"] {
        let prompt = read(&format!(r#"{{"model":"m","prompt":{tokens}}}"#)).unwrap();
        assert_eq!(prompt.question, Err(ExactOnly::Choices));
    }
    for bad in [r#"{"model":"m"}"#, r#"{"prompt":null}"#, r#"{"prompt":7}"#, r#"{"prompt":{}}"#] {
        assert_eq!(read(bad).unwrap_err(), Unread::Unreadable, "{bad}");
    }
}

#[test]
fn whole_and_streamed_are_one_answer() {
    let whole = json!({
        "id": "c", "object": "text_completion", "created": 1, "model": "m",
        "choices": [
            {"index": 0, "text": "Hello", "logprobs": null, "finish_reason": "stop"},
            {"index": 1, "text": "World", "logprobs": null, "finish_reason": "stop"},
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    });
    let body = Bytes::from(whole.to_string());
    assert_eq!(Completions.listener(Shape::Whole).finish(&body).unwrap().text, "Hello");
    let streamed = Completions.reshape(Shape::Whole, &body, COUNTED).unwrap();
    let mut ears = Completions.listener(COUNTED);
    ears.hear(&streamed);
    assert_eq!(ears.finish(&streamed).unwrap().usage.unwrap().completion, 2);
    let back = Completions.reshape(COUNTED, &streamed, Shape::Whole).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&back).unwrap(), whole);
    let plain = Completions.reshape(COUNTED, &streamed, PLAIN).unwrap();
    assert!(!String::from_utf8_lossy(&plain).contains("usage"));
}

#[test]
fn pieces_add_up() {
    let piece = |text: &str, finish: Value| json!({"id": "c", "object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": finish}]});
    let mut stream = Vec::new();
    for event in [piece("Hel", Value::Null), piece("lo", Value::Null), piece("", "stop".into())] {
        sse::write(&mut stream, event.to_string().as_bytes());
    }
    let mut cut = Completions.listener(PLAIN);
    cut.hear(&stream);
    assert_eq!(cut.finish(&stream), Err(NotStorable::Incomplete));
    sse::write(&mut stream, DONE);
    let joined = Completions.reshape(PLAIN, &Bytes::from(stream), Shape::Whole).unwrap();
    let joined: Value = serde_json::from_slice(&joined).unwrap();
    assert_eq!(joined["choices"][0]["text"], "Hello");
    assert_eq!(joined["choices"][0]["finish_reason"], "stop");
}
