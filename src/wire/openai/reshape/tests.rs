use super::*;

const PLAIN: Shape = Shape::Stream { usage: false };
const COUNTED: Shape = Shape::Stream { usage: true };

fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn stream(chunks: &[Value]) -> Bytes {
    let mut out = Vec::new();
    for chunk in chunks {
        sse::write(&mut out, chunk.to_string().as_bytes());
    }
    sse::write(&mut out, DONE);
    Bytes::from(out)
}

fn whole_answer() -> Value {
    json!({
        "id": "c1", "object": "chat.completion", "created": 7, "model": "m",
        "system_fingerprint": "fp", "service_tier": "default",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Hello"},
             "logprobs": null, "finish_reason": "stop"},
            {"index": 1, "message": {"role": "assistant", "content": null, "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                {"id": "t2", "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
             "logprobs": null, "finish_reason": "tool_calls"},
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    })
}

#[test]
fn a_body_survives_the_way_through_a_stream() {
    let body = Bytes::from(whole_answer().to_string());
    let streamed = reshape(Shape::Whole, &body, COUNTED).unwrap();
    assert!(streamed.ends_with(b"data: [DONE]\n\n"));
    let back = reshape(COUNTED, &streamed, Shape::Whole).unwrap();
    assert_eq!(value(&back), whole_answer());
    let plain = reshape(Shape::Whole, &body, PLAIN).unwrap();
    let mut uncounted = whole_answer();
    uncounted.as_object_mut().unwrap().remove("usage");
    assert_eq!(value(&reshape(PLAIN, &plain, Shape::Whole).unwrap()), uncounted);
}

#[test]
fn deltas_add_up() {
    let delta = |delta: Value| json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]});
    let call = |more: Value| delta(json!({"tool_calls": [more]}));
    let body = stream(&[
        delta(json!({"role": "assistant", "content": ""})),
        call(
            json!({"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}),
        ),
        call(json!({"index": 0, "function": {"arguments": "{\"x\":"}})),
        call(
            json!({"index": 1, "id": "u", "type": "function", "function": {"name": "g", "arguments": "{}"}}),
        ),
        call(json!({"index": 0, "function": {"arguments": "1}"}})),
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
    ]);
    let joined = value(&reshape(PLAIN, &body, Shape::Whole).unwrap());
    let message = &joined["choices"][0]["message"];
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"x\":1}");
    assert_eq!(message["tool_calls"][1]["id"], "u");
    assert!(message["tool_calls"][0].get("index").is_none());
    assert_eq!(message["content"], Value::Null);
    assert_eq!(joined["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(joined["object"], "chat.completion");
}

#[test]
fn reasoning_and_logprobs_add_up() {
    let piece = |delta: Value, token: &str| json!({"choices": [{"index": 0, "delta": delta, "logprobs": {"content": [{"token": token}]}}]});
    let body = stream(&[
        piece(json!({"role": "assistant", "reasoning_content": "th"}), "a"),
        piece(json!({"reasoning_content": "ink", "content": "x"}), "b"),
        piece(json!({"content": "y"}), "c"),
    ]);
    let joined = value(&reshape(PLAIN, &body, Shape::Whole).unwrap());
    assert_eq!(joined["choices"][0]["message"]["reasoning_content"], "think");
    assert_eq!(joined["choices"][0]["message"]["content"], "xy");
    assert_eq!(joined["choices"][0]["logprobs"]["content"].as_array().unwrap().len(), 3);
}

#[test]
fn usage_is_taken_out_and_never_made_up() {
    let body = Bytes::from(whole_answer().to_string());
    let counted = reshape(Shape::Whole, &body, COUNTED).unwrap();
    let plain = reshape(COUNTED, &counted, PLAIN).unwrap();
    assert!(!String::from_utf8_lossy(&plain).contains("usage"));
    assert!(reshape(PLAIN, &plain, COUNTED).is_none());
    let mut uncounted = whole_answer();
    uncounted.as_object_mut().unwrap().remove("usage");
    assert!(reshape(Shape::Whole, &Bytes::from(uncounted.to_string()), COUNTED).is_none());
}

#[test]
fn the_same_shape_is_the_same_bytes() {
    let body = Bytes::from_static(b"data: {\"odd\" :  1}\n\ndata: [DONE]\n\n");
    assert_eq!(reshape(PLAIN, &body, PLAIN).unwrap(), body);
    assert_eq!(reshape(Shape::Whole, &body, Shape::Whole).unwrap(), body);
}

proptest::proptest! {
    #[test]
    fn garbage_never_panics(text in ".{0,80}") {
        let body = Bytes::from(text);
        for stored in [Shape::Whole, PLAIN, COUNTED] {
            for wanted in [Shape::Whole, PLAIN, COUNTED] {
                let _ = reshape(stored, &body, wanted);
            }
        }
    }
}
