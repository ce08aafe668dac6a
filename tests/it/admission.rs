//! Only complete, clean answers are kept; everybody still gets what the upstream sent.

use bytes::Bytes;
use serde_json::json;

use crate::{
    client::Ask,
    origin::{Origin, Reply, Step},
    proxy::Setup,
    talk::{done, event, events, finish, piece, usage, whole},
};

/// Asks twice: neither answer may come from the cache.
async fn never_kept(name: &str, reply: Reply, ask: Ask) {
    let script = reply.clone();
    let origin = Origin::start(move |_, _| script.clone()).await;
    let proxy = Setup::new(&origin).open().await;
    for call in 1..=2 {
        let answer = proxy.send(&ask).await;
        assert_eq!(answer.x_cache(), "MISS", "{name}");
        assert!(!answer.cache_status().hit, "{name}");
        proxy.landed().await;
        assert_eq!(origin.calls(), call, "{name}");
    }
    assert_eq!(proxy.house().cache.memory().0, 0, "{name}");
}

async fn stream_never_kept(name: &str, said: impl IntoIterator<Item = Bytes>) {
    never_kept(name, Reply::stream(said), Ask::stream("why?")).await;
}

async fn whole_never_kept(name: &str, reply: Reply) {
    never_kept(name, reply, Ask::chat("why?")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_answers() {
    let body = whole("one", "stop");
    let short = Reply::json(body.clone()).length(body.len() + 10);
    whole_never_kept("shorter than announced", short.then(Step::Cut)).await;
    let cut = [Step::Send(piece("one")), Step::Cut];
    never_kept("cut", Reply::stream(cut), Ask::stream("why?")).await;
    let all_but_the_end = events(&["one"]).into_iter().map(Step::Send).chain([Step::Cut]);
    never_kept("no last chunk", Reply::stream(all_but_the_end), Ask::stream("why?")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_end_wrong() {
    let failed = || event(&json!({"error": {"message": "out of memory", "code": 500}}));
    stream_never_kept("no [DONE]", [piece("one"), finish("stop")]).await;
    stream_never_kept("an error first", [failed(), done()]).await;
    stream_never_kept("an error later", [piece("one"), failed(), done()]).await;
    let named = Bytes::from("event: error\ndata: {\"message\":\"no\"}\n\n");
    stream_never_kept("an error event", [piece("one"), named, finish("stop"), done()]).await;
    stream_never_kept("length", [piece("one"), finish("length"), done()]).await;
    stream_never_kept("filter", [piece("one"), finish("content_filter"), done()]).await;
    stream_never_kept("a new reason", [piece("one"), finish("tired"), done()]).await;
    stream_never_kept("no reason", [piece("one"), done()]).await;
    stream_never_kept("empty", [finish("stop"), usage(), done()]).await;
    stream_never_kept("nothing", [done()]).await;
    stream_never_kept("garbage", [Bytes::from("what is this?")]).await;
    stream_never_kept("bad JSON", [Bytes::from("data: {\"choices\n\n"), done()]).await;
    let refused = event(&json!({"choices": [{"index": 0, "delta": {"refusal": "No."}}]}));
    stream_never_kept("refusal", [refused, finish("stop"), done()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_answers() {
    whole_never_kept("length", Reply::json(whole("one", "length"))).await;
    whole_never_kept("filter", Reply::json(whole("one", "content_filter"))).await;
    whole_never_kept("empty", Reply::json(whole("", "stop"))).await;
    whole_never_kept("no body", Reply::json(Bytes::new())).await;
    whole_never_kept("garbage", Reply::json(Bytes::from("<html>"))).await;
    let refused = json!({"choices": [{
        "index": 0, "finish_reason": "stop", "message": {"content": null, "refusal": "No."},
    }]});
    whole_never_kept("refusal", Reply::json(Bytes::from(refused.to_string()))).await;
    let failed = json!({"error": {"message": "out of memory"}});
    whole_never_kept("error", Reply::json(Bytes::from(failed.to_string()))).await;
    let both = json!({"error": {"message": "late"}, "choices": [{
        "index": 0, "finish_reason": "stop", "message": {"content": "one"},
    }]});
    whole_never_kept("error beside an answer", Reply::json(Bytes::from(both.to_string()))).await;
    let gzip = Reply::json(Bytes::from_static(b"\x1f\x8b\x08")).header("content-encoding", "gzip");
    whole_never_kept("compressed", gzip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_statuses() {
    for status in [201, 202, 206, 400, 401, 404, 429, 500, 503] {
        let reply = Reply::json(whole("one", "stop")).status(status);
        whole_never_kept(&status.to_string(), reply).await;
    }
    let nothing = Reply::raw([Bytes::from("HTTP/1.1 204 No Content\r\n\r\n")]);
    whole_never_kept("204", nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_larger_than_the_limit() {
    let origin = Origin::start(|_, _| Reply::json(whole(&"x".repeat(2_000), "stop"))).await;
    let proxy = Setup::new(&origin).with("cache.max_entry = \"1KiB\"").open().await;
    for call in 1..=2 {
        assert_eq!(proxy.send(&Ask::chat("why?")).await.body, whole(&"x".repeat(2_000), "stop"));
        assert_eq!(origin.calls(), call);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_what_was_sent() {
    let tool = event(&json!({"choices": [{"index": 0, "delta": {"tool_calls": [
        {"index": 0, "id": "c1", "function": {"name": "look", "arguments": "{}"}},
    ]}, "finish_reason": null}]}));
    let odd = Bytes::from(": a comment\r\n\r\ndata:{\"choices\":[]}\r\n\r\n");
    let kept: [(&str, Vec<Bytes>); 3] = [
        ("text", events(&["one", " two"])),
        ("a tool call", vec![tool, finish("tool_calls"), done()]),
        ("oddly framed", vec![odd, piece("one"), finish("stop"), usage(), done()]),
    ];
    for (name, said) in kept {
        let script = said.clone();
        let origin = Origin::start(move |_, _| Reply::stream(script.clone())).await;
        let proxy = Setup::new(&origin).open().await;
        let miss = proxy.send(&Ask::stream("why?")).await;
        let hit = proxy.send(&Ask::stream("why?")).await;
        assert_eq!((miss.x_cache(), hit.x_cache()), ("MISS", "HIT"), "{name}");
        assert_eq!(miss.body, said.concat(), "{name}");
        assert_eq!(hit.body, said.concat(), "{name}");
        assert_eq!(hit.header("content-type"), "text/event-stream", "{name}");
    }
}
