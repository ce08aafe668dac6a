use http::HeaderMap;

use super::*;
use crate::wire::{NotStorable, Rules, framing};

const STREAM: Shape = Shape::Stream { usage: false };

fn read(body: &str) -> Result<Prompt, Unread> {
    let headers = HeaderMap::new();
    let ignored = ["stream", "store", "user", "metadata"].map(str::to_owned);
    let rules = Rules { ignored: &ignored, ..Rules::default() };
    let body = body.as_bytes();
    Responses.read(Call { path: "/v1/responses", query: "", headers: &headers, body, rules })
}

fn question(fields: &str) -> Result<String, ExactOnly> {
    let prompt = read(&format!(r#"{{"model":"m",{fields}}}"#)).unwrap();
    prompt.question.map(|text| text.to_string())
}

fn whole() -> Value {
    json!({
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed",
        "error": null, "incomplete_details": null, "model": "m",
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
             "content": [{"type": "output_text", "text": "Hello", "annotations": [{"type": "url_citation"}]}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}",
             "status": "completed"},
        ],
        "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
    })
}

fn heard(body: &Value) -> Result<crate::wire::Answer, NotStorable> {
    Responses.listener(Shape::Whole).finish(body.to_string().as_bytes())
}

#[test]
fn the_last_user_turn_is_the_question() {
    assert_eq!(question(r#""input":"hi""#).unwrap(), "hi");
    let items = r#""input":[{"role":"user","content":"a"},{"type":"reasoning","id":"r"},
        {"type":"message","role":"user","content":[{"type":"input_text","text":"b"}]}]"#;
    assert_eq!(question(items).unwrap(), "b");
    let result = r#""input":[{"role":"user","content":"a"},
        {"type":"function_call_output","call_id":"c","output":"5"}]"#;
    assert_eq!(question(result), Err(ExactOnly::LastTurnNotUser));
}

#[test]
fn state_is_decided_on_purpose() {
    let continued = r#""input":"hi","previous_response_id":"resp_0""#;
    assert_eq!(question(continued), Err(ExactOnly::Continued));
    for more in
        [r#""conversation":"conv_1""#, r#""conversation":{"id":"c"}"#, r#""background":true"#]
    {
        let body = format!(r#"{{"model":"m","input":"hi",{more}}}"#);
        assert_eq!(read(&body).unwrap_err(), Unread::Stateful, "{more}");
    }
    let server = r#""input":"hi","tools":[{"type":"web_search"}]"#;
    assert_eq!(question(server), Err(ExactOnly::ServerTools));
    assert!(question(r#""input":"hi","tools":[{"type":"function","name":"f"}]"#).is_ok());
    let key = |more: &str| read(&format!(r#"{{"model":"m","input":"hi"{more}}}"#)).unwrap().context;
    assert_eq!(key(""), key(r#","store":true"#));
    assert_ne!(key(""), key(r#","store":false"#));
    assert_eq!(key(""), key(r#","stream":true,"user":"u""#));
}

#[test]
fn what_is_uncertain_is_unreadable() {
    for body in [
        "{}",
        "[]",
        r#"{"input":5}"#,
        r#"{"input":[]}"#,
        r#"{"input":[5]}"#,
        r#"{"input":[{"role":5,"content":"x"}]}"#,
        r#"{"input":[{"type":null}]}"#,
        r#"{"input":[{"role":"user","content":{"x":1}}]}"#,
        r#"{"input":"x","stream":1}"#,
    ] {
        let prompt = read(body);
        assert!(prompt.is_err() || prompt.unwrap().question.is_err(), "{body}");
    }
}

#[test]
fn a_stream_ends_with_the_whole_response() {
    let body = Bytes::from(whole().to_string());
    let streamed = Responses.reshape(Shape::Whole, &body, STREAM).unwrap();
    let mut ears = Responses.listener(STREAM);
    ears.hear(&streamed);
    let answer = ears.finish(&streamed).unwrap();
    assert_eq!(answer, heard(&whole()).unwrap());
    assert_eq!((answer.text.as_str(), answer.usage.unwrap().completion), ("Hello", 2));
    let back = Responses.reshape(STREAM, &streamed, Shape::Whole).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&back).unwrap(), whole());
    let events = framing::events(Framing::Sse, &streamed).unwrap();
    assert!(events.iter().all(|(kind, event)| event["type"] == kind.as_str()));
    assert!(events.iter().enumerate().all(|(at, (_, event))| event["sequence_number"] == at));
    assert!(events.iter().any(|(kind, _)| kind == "response.function_call_arguments.done"));
}

#[test]
fn what_must_not_be_kept_says_why() {
    let with = |name: &str, value: Value| {
        let mut answer = whole();
        answer[name] = value;
        heard(&answer)
    };
    let cut = |reason: &str| {
        let mut answer = whole();
        answer["status"] = "incomplete".into();
        answer["incomplete_details"] = json!({"reason": reason});
        heard(&answer)
    };
    assert_eq!(with("error", json!({"code": "x"})), Err(NotStorable::UpstreamError));
    assert_eq!(with("status", "in_progress".into()), Err(NotStorable::Incomplete));
    assert_eq!(with("status", Value::Null), Err(NotStorable::Incomplete));
    assert_eq!(with("output", json!([])), Err(NotStorable::Empty));
    let refusal = json!([{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]);
    assert_eq!(with("output", refusal), Err(NotStorable::Filtered));
    assert_eq!(cut("max_output_tokens"), Err(NotStorable::Length));
    assert_eq!(cut("content_filter"), Err(NotStorable::Filtered));
    assert_eq!(cut("mystery"), Err(NotStorable::UnknownFinish));

    let streamed = |text: &str| {
        let mut ears = Responses.listener(STREAM);
        ears.hear(text.as_bytes());
        ears.finish(b"")
    };
    assert_eq!(streamed("data: {\"type\":\"response.created\"}\n\n"), Err(NotStorable::Incomplete));
    assert_eq!(streamed("data: {\"type\":\"error\"}\n\n"), Err(NotStorable::UpstreamError));
    assert_eq!(streamed("data: {\"type\":\"response.novel\"}\n\n"), Err(NotStorable::Unreadable));
}

proptest::proptest! {
    #[test]
    fn any_chunking_hears_the_same(cuts in proptest::collection::vec(0_usize..9000, 0..20)) {
        let body = Bytes::from(whole().to_string());
        let streamed = Responses.reshape(Shape::Whole, &body, STREAM).unwrap();
        let mut ears = Responses.listener(STREAM);
        for chunk in framing::tests::chunked(&streamed, &cuts) {
            ears.hear(chunk);
        }
        proptest::prop_assert_eq!(ears.finish(b""), heard(&whole()));
    }
}
