use http::HeaderMap;
use serde_json::json;

use super::*;
use crate::wire::{Answer, NotStorable, Rules};

const PATH: &str = "/v2/models/m/infer";

fn try_read(header: &Value, tensors: Option<&[u8]>) -> Result<Prompt, Unread> {
    let mut body = header.to_string().into_bytes();
    let mut headers = HeaderMap::new();
    if let Some(tensors) = tensors {
        headers.insert(HEADER_LENGTH, body.len().into());
        body.extend(tensors);
    }
    let text_inputs = ["TEXT".to_owned()];
    let rules = Rules { text_inputs: &text_inputs, ..Rules::default() };
    Infer.read(Call { path: PATH, query: "", headers: &headers, body: &body, rules })
}

fn element(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn asked(name: &str, text: &str) -> Value {
    json!({"inputs": [{"name": name, "shape": [1, 1], "datatype": "BYTES", "data": [text]}]})
}

#[test]
fn a_named_text_is_a_question_and_numbers_are_not() {
    let text = try_read(&asked("TEXT", "hi"), None).unwrap();
    assert_eq!((&*text.model, text.question.as_deref()), ("m", Ok("hi")));
    let bytes = element("hi");
    let binary = json!({"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES",
        "parameters": {"binary_data_size": bytes.len()}}]});
    let binary = try_read(&binary, Some(&bytes)).unwrap();
    assert_eq!((text.context, text.turn), (binary.context, binary.turn), "either way to travel");
    let unnamed = try_read(&asked("OTHER", "hi"), None).unwrap();
    assert_eq!(unnamed.question, Err(ExactOnly::NotAQuestion));
    let numbers =
        json!({"inputs": [{"name": "TEXT", "shape": [2], "datatype": "FP32", "data": [1.5, 2]}]});
    assert_eq!(try_read(&numbers, None).unwrap().question, Err(ExactOnly::NotAQuestion));
    let two = json!({"inputs": [{"name": "TEXT", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]}]});
    assert_eq!(try_read(&two, None).unwrap().question, Err(ExactOnly::NotAQuestion));
}

#[test]
fn tensors_are_keyed_by_their_content() {
    let request = |size: usize| {
        json!({"inputs": [{"name": "X", "shape": [2], "datatype": "FP32",
            "parameters": {"binary_data_size": size}}]})
    };
    let key = |bytes: &[u8]| try_read(&request(bytes.len()), Some(bytes)).unwrap().context;
    assert_eq!(key(&[0; 8]), key(&[0; 8]));
    assert_ne!(key(&[0; 8]), key(&[0, 0, 0, 0, 0, 0, 0, 1]));
    let mut other = request(8);
    other["inputs"][0]["shape"] = json!([1, 2]);
    assert_ne!(try_read(&other, Some(&[0; 8])).unwrap().context, key(&[0; 8]));
    let mut named = request(8);
    named["id"] = "7".into();
    assert_ne!(try_read(&named, Some(&[0; 8])).unwrap().context, key(&[0; 8]), "it is echoed");
    let mut outputs = request(8);
    outputs["outputs"] = json!([{"name": "Y", "parameters": {"binary_data": true}}]);
    assert_ne!(try_read(&outputs, Some(&[0; 8])).unwrap().context, key(&[0; 8]));
    for bytes in [&[0; 7][..], &[0; 9]] {
        assert_eq!(try_read(&request(8), Some(bytes)).unwrap_err(), Unread::Unreadable);
    }
}

#[test]
fn what_the_request_does_not_hold_is_stateful() {
    let mut sequence = asked("TEXT", "hi");
    sequence["parameters"] = json!({"sequence_id": 7, "sequence_start": true});
    assert_eq!(try_read(&sequence, None).unwrap_err(), Unread::Stateful);
    sequence["parameters"] = json!({"sequence_id": 0, "sequence_start": false, "priority": 1});
    assert!(try_read(&sequence, None).is_ok());
    let mut shared = asked("TEXT", "hi");
    shared["inputs"][0]["parameters"] =
        json!({"shared_memory_region": "r", "shared_memory_byte_size": 8});
    assert_eq!(try_read(&shared, None).unwrap_err(), Unread::Stateful);
    let mut shared = asked("TEXT", "hi");
    shared["outputs"] = json!([{"name": "Y", "parameters": {"shared_memory_region": "r"}}]);
    assert_eq!(try_read(&shared, None).unwrap_err(), Unread::Stateful);
    for bad in [json!({}), json!([]), json!({"inputs": [5]}), json!({"inputs": null})] {
        assert_eq!(try_read(&bad, None).unwrap_err(), Unread::Unreadable, "{bad}");
    }
}

fn heard(body: &[u8]) -> Result<Answer, NotStorable> {
    Infer.listener(Shape::Whole).finish(body)
}

#[test]
fn answers_are_heard_with_their_tensors() {
    let text = json!({"model_name": "m", "outputs": [{"name": "Y", "datatype": "BYTES", "shape": [1], "data": ["Hello"]}]});
    assert_eq!(heard(text.to_string().as_bytes()).unwrap().text, "Hello");
    let bytes = element("Hello");
    let header = json!({"outputs": [
        {"name": "Y", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": bytes.len()}},
        {"name": "Z", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}},
    ]})
    .to_string();
    let body = [header.as_bytes(), &bytes, &[0, 0, 0, 64]].concat();
    assert_eq!(heard(&body).unwrap().text, "Hello");
    let told = Infer.header(&body, "application/octet-stream").unwrap();
    assert_eq!(told, (HEADER_LENGTH, header.len().into()));
    assert_eq!(Infer.header(header.as_bytes(), "application/json"), None);
    assert_eq!(heard(&body[..body.len() - 1]), Err(NotStorable::Unreadable));
    assert_eq!(heard(&[&body[..], &[0xFF]].concat()), Err(NotStorable::Unreadable));
    assert_eq!(heard(b"{\"error\":\"x\"}"), Err(NotStorable::UpstreamError));
    assert_eq!(heard(b"{\"outputs\":[]}"), Err(NotStorable::Unreadable));
    assert_eq!(heard(b""), Err(NotStorable::Unreadable));
}

proptest::proptest! {
    #[test]
    fn garbage_never_panics(
        header in "[\\[\\]{}\":,0-9a-z]{0,40}",
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
        length in "[0-9-]{0,3}",
    ) {
        let body = [header.as_bytes(), &bytes].concat();
        let mut headers = HeaderMap::new();
        headers.insert(HEADER_LENGTH, length.parse().unwrap());
        let rules = Rules::default();
        let _ = Infer.read(Call { path: PATH, query: "", headers: &headers, body: &body, rules });
        let _ = (heard(&body), Infer.header(&body, ""));
    }

    #[test]
    fn sizes_that_lie_never_panic(sizes in proptest::collection::vec(proptest::num::i64::ANY, 0..4)) {
        let inputs: Vec<_> = sizes.iter().map(|size| json!({"name": "X", "datatype": "BYTES",
            "shape": [1], "parameters": {"binary_data_size": size}})).collect();
        let _ = try_read(&json!({"inputs": inputs}), Some(&[1, 2, 3]));
        let answer = json!({"outputs": inputs}).to_string();
        let _ = heard(answer.as_bytes());
    }
}
