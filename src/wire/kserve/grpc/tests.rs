//! The messages here are written by prost, from the protocol's own field numbers.

use std::collections::BTreeMap;

use http::HeaderValue;
use prost::Message;

use super::*;
use crate::{
    fault::Kind,
    wire::{Answer, Rules, trial},
};

#[derive(Clone, PartialEq, Message)]
struct Infer {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(btree_map = "string, message", tag = "4")]
    parameters: BTreeMap<String, Parameter>,
    #[prost(message, repeated, tag = "5")]
    inputs: Vec<Tensor>,
    #[prost(message, repeated, tag = "6")]
    outputs: Vec<Output>,
    #[prost(bytes, repeated, tag = "7")]
    raw: Vec<Vec<u8>>,
    /// A field of a later version.
    #[prost(string, tag = "8")]
    later: String,
}

#[derive(Clone, PartialEq, Message)]
struct Parameter {
    #[prost(int64, tag = "2")]
    int: i64,
    #[prost(string, tag = "3")]
    string: String,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
    #[prost(btree_map = "string, message", tag = "4")]
    parameters: BTreeMap<String, Parameter>,
    #[prost(message, optional, tag = "5")]
    contents: Option<Contents>,
}

#[derive(Clone, PartialEq, Message)]
struct Contents {
    #[prost(float, repeated, tag = "6")]
    fp32: Vec<f32>,
    #[prost(bytes, repeated, tag = "8")]
    bytes: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Output {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(btree_map = "string, message", tag = "2")]
    parameters: BTreeMap<String, Parameter>,
}

#[derive(Clone, PartialEq, Message)]
struct Told {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<Tensor>,
    #[prost(bytes, repeated, tag = "6")]
    raw: Vec<Vec<u8>>,
}

fn framed(message: &impl Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    [&[0][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes(), &bytes].concat()
}

fn try_read(body: &[u8]) -> Result<Prompt, Unread> {
    let text_inputs = ["text_input".to_owned()];
    let rules = Rules { text_inputs: &text_inputs, ..Rules::default() };
    let kind = HeaderValue::from_static("application/grpc");
    let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, kind)]);
    ModelInfer.read(Call { path: METHOD, query: "", headers: &headers, body, rules })
}

fn element(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes()].concat()
}

fn tensor(name: &str, datatype: &str, shape: &[i64]) -> Tensor {
    Tensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: shape.into(),
        ..Tensor::default()
    }
}

fn numbers() -> Infer {
    Infer {
        model_name: "m".into(),
        inputs: vec![tensor("X", "FP32", &[1, 2])],
        raw: vec![vec![0, 1, 2, 3, 4, 5, 6, 7]],
        ..Infer::default()
    }
}

fn words(text: &str) -> Infer {
    Infer {
        model_name: "m".into(),
        inputs: vec![tensor("text_input", "BYTES", &[1, 1])],
        raw: vec![element(text)],
        ..Infer::default()
    }
}

fn parameter(name: &str, int: i64) -> BTreeMap<String, Parameter> {
    BTreeMap::from([(name.to_owned(), Parameter { int, string: String::new() })])
}

#[test]
fn numbers_are_known_by_all_that_they_are() {
    let one = try_read(&framed(&numbers())).unwrap();
    assert_eq!((&*one.model, &one.question), ("m", &Err(ExactOnly::NotAQuestion)));
    assert_eq!(one.context, try_read(&framed(&numbers())).unwrap().context);
    let changes: [fn(&mut Infer); 9] = [
        |infer| infer.raw[0][0] = 9,
        |infer| infer.inputs[0].shape = vec![2, 1],
        |infer| infer.inputs[0].datatype = "INT32".into(),
        |infer| infer.inputs[0].name = "Y".into(),
        |infer| infer.model_name = "n".into(),
        |infer| infer.id = "7".into(),
        |infer| infer.parameters = parameter("priority", 1),
        |infer| infer.outputs = vec![Output { name: "Y".into(), ..Output::default() }],
        |infer| {
            infer.raw.clear();
            let fp32 = vec![1.0, 2.0];
            infer.inputs[0].contents = Some(Contents { fp32, ..Contents::default() });
        },
    ];
    let mut seen = vec![one.context];
    for change in changes {
        let mut other = numbers();
        change(&mut other);
        seen.push(try_read(&framed(&other)).unwrap().context);
    }
    seen.sort_by_key(|hash| *hash.as_bytes());
    seen.dedup();
    assert_eq!(seen.len(), changes.len() + 1);
}

#[test]
fn a_named_text_is_a_question_however_it_travels() {
    let raw = try_read(&framed(&words("how?"))).unwrap();
    assert_eq!(raw.question.as_deref(), Ok("how?"));
    let mut inside = words("");
    inside.raw.clear();
    let bytes = vec![b"how?".to_vec()];
    inside.inputs[0].contents = Some(Contents { bytes, ..Contents::default() });
    let inside = try_read(&framed(&inside)).unwrap();
    assert_eq!((inside.context, inside.turn), (raw.context, raw.turn));
    let other = try_read(&framed(&words("why?"))).unwrap();
    assert_eq!(other.context, raw.context);
    assert_ne!(other.turn, raw.turn);

    let mut two = words("how?");
    two.raw = vec![[element("a"), element("b")].concat()];
    two.inputs[0].shape = vec![1, 2];
    let mut twice = words("how?");
    twice.inputs.push(twice.inputs[0].clone());
    twice.raw.push(element("x"));
    let mut unnamed = words("how?");
    unnamed.inputs[0].name = "other".into();
    for infer in [two, twice, unnamed] {
        let prompt = try_read(&framed(&infer)).unwrap();
        assert_eq!(prompt.question, Err(ExactOnly::NotAQuestion));
    }
}

#[test]
fn what_the_server_alone_holds_is_not_cached() {
    let mut infer = numbers();
    infer.parameters = parameter("sequence_id", 4);
    assert_eq!(try_read(&framed(&infer)).unwrap_err(), Unread::Stateful);
    infer.parameters = parameter("sequence_id", 0);
    assert!(try_read(&framed(&infer)).is_ok());
    infer.outputs =
        vec![Output { name: "Y".into(), parameters: parameter("shared_memory_byte_size", 8) }];
    assert_eq!(try_read(&framed(&infer)).unwrap_err(), Unread::Stateful);
    let mut infer = numbers();
    let region = Parameter { int: 0, string: "region".into() };
    infer.inputs[0].parameters = BTreeMap::from([("shared_memory_region".to_owned(), region)]);
    assert_eq!(try_read(&framed(&infer)).unwrap_err(), Unread::Stateful);
}

#[test]
fn whatever_is_not_certain_is_forwarded() {
    let good = framed(&numbers());
    let mut later = numbers();
    later.later = "x".into();
    let mut missing = numbers();
    missing.raw.push(Vec::new());
    let mut both = numbers();
    both.inputs[0].contents = Some(Contents::default());
    let both = Infer { inputs: vec![both.inputs[0].clone()], ..both };
    let twice = Infer { inputs: Vec::new(), ..numbers() };
    let bad = [
        framed(&later),
        framed(&missing),
        framed(&both),
        framed(&twice),
        Vec::new(),
        [&good[..], &good].concat(),
        [&[1][..], &good[1..]].concat(),
        good[..good.len() - 1].to_vec(),
    ];
    for body in bad {
        assert_eq!(try_read(&body).unwrap_err(), Unread::Unreadable, "{body:?}");
    }
    // gRPC-Web, and what is no gRPC.
    assert_eq!(
        trial::read(&ModelInfer, METHOD, "", std::str::from_utf8(&good).unwrap()).unwrap_err(),
        Unread::Unreadable
    );
}

fn heard(body: &[u8]) -> Result<Answer, NotStorable> {
    trial::heard(&ModelInfer, Shape::Whole, body)
}

#[test]
fn an_answer_has_outputs_and_a_good_status() {
    let told = Told {
        model_name: "m".into(),
        outputs: vec![tensor("Y", "FP32", &[1]), tensor("text_output", "BYTES", &[1])],
        raw: vec![vec![0; 4], element("Hello")],
    };
    let body = framed(&told);
    assert_eq!(heard(&body).unwrap().text, "Hello");
    for bad in [&b""[..], b"\0\0\0\0\0", &body[..body.len() - 1], &[&body[..], &body].concat()] {
        assert_eq!(heard(bad), Err(NotStorable::Unreadable), "{bad:?}");
    }
    assert_eq!(ModelInfer.ended(None), Err(NotStorable::Incomplete));
    let broken = Fault::new(Kind::Cut, "gone");
    let trailers = ModelInfer.trailers(Err(&broken)).unwrap();
    assert_eq!(trailers[grpc::STATUS], "14");
    assert_eq!(ModelInfer.ended(Some(&trailers)), Err(NotStorable::UpstreamError));
    assert_eq!(ModelInfer.ended(ModelInfer.trailers(Ok(())).as_ref()), Ok(()));
}

// === ModelStreamInfer ===

#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<Tensor>,
    #[prost(bytes, repeated, tag = "6")]
    raw: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Streamed {
    #[prost(string, tag = "1")]
    error: String,
    #[prost(message, tag = "2")]
    answer: Option<Named>,
}

fn streamed(id: &str, word: &str) -> Streamed {
    let answer = Named {
        model_name: "m".into(),
        id: id.into(),
        outputs: vec![tensor("text_output", "BYTES", &[1])],
        raw: vec![element(word)],
    };
    Streamed { error: String::new(), answer: Some(answer) }
}

fn call<'a>(headers: &'a HeaderMap, body: &'a [u8]) -> Call<'a> {
    Call { path: STREAM_METHOD, query: "", headers, body, rules: Rules::default() }
}

fn headers() -> HeaderMap {
    let kind = HeaderValue::from_static("application/grpc");
    HeaderMap::from_iter([(http::header::CONTENT_TYPE, kind)])
}

#[test]
fn in_a_stream_a_request_is_the_same_whatever_its_name() {
    let headers = headers();
    let key = |id: &str| {
        let body = framed(&Infer { id: id.into(), ..numbers() });
        ModelStreamInfer.read(call(&headers, &body)).unwrap().context
    };
    assert_eq!(key("one"), key("two"));
    let alone = |id: &str| try_read(&framed(&Infer { id: id.into(), ..numbers() })).unwrap();
    assert_ne!(alone("one").context, alone("two").context);
    assert_ne!(key("one"), alone("one").context);
}

#[test]
fn steps_of_a_sequence_are_the_servers_own() {
    let headers = headers();
    let step = Infer { parameters: parameter("sequence_id", 7), ..numbers() };
    let is_step =
        |body: &[u8]| matches!(ModelStreamInfer.read(call(&headers, body)), Err(Unread::Stateful));
    assert!(is_step(&framed(&step)));
    assert!(!is_step(&framed(&numbers())));
    assert!(!is_step(b"noise"));
}

#[test]
fn an_answer_bears_the_name_of_whom_it_is_handed_to() {
    let asked = |id: &str| framed(&Infer { id: id.into(), ..numbers() });
    let told = Bytes::from(framed(&streamed("one", "Hello")));
    let given = ModelStreamInfer.readdressed(&asked("one"), told.clone());
    assert_eq!(given, told, "not a byte differs");
    for id in ["two", "", &"long".repeat(100)] {
        let given = ModelStreamInfer.readdressed(&asked(id), told.clone());
        let read = Streamed::decode(grpc::message(&given).unwrap()).unwrap();
        assert_eq!(read, streamed(id, "Hello"));
    }
    let failed = Bytes::from(framed(&Streamed { error: "no".into(), answer: None }));
    let given = ModelStreamInfer.readdressed(&asked("two"), failed);
    let read = Streamed::decode(grpc::message(&given).unwrap()).unwrap();
    assert_eq!((&*read.error, &*read.answer.unwrap().id), ("no", "two"));
    let noise = Bytes::from_static(b"noise");
    assert_eq!(ModelStreamInfer.readdressed(&asked("two"), noise.clone()), noise);
}

#[test]
fn all_answers_of_a_request_are_heard_and_none_may_be_an_error() {
    let hear = |body: &[u8]| trial::heard(&ModelStreamInfer, Shape::Whole, body);
    let parts = [framed(&streamed("", "Hel")), framed(&streamed("", "lo"))].concat();
    let last = framed(&Streamed { error: String::new(), answer: Some(Named::default()) });
    assert_eq!(hear(&parts).unwrap().text, "Hello");
    assert_eq!(hear(&[&parts[..], &last].concat()).unwrap().text, "Hello");
    assert_eq!(hear(&last), Err(NotStorable::Empty));
    let error = framed(&Streamed { error: "no".into(), ..streamed("", "Hello") });
    assert_eq!(hear(&error), Err(NotStorable::UpstreamError));
    assert_eq!(hear(&[&parts[..], &error].concat()), Err(NotStorable::UpstreamError));
    for bad in [&parts[..parts.len() - 1], b"noise"] {
        assert_eq!(hear(bad), Err(NotStorable::Unreadable), "{bad:?}");
    }
}

proptest::proptest! {
    #[test]
    fn garbage_never_panics(noise in proptest::collection::vec(0_u8.., 0..60), at in 0_usize..60) {
        let _ = (try_read(&noise), heard(&noise));
        let _ = trial::heard(&ModelStreamInfer, Shape::Whole, &noise);
        let _ = ModelStreamInfer.readdressed(&noise, Bytes::from(noise.clone()));
        // Nearly good is the more searching.
        let mut body = framed(&words("hi"));
        let place = at % body.len();
        body.splice(place..=place, noise.into_iter().take(3));
        let length = u32::try_from(body.len().saturating_sub(5)).unwrap();
        if body.len() >= 5 {
            body[1..5].copy_from_slice(&length.to_be_bytes());
        }
        let _ = (try_read(&body), heard(&body));
    }
}
