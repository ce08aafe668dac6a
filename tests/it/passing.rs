//! What the cache has no part in goes through byte for byte.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    client::{self, Answer, Ask, CHAT},
    origin::{Gate, Origin, Reply, Step},
    proxy::{Setup, patiently},
    talk,
};

fn passed(answer: &Answer, reason: &str) {
    let status = answer.cache_status();
    assert_eq!(answer.x_cache(), "BYPASS");
    assert_eq!((status.fwd.as_deref(), status.detail.as_deref()), (Some("bypass"), Some(reason)));
    assert!(answer.complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_paths_and_methods() {
    let body = Bytes::from_static(b"\x00\xff any bytes \r\n\r\n");
    let script = body.clone();
    let origin = Origin::start(move |seen, _| {
        let reply = Reply::json(script.clone()).header("x-odd", "a, b;c=\"d\"");
        if seen.method == "HEAD" { Reply::json(Bytes::new()).length(script.len()) } else { reply }
    })
    .await;
    let proxy = Setup::new(&origin).open().await;
    for (method, target) in [
        (Method::GET, "/v1/models?limit=2&x=%20y"),
        (Method::DELETE, "/v1/files/a%2Fb"),
        (Method::PATCH, "/anything"),
        (Method::OPTIONS, CHAT),
        (Method::GET, CHAT),
        (Method::POST, "/v1/images/generations"),
        (Method::PUT, "/"),
        (Method::HEAD, "/v1/models"),
    ] {
        for _ in 0..2 {
            let sent = if method == Method::GET || method == Method::HEAD { "" } else { "in\0out" };
            let answer = proxy.send(&Ask::new(method.clone(), target, sent)).await;
            passed(&answer, "not_cacheable");
            let seen = origin.last();
            assert_eq!((seen.method.as_str(), seen.target.as_str()), (method.as_str(), target));
            assert_eq!(seen.body, sent.as_bytes());
            if method == Method::HEAD {
                assert_eq!((answer.body.len(), answer.header("content-length")), (0, "17"));
            } else {
                assert_eq!(
                    (&answer.body, answer.header("x-odd")),
                    (&body.to_vec(), "a, b;c=\"d\"")
                );
            }
        }
    }
    assert_eq!(origin.calls(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_the_upstream_are_its_own_words() {
    for status in [400, 401, 404, 429, 500, 503] {
        let body = Bytes::from(format!("{{\"odd\": {status}}}\n"));
        let script = body.clone();
        let origin = Origin::start(move |_, _| {
            Reply::json(script.clone()).status(status).header("retry-after", "7")
        })
        .await;
        let proxy = Setup::new(&origin).open().await;
        for ask in [Ask::new(Method::GET, "/v1/models", ""), Ask::chat("why?"), Ask::stream("why?")]
        {
            let answer = proxy.send(&ask).await;
            assert_eq!((answer.status.as_u16(), &answer.body), (status, &body.to_vec()));
            assert_eq!(answer.header("retry-after"), "7");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_streams_through() {
    const PIECES: usize = 1_024;
    let origin =
        Origin::start(|seen, _| Reply::json(Bytes::from(seen.body.len().to_string()))).await;
    // Far larger than what is read whole.
    let proxy = Setup::new(&origin).with("limits.body_bytes = \"1MiB\"").open().await;
    let piece = Bytes::from(vec![b'u'; 64 << 10]);
    let pieces = futures_util::stream::iter(
        (0..PIECES).map(move |_| Ok::<_, std::io::Error>(Frame::data(piece.clone()))),
    );
    let request = Request::post("/v1/files").header("host", "x").body(StreamBody::new(pieces));
    let live = patiently(client::open_with(proxy.address, request.unwrap())).await.unwrap();
    let answer = patiently(live.rest()).await;
    passed(&answer, "not_cacheable");
    assert_eq!(answer.text(), (PIECES * (64 << 10)).to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_other_paths_come_as_they_are_made() {
    let gate = Gate::new();
    let script = gate.clone();
    let origin = Origin::start(move |_, _| {
        let first = [Step::Send("data: 1\n\n".into()), Step::Await(script.clone())];
        Reply::stream(
            first
                .into_iter()
                .chain([Step::Send("data: 2\n\n".into()), Step::Trailer("x-checksum", "abc")]),
        )
        .header("trailer", "x-checksum")
    })
    .await;
    let proxy = Setup::new(&origin).open().await;
    let ask = Ask::new(Method::POST, "/v1/audio/speech", "{}").header("te", "trailers");
    let mut live = proxy.live(&ask).await;
    assert_eq!(live.read(9).await, b"data: 1\n\n");
    gate.open();
    let answer = live.rest().await;
    assert_eq!(answer.text(), "data: 2\n\n");
    assert!(answer.complete);
    let over_h2 = client::Http2::connect(proxy.address).await;
    let answer = over_h2.open(&ask).await.unwrap().rest().await;
    assert_eq!(answer.trailers.unwrap()["x-checksum"], "abc");
}

/// What the dialect is not certain of is for the model server to judge.
#[tokio::test(flavor = "multi_thread")]
async fn unreadable_requests() {
    let origin = Origin::start(|seen, _| Reply::json(Bytes::from(seen.body.clone()))).await;
    let proxy = Setup::new(&origin).open().await;
    let deep = format!("{{\"messages\":{}1{}}}", "[".repeat(5_000), "]".repeat(5_000));
    let bodies: [&[u8]; 14] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{\"model\":\"m\"}",
        b"{\"messages\":[]}",
        b"{\"messages\":\"why?\"}",
        b"{\"messages\":[7]}",
        b"{\"messages\":[{\"role\":\"user\",\"content\":7}]}",
        b"{\"messages\":[{\"content\":\"why?\"}]}",
        b"{\"stream\":\"yes\",\"messages\":[{\"role\":\"user\",\"content\":\"why?\"}]}",
        b"{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\xfe\"}]}",
        b"{\"messages\":[{\"role\":\"user\",\"content\":\"\\ud800\"}]}",
        deep.as_bytes(),
    ];
    for body in bodies {
        for _ in 0..2 {
            let ask = Ask { body: Bytes::copy_from_slice(body), ..Ask::chat("") };
            let answer = proxy.send(&ask).await;
            passed(&answer, "unreadable_request");
            assert_eq!(answer.body, body);
            assert_eq!(origin.last().body, body);
        }
    }
    let compressed = Ask::chat("why?").header("content-encoding", "gzip");
    passed(&proxy.send(&compressed).await, "encoded_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_in_the_dialects_shape() {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).with("limits.body_bytes = \"64KiB\"").open().await;
    let answer = proxy.send(&Ask::chat(&"why? ".repeat(20_000))).await;
    assert_eq!(answer.status, 413);
    let error = &answer.json()["error"];
    assert_eq!(
        (&error["code"], &error["type"]),
        (&"body_too_large".into(), &"invalid_request_error".into(),)
    );
    assert_eq!(origin.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn expect_100_continue_is_answered() {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).open().await;
    for target in [CHAT, "/v1/embeddings"] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        let body = &Ask::chat("why?").body;
        let head = format!(
            "POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\
             connection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut interim = [0; 25];
        patiently(stream.read_exact(&mut interim)).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(body).await.unwrap();
        let mut answer = String::new();
        patiently(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!((origin.last().header("expect"), &origin.last().body), ("", &body.to_vec()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_cache_off_it_is_a_plain_proxy() {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).with("cache.enabled = false").open().await;
    for _ in 0..2 {
        passed(&proxy.send(&Ask::stream("why?")).await, "cache_off");
    }
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_of_one_http2_connection() {
    let origin = Origin::start(talk::model).await;
    let proxy = Setup::new(&origin).open().await;
    let over_h2 = client::Http2::connect(proxy.address).await;
    let answers = (0..60).map(|number| {
        let (over_h2, ask) = (&over_h2, Ask::stream(&format!("why {}?", number % 6)));
        async move { over_h2.open(&ask).await.unwrap().rest().await }
    });
    for answer in patiently(futures_util::future::join_all(answers)).await {
        assert!(answer.complete && answer.text().ends_with("[DONE]\n\n"));
    }
    assert_eq!(origin.calls(), 6);
}
