use super::*;
use crate::wire::Rules;

const PATH: &str = "/v1/chat/completions";

fn prompt(body: &str) -> Prompt {
    let ignored = ["stream", "stream_options", "user"].map(str::to_owned);
    try_read(body, &ignored).unwrap_or_else(|_| panic!("unreadable: {body}"))
}

fn try_read(body: &str, ignored: &[String]) -> Result<Prompt, Unread> {
    let headers = http::HeaderMap::new();
    let rules = Rules { ignored, ..Rules::default() };
    read(Call { path: PATH, query: "", headers: &headers, body: body.as_bytes(), rules })
}

fn unreadable(body: &str) -> bool {
    try_read(body, &[]).is_err()
}

fn key(body: &str) -> (blake3::Hash, blake3::Hash) {
    let prompt = prompt(body);
    (prompt.context, prompt.turn)
}

const BASE: &str = r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"hi there"}]}"#;

#[test]
fn only_the_last_user_turn_is_the_question() {
    let one = prompt(BASE);
    let other = prompt(&BASE.replace("hi there", "hello"));
    assert_eq!(one.context, other.context);
    assert_ne!(one.turn, other.turn);
    assert_eq!(one.question.unwrap().as_ref(), "hi there");
}

#[test]
fn everything_else_is_exact() {
    let base = key(BASE).0;
    for changed in [
        BASE.replace("\"m\"", "\"m2\""),
        BASE.replace("\"s\"", "\"t\""),
        BASE.replace("\"model\"", "\"temperature\":0,\"model\""),
        BASE.replace("\"model\"", "\"seed\":1,\"model\""),
        BASE.replace("\"model\"", "\"brand_new_field\":1,\"model\""),
        BASE.replace("\"model\"", "\"response_format\":{\"type\":\"json_object\"},\"model\""),
        BASE.replace("\"model\"", "\"tools\":[{\"type\":\"function\"}],\"model\""),
        BASE.replace("\"role\":\"system\"", "\"role\":\"developer\""),
        BASE.replace("\"content\":\"hi there\"", "\"name\":\"ann\",\"content\":\"hi there\""),
        BASE.replace("\"hi there\"", "[{\"type\":\"text\",\"text\":\"hi there\"},{\"type\":\"image_url\",\"image_url\":{\"url\":\"a\"}}]"),
        BASE.replace("{\"role\":\"system\",\"content\":\"s\"},", ""),
    ] {
        assert_ne!(key(&changed).0, base, "{changed}");
    }
}

#[test]
fn what_cannot_change_the_answer_is_not_in_the_key() {
    let base = key(BASE);
    for same in [
        BASE.replace("\"model\"", "\"stream\":true,\"model\""),
        BASE.replace("\"model\"", "\"user\":\"u\",\"model\""),
        BASE.replace(
            "\"model\"",
            "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"model\"",
        ),
        BASE.replace("\"hi there\"", "[{\"type\":\"text\",\"text\":\"hi there\"}]"),
        BASE.replace("\":", "\" : "),
    ] {
        assert_eq!(key(&same), base, "{same}");
    }
    let other =
        BASE.replace("\"model\"", "\"stream_options\":{\"continuous_usage_stats\":true},\"model\"");
    assert_ne!(key(&other).0, base.0);
}

#[test]
fn images_belong_to_the_context_and_texts_are_framed() {
    let with = |url: &str, one: &str, two: &str| {
        prompt(&format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"text","text":"{one}"}},{{"type":"image_url","image_url":{{"url":"{url}"}}}},{{"type":"text","text":"{two}"}}]}}]}}"#
        ))
    };
    assert_ne!(with("a", "x", "y").context, with("b", "x", "y").context);
    assert_eq!(with("a", "x", "y").context, with("a", "z", "w").context);
    assert_ne!(with("a", "xy", "z").turn, with("a", "x", "yz").turn);
    assert_eq!(with("a", "x", "y").question.unwrap().as_ref(), "x\ny");
}

#[test]
fn exact_only_says_why() {
    let why = |body: &str| prompt(body).question.unwrap_err();
    assert_eq!(why(&BASE.replace("\"model\"", "\"n\":2,\"model\"")), ExactOnly::Choices);
    assert_eq!(why(&BASE.replace("\"model\"", "\"logprobs\":true,\"model\"")), ExactOnly::Logprobs);
    assert_eq!(
        why(&BASE.replace("\"model\"", "\"modalities\":[\"text\",\"audio\"],\"model\"")),
        ExactOnly::Modality
    );
    assert_eq!(why(&BASE.replace("\"hi there\"", "\" \"")), ExactOnly::NoText);
    assert_eq!(why(&BASE.replace("\"hi there\"", "null")), ExactOnly::NoText);
    let tool = r#"{"model":"m","messages":[{"role":"user","content":"q"},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"7"}]}"#;
    assert_eq!(why(tool), ExactOnly::LastTurnNotUser);
}

#[test]
fn shapes_are_read() {
    let shape =
        |extra: &str| prompt(&BASE.replace("\"model\"", &format!("{extra}\"model\""))).shape;
    assert_eq!(shape(""), Shape::Whole);
    assert_eq!(shape("\"stream\":null,"), Shape::Whole);
    assert_eq!(shape("\"stream\":true,"), Shape::Stream { usage: false });
    assert_eq!(
        shape("\"stream\":true,\"stream_options\":{\"include_usage\":true},"),
        Shape::Stream { usage: true }
    );
}

#[test]
fn anything_uncertain_is_unreadable_and_not_an_error() {
    for body in [
        "",
        "[]",
        "{}",
        "{\"messages\":[]}",
        "{\"messages\":7}",
        "{\"messages\":[7]}",
        "{\"messages\":[{\"content\":\"x\"}]}",
        "{\"messages\":[{\"role\":7,\"content\":\"x\"}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":7}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":[7]}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"x\"}]}]}",
        "{\"model\":7,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
        "{\"stream\":\"yes\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"messages\":[]}",
    ] {
        assert!(unreadable(body), "{body}");
    }
}

proptest::proptest! {
    #[test]
    fn mutilated_requests_never_panic(cut in 0_usize..200, junk in ".{0,8}") {
        let mut body = BASE.to_owned();
        let mut cut = cut.min(body.len());
        while !body.is_char_boundary(cut) { cut -= 1; }
        body.insert_str(cut, &junk);
        let _ = try_read(&body, &[]);
    }
}
