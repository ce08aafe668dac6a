use super::*;
use crate::wire::{Answer, NotStorable, framing, trial};

const EVENTS: Shape = Shape::Stream { usage: false };
const ALL: [Shape; 3] = [Shape::Whole, EVENTS, Shape::Array];
const PLACE: &str = "/v1beta/models/gemini-pro";

fn try_read(path: &str, query: &str, body: &str) -> Result<Prompt, Unread> {
    trial::read(&Gemini, path, query, body)
}

fn read(body: &str) -> Prompt {
    let path = format!("{PLACE}:generateContent");
    try_read(&path, "", body).unwrap_or_else(|_| panic!("unreadable: {body}"))
}

const BASE: &str = r#"{"systemInstruction":{"parts":[{"text":"s"}]},"contents":[
    {"role":"user","parts":[{"text":"a"}]},{"role":"model","parts":[{"text":"b"}]},
    {"role":"user","parts":[{"text":"hi"},{"text":"there"}]}],"generationConfig":{"temperature":0.5}}"#;

#[test]
fn three_shapes_are_one_question() {
    let whole = read(BASE);
    assert_eq!(
        (&*whole.model, whole.shape, whole.temperature),
        ("gemini-pro", Shape::Whole, Some(0.5))
    );
    assert_eq!(whole.question.as_deref(), Ok("hi\nthere"));
    let path = format!("{PLACE}:streamGenerateContent");
    for (query, shape) in [("alt=sse", EVENTS), ("", Shape::Array), ("key=k", Shape::Array)] {
        let stream = try_read(&path, query, BASE).unwrap();
        assert_eq!((stream.context, stream.turn), (whole.context, whole.turn));
        assert_eq!(stream.shape, shape);
    }
    assert_eq!(Gemini.keyed_query("key=k&alt=sse&x=1"), "key=k&x=1");
    let elsewhere = try_read("/v1beta/models/other:generateContent", "", BASE).unwrap();
    assert_ne!(elsewhere.context, whole.context);
    for changed in
        [BASE.replace("\"s\"", "\"z\""), BASE.replace("\"b\"", "\"z\""), BASE.replace("0.5", "0")]
    {
        assert_ne!(read(&changed).context, whole.context);
    }
}

#[test]
fn what_is_no_question_is_exact_only() {
    let asked = |parts: &str, more: &str| {
        read(&format!(r#"{{"contents":[{{"role":"user","parts":{parts}}}]{more}}}"#)).question
    };
    let result = r#"[{"functionResponse":{"name":"f","response":{}}}]"#;
    assert_eq!(asked(result, ""), Err(ExactOnly::LastTurnNotUser));
    let text = r#"[{"text":"x"}]"#;
    for (more, why) in [
        (r#","generationConfig":{"candidateCount":2}"#, ExactOnly::Choices),
        (r#","generationConfig":{"responseLogprobs":true}"#, ExactOnly::Logprobs),
        (r#","generationConfig":{"responseModalities":["IMAGE"]}"#, ExactOnly::Modality),
        (r#","tools":[{"googleSearch":{}}]"#, ExactOnly::ServerTools),
    ] {
        assert_eq!(asked(text, more), Err(why), "{more}");
    }
    assert!(asked(text, r#","tools":[{"functionDeclarations":[{"name":"f"}]}]"#).is_ok());
    assert_eq!(asked(r#"[{"inlineData":{"data":"AA"}}]"#, ""), Err(ExactOnly::NoText));
}

#[test]
fn what_is_uncertain_is_unreadable() {
    let path = format!("{PLACE}:generateContent");
    for body in [
        "",
        "[]",
        "{}",
        r#"{"contents":[]}"#,
        r#"{"contents":null}"#,
        r#"{"contents":["x"]}"#,
        r#"{"contents":[{"role":"wizard","parts":[]}]}"#,
        r#"{"contents":[{"parts":[5]}]}"#,
    ] {
        assert_eq!(try_read(&path, "", body).unwrap_err(), Unread::Unreadable, "{body}");
    }
}

fn chunks() -> Vec<Value> {
    let chunk = |parts: Value, more: Value| {
        let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
        candidate.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"candidates": [candidate], "modelVersion": "g", "responseId": "r",
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "thoughtsTokenCount": 1}})
    };
    vec![
        chunk(json!([{"text": "hm", "thought": true}]), json!({})),
        chunk(json!([{"text": "Hel"}]), json!({})),
        chunk(json!([{"text": "lo"}]), json!({})),
        chunk(
            json!([{"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "s"}]),
            json!({"finishReason": "STOP"}),
        ),
    ]
}

fn heard(shape: Shape, body: &[u8]) -> Result<Answer, NotStorable> {
    trial::heard(&Gemini, shape, body)
}

#[test]
fn every_shape_says_the_same() {
    for from in ALL {
        let body = write(&chunks(), from).unwrap();
        let answer = heard(from, &body).unwrap();
        assert_eq!(
            (answer.text.as_str(), answer.usage.unwrap().completion),
            ("Hello", 3),
            "{from:?}"
        );
        for to in ALL {
            let there = Gemini.reshape(from, &body, to).unwrap();
            assert_eq!(heard(to, &there).unwrap(), answer, "{from:?} {to:?}");
            let whole = Gemini.reshape(to, &there, Shape::Whole).unwrap();
            let whole: Value = serde_json::from_slice(&whole).unwrap();
            assert_eq!(whole, join(&chunks()).unwrap(), "{from:?} {to:?}");
        }
    }
    let whole = join(&chunks()).unwrap();
    assert_eq!(
        whole["candidates"][0]["content"]["parts"],
        json!([
            {"text": "hm", "thought": true}, {"text": "Hello"},
            {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "s"},
        ])
    );
}

#[test]
fn what_must_not_be_kept_says_why() {
    let ended = |reason: Value| {
        let mut chunks = chunks();
        chunks[3]["candidates"][0]["finishReason"] = reason;
        heard(EVENTS, &write(&chunks, EVENTS).unwrap())
    };
    assert_eq!(ended(Value::Null), Err(NotStorable::Incomplete));
    assert_eq!(ended("MAX_TOKENS".into()), Err(NotStorable::Length));
    assert_eq!(ended("SAFETY".into()), Err(NotStorable::Filtered));
    assert_eq!(ended("NOVELTY".into()), Err(NotStorable::UnknownFinish));
    let blocked = br#"{"promptFeedback":{"blockReason":"SAFETY"}}"#;
    assert_eq!(heard(Shape::Whole, blocked), Err(NotStorable::Filtered));
    assert_eq!(heard(Shape::Whole, b"{}"), Err(NotStorable::Empty));
    assert_eq!(heard(EVENTS, b"data: {\"error\":{}}\n\n"), Err(NotStorable::UpstreamError));
    assert_eq!(heard(Shape::Array, b"[{\"error\":{}}]"), Err(NotStorable::UpstreamError));
    let list = write(&chunks(), Shape::Array).unwrap();
    let cut = list.len() - 3;
    assert_eq!(heard(Shape::Array, &list[..cut]), Err(NotStorable::Incomplete));
    assert_eq!(heard(EVENTS, b""), Err(NotStorable::Incomplete));
}

#[test]
fn faults_are_told_as_google_tells_them() {
    let fault = Fault::new(crate::fault::Kind::NoRoute, "nobody");
    let told: Value = serde_json::from_slice(&Gemini.error(&fault)).unwrap();
    assert_eq!(
        (&told["error"]["code"], &told["error"]["status"]),
        (&json!(404), &json!("NOT_FOUND"))
    );
    let last = Gemini.stream_error(EVENTS, &fault, None).unwrap();
    assert_eq!(heard(EVENTS, &last), Err(NotStorable::UpstreamError));
    assert_eq!(Gemini.stream_error(Shape::Array, &fault, None), None);
}

proptest::proptest! {
    #[test]
    fn any_chunking_hears_the_same(cuts in proptest::collection::vec(0_usize..3000, 0..20)) {
        for shape in ALL {
            let body = write(&chunks(), shape).unwrap();
            let mut ears = Gemini.listener(shape);
            for chunk in framing::tests::chunked(&body, &cuts) {
                ears.hear(chunk);
            }
            proptest::prop_assert_eq!(ears.finish(&body), heard(shape, &body));
        }
    }

    #[test]
    fn mutilated_input_never_panics(cut in 0_usize..900, junk in ".{0,8}") {
        for shape in ALL {
            let body = write(&chunks(), shape).unwrap();
            let mut text = String::from_utf8(body.to_vec()).unwrap();
            text.insert_str(cut % text.len(), &junk);
            let _ = heard(shape, text.as_bytes());
            let body = Bytes::from(text);
            for wanted in ALL {
                let _ = Gemini.reshape(shape, &body, wanted);
            }
        }
        let mut text = BASE.to_owned();
        text.insert_str(cut % text.len(), &junk);
        let _ = try_read(&format!("{PLACE}:generateContent"), "", &text);
    }
}
