use http::HeaderMap;

use super::*;
use crate::wire::{Answer, NotStorable, Rules, framing};

const EVENTS: Shape = Shape::Stream { usage: false };

/// TGI's own API, in words that an operator could have written.
const TGI: &str = r#"
    paths = ["/generate"]
    stream_paths = ["/generate_stream"]
    prompt = "/inputs"
    temperature = "/parameters/temperature"
    answer = "/generated_text"
    piece = "/token/text"
    end = "/generated_text"
    finish = "/details/finish_reason"
    finish_clean = ["eos_token", "stop_sequence"]
    finish_length = ["length"]
    completion_tokens = "/details/generated_tokens"
    error = "/error"
"#;

fn tgi() -> Custom {
    let mut custom: Custom = toml::from_str(TGI).unwrap();
    custom.name = "my_tgi".into();
    assert_eq!(custom.problems(), []);
    custom
}

fn read(custom: &Custom, path: &str, body: &str) -> Result<Prompt, Unread> {
    let (headers, rules) = (HeaderMap::new(), Rules::default());
    custom.read(Call { path, query: "", headers: &headers, body: body.as_bytes(), rules })
}

fn heard(custom: &Custom, shape: Shape, body: &str) -> Result<Answer, NotStorable> {
    let mut ears = custom.listener(shape);
    ears.hear(body.as_bytes());
    ears.finish(body.as_bytes())
}

const STREAM: &str = concat!(
    "data: {\"token\":{\"text\":\"Hel\"},\"generated_text\":null,\"details\":null}\n\n",
    "data: {\"token\":{\"text\":\"lo\"},\"generated_text\":\"Hello\",",
    "\"details\":{\"finish_reason\":\"eos_token\",\"generated_tokens\":2}}\n\n",
);

#[test]
fn tgi_can_be_described_without_code() {
    let tgi = tgi();
    let body = r#"{"inputs":"hi","parameters":{"temperature":0.5,"details":true}}"#;
    let whole = read(&tgi, "/generate", body).unwrap();
    let stream = read(&tgi, "/generate_stream", body).unwrap();
    assert_eq!((whole.context, whole.turn), (stream.context, stream.turn));
    assert_eq!((whole.shape, stream.shape), (Shape::Whole, EVENTS));
    assert_eq!((whole.question.as_deref(), whole.temperature), (Ok("hi"), Some(0.5)));
    let hotter = read(&tgi, "/generate", &body.replace("0.5", "0.6")).unwrap();
    assert_ne!(hotter.context, whole.context);

    let answer = heard(&tgi, EVENTS, STREAM).unwrap();
    assert_eq!((answer.text.as_str(), answer.usage.unwrap().completion), ("Hello", 2));
    let whole = r#"{"generated_text":"Hello","details":{"finish_reason":"eos_token","generated_tokens":2}}"#;
    assert_eq!(heard(&tgi, Shape::Whole, whole).unwrap(), answer);
    assert!(heard(&tgi, Shape::Whole, r#"{"generated_text":"Hello"}"#).is_ok());
    for (body, why) in [
        (STREAM.replace("eos_token", "length"), NotStorable::Length),
        (STREAM.replace("eos_token", "novelty"), NotStorable::UnknownFinish),
        (
            STREAM.replace("\"generated_text\":\"Hello\"", "\"generated_text\":null"),
            NotStorable::Incomplete,
        ),
        (STREAM.replace("{\"token\"", "{{"), NotStorable::Unreadable),
        (
            String::from_utf8(tgi.stream_error(EVENTS, &fault(), None).unwrap().to_vec()).unwrap(),
            NotStorable::UpstreamError,
        ),
    ] {
        assert_eq!(heard(&tgi, EVENTS, &body), Err(why), "{body}");
    }
    assert_eq!(heard(&tgi, Shape::Whole, "{\"error\":\"x\"}"), Err(NotStorable::UpstreamError));
}

fn fault() -> Fault {
    Fault::new(crate::fault::Kind::Cut, "gone")
}

/// The builtin dialect and the described one hear the same.
#[test]
fn described_and_built_in_agree() {
    for shape in [EVENTS, Shape::Whole] {
        let body = if shape == EVENTS { STREAM } else { "{\"generated_text\":\"Hello\"}" };
        let mut built_in = crate::wire::tgi::Tgi.listener(shape);
        built_in.hear(body.as_bytes());
        assert_eq!(built_in.finish(body.as_bytes()), heard(&tgi(), shape, body));
    }
}

#[test]
fn messages_scope_and_switch_are_found_inside() {
    let custom: Custom = toml::from_str(
        r#"
        paths = ["/ask"]
        messages = "/chat/turns"
        stream = "/options/live"
        streams_by_default = true
        scope = ["/model", "/options/style"]
        ignore = ["/options/style/trace"]
        framing = "ndjson"
        answer = "/said"
        piece = "/said"
        end_data = "[END]"
        error = "/problem/text"
        "#,
    )
    .unwrap();
    assert_eq!(custom.problems(), []);
    let base = r#"{"model":"m","chat":{"turns":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"hi"}]},"options":{"live":false,"style":{"kind":1,"trace":2},"other":3}}"#;
    let prompt = read(&custom, "/ask", base).unwrap();
    assert_eq!((prompt.shape, prompt.question.as_deref()), (Shape::Whole, Ok("hi")));
    for same in [
        base.replace("\"live\":false", "\"live\":true"),
        base.replace("\"trace\":2", "\"trace\":9"),
        base.replace("\"other\":3", "\"other\":9"),
    ] {
        assert_eq!(read(&custom, "/ask", &same).unwrap().context, prompt.context, "{same}");
    }
    for other in [
        base.replace("\"kind\":1", "\"kind\":9"),
        base.replace("\"model\":\"m\"", "\"model\":\"n\""),
        base.replace("\"b\"", "\"c\""),
    ] {
        assert_ne!(read(&custom, "/ask", &other).unwrap().context, prompt.context, "{other}");
    }
    let live = read(&custom, "/ask", &base.replace("\"live\":false,", "")).unwrap();
    assert_eq!(live.shape, EVENTS);
    let tool = base.replace(
        "{\"role\":\"user\",\"content\":\"hi\"}",
        "{\"role\":\"tool\",\"content\":\"hi\"}",
    );
    assert_eq!(read(&custom, "/ask", &tool).unwrap().question, Err(ExactOnly::LastTurnNotUser));
    for bad in [
        "{}",
        "[]",
        r#"{"chat":{"turns":5}}"#,
        r#"{"chat":{"turns":[]}}"#,
        &base.replace("false", "7"),
    ] {
        assert_eq!(read(&custom, "/ask", bad).unwrap_err(), Unread::Unreadable, "{bad}");
    }
    assert_eq!(
        heard(&custom, EVENTS, "{\"said\":\"He\"}\n{\"said\":\"y\"}\n[END]\n").unwrap().text,
        "Hey"
    );
    assert_eq!(heard(&custom, EVENTS, "{\"said\":\"He\"}\n"), Err(NotStorable::Incomplete));
    let told: Value = serde_json::from_slice(&custom.error(&fault())).unwrap();
    assert!(told["problem"]["text"].as_str().unwrap().contains("gone"));
}

#[test]
fn what_is_missing_is_said() {
    let wrong = Custom { stream: "live".into(), ..Custom::default() };
    let keys: Vec<_> = wrong.problems().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["paths", "prompt", "answer", "end", "stream"]);
}

proptest::proptest! {
    #[test]
    fn any_chunking_hears_the_same(cuts in proptest::collection::vec(0_usize..300, 0..20)) {
        let mut ears = tgi().listener(EVENTS);
        for chunk in framing::tests::chunked(STREAM.as_bytes(), &cuts) {
            ears.hear(chunk);
        }
        proptest::prop_assert_eq!(ears.finish(b""), heard(&tgi(), EVENTS, STREAM));
    }

    #[test]
    fn garbage_never_panics(text in "(data: |[\\[\\]{}\":,0-9a-z\n]){0,60}") {
        let _ = (read(&tgi(), "/generate", &text), heard(&tgi(), EVENTS, &text));
    }
}
