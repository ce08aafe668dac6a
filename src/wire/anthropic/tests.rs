use http::HeaderMap;
use proptest::prelude::*;

use super::*;
use crate::wire::{Answer, NotStorable, Rules, framing, trial};

const STREAM: Shape = Shape::Stream { usage: false };

fn try_read(body: &str) -> Result<Prompt, Unread> {
    let headers = HeaderMap::new();
    let ignored = ["stream", "metadata"].map(str::to_owned);
    let rules = Rules { ignored: &ignored, ..Rules::default() };
    let body = body.as_bytes();
    Anthropic.read(Call { path: "/v1/messages", query: "", headers: &headers, body, rules })
}

fn read(body: &str) -> Prompt {
    try_read(body).unwrap_or_else(|_| panic!("unreadable: {body}"))
}

const BASE: &str = r#"{"model":"claude","max_tokens":9,"system":"s","messages":[
    {"role":"user","content":"a"},{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"x"},{"type":"text","text":"b"}]},
    {"role":"user","content":"hi there"}]}"#;

#[test]
fn only_the_last_user_turn_is_the_question() {
    let base = read(BASE);
    assert_eq!(base.question.as_deref(), Ok("hi there"));
    let other = read(&BASE.replace("hi there", "hello"));
    assert_eq!(base.context, other.context);
    assert_ne!(base.turn, other.turn);
    for changed in [
        BASE.replace("\"s\"", "\"z\""),
        BASE.replace("\"a\"", "\"z\""),
        BASE.replace("\"signature\":\"x\"", "\"signature\":\"z\""),
        BASE.replace("\"max_tokens\":9", "\"max_tokens\":8"),
        BASE.replace("\"max_tokens\"", "\"thinking\":{\"type\":\"enabled\"},\"max_tokens\""),
        BASE.replace("\"max_tokens\"", "\"brand_new\":1,\"max_tokens\""),
    ] {
        assert_ne!(read(&changed).context, base.context, "{changed}");
    }
}

#[test]
fn cache_control_is_no_part_of_the_key() {
    let base = read(BASE);
    let mark = "\"cache_control\":{\"type\":\"ephemeral\"}";
    for same in [
        BASE.replace("\"s\"", &format!("[{{\"type\":\"text\",\"text\":\"s\",{mark}}}]")),
        BASE.replace(
            "\"hi there\"",
            &format!("[{{\"type\":\"text\",{mark},\"text\":\"hi there\"}}]"),
        ),
        BASE.replace("\"max_tokens\"", &format!("{mark},\"stream\":true,\"max_tokens\"")),
    ] {
        let same = read(&same);
        assert_eq!((same.context, same.turn), (base.context, base.turn));
    }
    let tools = |mark: &str| {
        let tool =
            format!("\"tools\":[{{\"name\":\"f\",\"input_schema\":{{}}{mark}}}],\"max_tokens\"");
        read(&BASE.replace("\"max_tokens\"", &tool)).context
    };
    assert_eq!(tools(""), tools(&format!(",{mark}")));
    assert_ne!(tools(""), base.context);
}

#[test]
fn what_is_no_question_is_exact_only() {
    let asked = |messages: &str, more: &str| {
        read(&format!(r#"{{"model":"m","max_tokens":1,"messages":{messages}{more}}}"#)).question
    };
    let result = r#"[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"5"}]},{"type":"text","text":"go on"}]}]"#;
    assert_eq!(asked(result, ""), Err(ExactOnly::LastTurnNotUser));
    let begun = r#"[{"role":"user","content":"a"},{"role":"assistant","content":"{"}]"#;
    assert_eq!(asked(begun, ""), Err(ExactOnly::LastTurnNotUser));
    let server = r#","tools":[{"type":"web_search_20250305","name":"web_search"}]"#;
    assert_eq!(asked(r#"[{"role":"user","content":"a"}]"#, server), Err(ExactOnly::ServerTools));
    let image = r#"[{"role":"user","content":[{"type":"image","source":{"data":"AA"}}]}]"#;
    assert_eq!(asked(image, ""), Err(ExactOnly::NoText));
}

#[test]
fn what_is_uncertain_is_unreadable() {
    for body in [
        "",
        "[]",
        "{}",
        r#"{"messages":[]}"#,
        r#"{"messages":null}"#,
        r#"{"messages":[{"role":"wizard","content":"x"}]}"#,
        r#"{"messages":[{"role":null,"content":"x"}]}"#,
        r#"{"messages":[{"role":"user","content":5}]}"#,
        r#"{"messages":[{"role":"user","content":[{"text":"no type"}]}]}"#,
        r#"{"messages":[{"role":"user","content":"x"}],"stream":"yes"}"#,
        r#"{"model":5,"messages":[{"role":"user","content":"x"}]}"#,
    ] {
        assert_eq!(try_read(body).unwrap_err(), Unread::Unreadable, "{body}");
    }
}

fn whole() -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "sig"},
            {"type": "redacted_thinking", "data": "zzz"},
            {"type": "text", "text": "Hello", "citations": [{"type": "char_location", "cited_text": "H"}]},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, 2.5]}},
            {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
        ],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 2},
    })
}

fn heard(body: &Value) -> Result<Answer, NotStorable> {
    Anthropic.listener(Shape::Whole).finish(body.to_string().as_bytes())
}

fn heard_stream(text: &[u8]) -> Result<Answer, NotStorable> {
    trial::heard(&Anthropic, STREAM, text)
}

#[test]
fn a_message_survives_the_way_through_a_stream() {
    let body = Bytes::from(whole().to_string());
    let streamed = Anthropic.reshape(Shape::Whole, &body, STREAM).unwrap();
    let answer = heard_stream(&streamed).unwrap();
    assert_eq!(answer, heard(&whole()).unwrap());
    assert_eq!(answer.text, "Hello");
    assert_eq!(answer.usage.unwrap().prompt, 7);
    let back = Anthropic.reshape(STREAM, &streamed, Shape::Whole).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&back).unwrap(), whole());
}

/// As in the reference's "Full HTTP stream response", with pings and tool input in pieces.
fn recorded() -> String {
    let events = [
        json!({"type": "message_start", "message": {"id": "msg_2", "type": "message", "role": "assistant",
            "content": [], "model": "claude", "stop_reason": null, "stop_sequence": null,
            "usage": {"input_tokens": 25, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1,
            "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}}),
        json!({"type": "content_block_delta", "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": ""}}),
        json!({"type": "content_block_delta", "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": "{\"a\":"}}),
        json!({"type": "content_block_delta", "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": " 1}"}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null},
            "usage": {"output_tokens": 15}}),
        json!({"type": "message_stop"}),
    ];
    events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", text_at(event, "/type")))
        .collect()
}

#[test]
fn a_recorded_stream_adds_up() {
    let stream = recorded();
    assert_eq!(heard_stream(stream.as_bytes()).unwrap().usage.unwrap().completion, 15);
    let joined = Anthropic.reshape(STREAM, &Bytes::from(stream), Shape::Whole).unwrap();
    let joined: Value = serde_json::from_slice(&joined).unwrap();
    assert_eq!(joined["content"][0]["text"], "Hello");
    assert_eq!(joined["content"][1]["input"], json!({"a": 1}));
    assert_eq!(joined["stop_reason"], "tool_use");
    assert_eq!(joined["usage"], json!({"input_tokens": 25, "output_tokens": 15}));
}

#[test]
fn what_must_not_be_kept_says_why() {
    use NotStorable::{
        Empty, Filtered, Incomplete, Length, UnknownFinish, Unreadable, UpstreamError,
    };
    let stream = recorded();
    for (body, why) in [
        (
            stream.replace("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n", ""),
            Incomplete,
        ),
        (stream.replace("\"stop_reason\":\"tool_use\"", "\"stop_reason\":null"), Incomplete),
        (stream.replace("\"stop_reason\":\"tool_use\"", "\"stop_reason\":\"max_tokens\""), Length),
        (stream.replace("\"stop_reason\":\"tool_use\"", "\"stop_reason\":\"refusal\""), Filtered),
        (
            stream.replace("\"stop_reason\":\"tool_use\"", "\"stop_reason\":\"pause_turn\""),
            UnknownFinish,
        ),
        (stream.replace("{\"type\":\"ping\"}", "{\"type\":\"error\",\"error\":{}}"), UpstreamError),
        (stream.replace("{\"type\":\"ping\"}", "{\"type\":\"novelty\"}"), Unreadable),
        (stream.replace("{\"type\":\"ping\"}", "{{"), Unreadable),
        (stream.replace("\"text_delta\"", "\"video_delta\""), Unreadable),
        (String::new(), Incomplete),
    ] {
        assert_eq!(heard_stream(body.as_bytes()), Err(why), "{body}");
    }
    let with = |name: &str, value: Value| {
        let mut message = whole();
        message[name] = value;
        heard(&message)
    };
    assert_eq!(with("type", "error".into()), Err(UpstreamError));
    assert_eq!(with("type", Value::Null), Err(Unreadable));
    assert_eq!(with("stop_reason", Value::Null), Err(Incomplete));
    assert_eq!(with("content", json!([])), Err(Empty));
    assert_eq!(with("content", json!([{"type": "thinking", "thinking": "x"}])), Err(Empty));
}

#[test]
fn faults_are_told_as_anthropic_tells_them() {
    let fault = Fault::new(Kind::Overloaded, "too much");
    let told: Value = serde_json::from_slice(&Anthropic.error(&fault)).unwrap();
    assert_eq!(
        (&told["type"], &told["error"]["type"]),
        (&json!("error"), &json!("overloaded_error"))
    );
    let last = Anthropic.stream_error(STREAM, &Fault::new(Kind::Cut, "gone"), None).unwrap();
    assert_eq!(heard_stream(&last), Err(NotStorable::UpstreamError));
    assert!(!String::from_utf8_lossy(&last).contains("message_stop"));
}

/// Found by fuzzing: without its first event a stream is heard as an answer, and none can be made of it.
#[test]
fn a_stream_that_cannot_be_a_whole_answer_is_not_made_one() {
    let headless = Bytes::from_static(
        b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
        \"delta\":{\"type\":\"text_delta\",\"text\":\"yes\"}}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\
        \"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n\
        event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );
    assert!(trial::heard(&Anthropic, STREAM, &headless).is_ok());
    assert_eq!(crate::wire::reshaped(&Anthropic, STREAM, &headless, Shape::Whole), None);
}

proptest! {
    #[test]
    fn any_chunking_hears_the_same(cuts in proptest::collection::vec(0_usize..3000, 0..20)) {
        let stream = recorded();
        let mut ears = Anthropic.listener(STREAM);
        for chunk in framing::tests::chunked(stream.as_bytes(), &cuts) {
            ears.hear(chunk);
        }
        prop_assert_eq!(ears.finish(b""), heard_stream(stream.as_bytes()));
    }

    #[test]
    fn mutilated_input_never_panics(cut in 0_usize..1500, junk in ".{0,8}") {
        for text in [BASE.to_owned(), recorded(), whole().to_string()] {
            let mut text = text;
            let mut cut = cut.min(text.len());
            while !text.is_char_boundary(cut) { cut -= 1; }
            text.insert_str(cut, &junk);
            let _ = try_read(&text);
            let _ = heard_stream(text.as_bytes());
            let body = Bytes::from(text);
            let _ = Anthropic.listener(Shape::Whole).finish(&body);
            let _ = Anthropic.reshape(Shape::Whole, &body, STREAM);
            let _ = Anthropic.reshape(STREAM, &body, Shape::Whole);
        }
    }
}
