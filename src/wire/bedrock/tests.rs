use super::*;
use crate::wire::{Answer, NotStorable, framing, trial};

const EVENTS: Shape = Shape::Stream { usage: false };
const BASE: &str = r#"{"system":[{"text":"s"}],"messages":[{"role":"user","content":[{"text":"hi"}]}],"inferenceConfig":{"temperature":0.5}}"#;

fn try_read(path: &str, body: &str) -> Result<Prompt, Unread> {
    trial::read(&Bedrock, path, "", body)
}

fn whole() -> Value {
    json!({
        "output": {"message": {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
            {"text": "Hello"},
            {"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1}}},
        ]}},
        "stopReason": "tool_use",
        "usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5},
        "metrics": {"latencyMs": 7},
    })
}

fn heard(shape: Shape, body: &[u8]) -> Result<Answer, NotStorable> {
    trial::heard(&Bedrock, shape, body)
}

fn streamed() -> Bytes {
    Bedrock.reshape(Shape::Whole, &Bytes::from(whole().to_string()), EVENTS).unwrap()
}

#[test]
fn both_paths_are_one_question() {
    let path = "/model/anthropic.claude-3%3A0";
    let whole = try_read(&format!("{path}/converse"), BASE).unwrap();
    let stream = try_read(&format!("{path}/converse-stream"), BASE).unwrap();
    assert_eq!((whole.context, whole.turn), (stream.context, stream.turn));
    assert_eq!((whole.shape, stream.shape), (Shape::Whole, EVENTS));
    assert_eq!((&*whole.model, whole.question.as_deref()), ("anthropic.claude-3%3A0", Ok("hi")));
    let result = BASE.replace("{\"text\":\"hi\"}", "{\"toolResult\":{}}");
    let result = try_read("/model/m/converse", &result).unwrap();
    assert_eq!(result.question, Err(ExactOnly::LastTurnNotUser));
    for bad in ["", "{}", r#"{"messages":[]}"#, r#"{"messages":[{"role":"x","content":[]}]}"#] {
        assert_eq!(try_read("/model/m/converse", bad).unwrap_err(), Unread::Unreadable, "{bad}");
    }
}

#[test]
fn an_answer_survives_the_way_through_a_stream() {
    let answer = heard(EVENTS, &streamed()).unwrap();
    assert_eq!(answer, heard(Shape::Whole, whole().to_string().as_bytes()).unwrap());
    assert_eq!((answer.text.as_str(), answer.usage.unwrap().completion), ("Hello", 2));
    let back = Bedrock.reshape(EVENTS, &streamed(), Shape::Whole).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&back).unwrap(), whole());
}

#[test]
fn what_must_not_be_kept_says_why() {
    let ended = |reason: Value| {
        let mut answer = whole();
        answer["stopReason"] = reason;
        heard(Shape::Whole, answer.to_string().as_bytes())
    };
    assert_eq!(ended(Value::Null), Err(NotStorable::Incomplete));
    assert_eq!(ended("max_tokens".into()), Err(NotStorable::Length));
    assert_eq!(ended("guardrail_intervened".into()), Err(NotStorable::Filtered));
    assert_eq!(ended("novelty".into()), Err(NotStorable::UnknownFinish));
    assert_eq!(heard(Shape::Whole, b"{\"message\":\"x\"}"), Err(NotStorable::Unreadable));
    let mut failed = streamed().to_vec();
    event_stream::write(&mut failed, "modelStreamErrorException", b"{}");
    assert_eq!(heard(EVENTS, &failed), Err(NotStorable::UpstreamError));
    let mut novel = streamed().to_vec();
    event_stream::write(&mut novel, "novelty", b"{}");
    assert_eq!(heard(EVENTS, &novel), Err(NotStorable::Unreadable));
    let stream = streamed();
    assert_eq!(heard(EVENTS, &stream[..stream.len() - 1]), Err(NotStorable::Incomplete));
    let mut flipped = stream.to_vec();
    flipped[30] ^= 1;
    assert_eq!(heard(EVENTS, &flipped), Err(NotStorable::Unreadable));
}

proptest::proptest! {
    #[test]
    fn any_chunking_hears_the_same(cuts in proptest::collection::vec(0_usize..3000, 0..20)) {
        let stream = streamed();
        let mut ears = Bedrock.listener(EVENTS);
        for chunk in framing::tests::chunked(&stream, &cuts) {
            ears.hear(chunk);
        }
        proptest::prop_assert_eq!(ears.finish(&stream), heard(EVENTS, &stream));
    }

    #[test]
    fn mutilated_input_never_panics(at in 0_usize..900, junk in proptest::num::u8::ANY) {
        for (shape, mut body) in
            [(Shape::Whole, whole().to_string().into_bytes()), (EVENTS, streamed().to_vec())]
        {
            let at = at % body.len();
            body[at] = junk;
            let _ = heard(shape, &body);
            let body = Bytes::from(body);
            let _ = (Bedrock.reshape(shape, &body, Shape::Whole), Bedrock.reshape(shape, &body, EVENTS));
        }
        let mut text = BASE.as_bytes().to_vec();
        let at = at % text.len();
        text[at] = junk;
        let _ = try_read("/model/m/converse", &String::from_utf8_lossy(&text));
    }
}
