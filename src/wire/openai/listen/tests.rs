use proptest::prelude::*;

use super::{super::Chat, *};
use crate::wire::{Answer, Beginning, Dialect as _, NotStorable, Shape};

fn whole(body: &str) -> Result<Answer, NotStorable> {
    let mut ears = Chat.listener(Shape::Whole);
    ears.hear(body.as_bytes());
    ears.finish(body.as_bytes())
}

fn stream(body: &str) -> Result<Answer, NotStorable> {
    let mut ears = Chat.listener(Shape::Stream { usage: false });
    ears.hear(body.as_bytes());
    ears.finish(body.as_bytes())
}

const HELLO: &str = concat!(
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n",
    "data: [DONE]\n\n",
);

#[test]
fn a_complete_stream_is_an_answer() {
    let answer = stream(HELLO).unwrap();
    assert_eq!(answer.text, "Hello");
    assert_eq!(answer.usage, Some(Usage { prompt: 3, completion: 2 }));
}

#[test]
fn a_complete_body_is_an_answer() {
    let body = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
    assert_eq!(whole(body).unwrap().text, "Hello");
    let call = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"1"}]},"finish_reason":"tool_calls"}]}"#;
    assert_eq!(whole(call).unwrap(), Answer::default());
}

#[test]
fn what_must_not_be_kept_says_why() {
    use NotStorable::*;
    let cases = [
        (HELLO.replace("data: [DONE]\n\n", ""), Incomplete),
        (HELLO.replace(",\"finish_reason\":\"stop\"", ""), Incomplete),
        (HELLO.replace("\"stop\"", "\"length\""), Length),
        (HELLO.replace("\"stop\"", "\"content_filter\""), Filtered),
        (HELLO.replace("\"stop\"", "\"mystery\""), UnknownFinish),
        (HELLO.replace("Hel", "").replace("lo", ""), Empty),
        (HELLO.replace("\"content\":\"lo\"", "\"refusal\":\"no\""), Filtered),
        (HELLO.replace("data: [DONE]", "data: {\"error\":{\"message\":\"x\"}}"), UpstreamError),
        (HELLO.replace("data: {\"choices\":[],", "event: error\ndata: {"), UpstreamError),
        (HELLO.replace("{\"choices\":[],", "{{"), Unreadable),
        ("data: [DONE]\n\n".into(), Empty),
        (String::new(), Incomplete),
    ];
    for (body, why) in cases {
        assert_eq!(stream(&body), Err(why), "{body}");
    }
    for (body, why) in [
        ("{", Unreadable),
        ("{}", Empty),
        ("[]", Empty),
        (r#"{"error":{"message":"x"}}"#, UpstreamError),
        (r#"{"choices":[]}"#, Empty),
    ] {
        assert_eq!(whole(body), Err(why), "{body}");
    }
}

#[test]
fn the_beginning_tells_an_error_in_a_200() {
    let beginning = |text: &str| {
        let mut ears = Chat.listener(Shape::Stream { usage: false });
        ears.hear(text.as_bytes());
        ears.beginning()
    };
    assert_eq!(beginning(": ping\n\ndata: {\"cho"), Beginning::Silent);
    assert_eq!(beginning("data: {\"error\":{}}\n\n"), Beginning::Failed);
    assert_eq!(beginning("event: error\ndata: x\n\n"), Beginning::Failed);
    assert_eq!(beginning(HELLO), Beginning::Speaking);
}

#[test]
fn a_last_event_without_its_blank_line_counts() {
    assert!(stream(HELLO.trim_end()).is_ok());
}

proptest! {
    #[test]
    fn any_chunking_hears_the_same(cuts in proptest::collection::vec(0..HELLO.len(), 0..20)) {
        let mut cuts = cuts;
        cuts.push(HELLO.len());
        cuts.sort_unstable();
        let mut ears = Chat.listener(Shape::Stream { usage: false });
        let mut from = 0;
        for cut in cuts {
            ears.hear(&HELLO.as_bytes()[from..cut]);
            from = cut;
        }
        prop_assert_eq!(ears.finish(b""), stream(HELLO));
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut ears = Chat.listener(Shape::Stream { usage: false });
        ears.hear(&bytes);
        let _ = ears.finish(&bytes);
        let _ = Chat.listener(Shape::Whole).finish(&bytes);
    }
}
