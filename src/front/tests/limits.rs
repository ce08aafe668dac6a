//! What one client can take from all others.

use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{pause, resume, sleep};

use super::*;

#[tokio::test]
async fn a_head_that_is_too_big_gets_431() {
    let mut config = settings();
    config.limits.header_bytes = Size(8192);
    let front = serve(&config).await;
    let mut head = b"GET / HTTP/1.1\r\nhost: a\r\nx-long: ".to_vec();
    head.resize(8192, b'x');
    let said = front.raw(head).await;
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
    assert_eq!(front.requests(), 0);
}

#[tokio::test]
async fn a_target_that_is_too_long_gets_414() {
    let mut config = settings();
    config.limits.header_bytes = Size(128 << 10);
    let front = serve(&config).await;
    let said = front.raw(format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(70_000))).await;
    assert!(said.starts_with("HTTP/1.1 414 "), "{said}");
}

#[tokio::test]
async fn too_many_headers_get_431() {
    for limit in [100, 20] {
        let mut config = settings();
        config.limits.header_count = limit;
        let front = serve(&config).await;
        let lines: String = (0..limit).map(|n| format!("x-{n}: 1\r\n")).collect();
        let said = front.raw(format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n")).await;
        assert!(said.starts_with("HTTP/1.1 431 "), "{limit}: {said}");
        assert_eq!(front.requests(), 0);
    }
}

#[tokio::test]
async fn too_many_headers_get_431_in_http_2_and_the_connection_lives() {
    let mut config = settings();
    config.limits.header_count = 20;
    let front = serve(&config).await;
    let io = TokioIo::new(front.connect().await);
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    for (headers, status) in [(21, 431), (3, 200)] {
        let mut request = Request::get("http://a/");
        for n in 0..headers {
            request = request.header(format!("x-{n}"), "1");
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), status);
    }
    assert_eq!(front.requests(), 1);
    connection.abort();
}

#[tokio::test]
async fn clients_that_never_finish_a_head_are_closed() {
    let mut config = settings();
    config.limits.header_time = millis(150);
    let front = serve(&config).await;
    let partial: [&[u8]; 5] = [
        b"",
        b"GET / HTTP/1.1\r\nhost: a\r\nx",
        b"PRI * HTT",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        // The same with an empty SETTINGS frame; our SETTINGS, GOAWAY and pings go unanswered.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ];
    for sent in partial {
        front.raw(sent).await;
    }
    assert_eq!(front.requests(), 0);
}

#[tokio::test]
async fn an_idle_keep_alive_connection_is_closed() {
    let mut config = settings();
    config.limits.header_time = millis(10_000);
    let front = serve(&config).await;
    let mut client = front.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let said = one_response(&mut client).await;
    assert!(said.ends_with("hello"), "{said}");
    pause();
    assert_eq!(until_closed(&mut client).await, "");
}

#[tokio::test]
async fn a_long_answer_is_not_idleness() {
    let mut config = settings();
    config.limits.header_time = millis(10_000);
    let front = serve(&config).await;
    let mut client = front.connect().await;
    client.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    soon(front.stage.waiting.notified()).await;
    // Five times the limit: were it counted as idle, the answer could not come.
    pause();
    sleep(Duration::from_secs(50)).await;
    resume();
    front.stage.go.add_permits(1);
    let said = one_response(&mut client).await;
    assert!(said.ends_with("waited"), "{said}");
}

#[tokio::test]
async fn a_reader_that_stalls_is_dropped() {
    let mut config = settings();
    config.limits.write_stall = millis(150);
    let front = serve(&config).await;
    let mut client = front.connect().await;
    client.write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    soon(front.stage.dropped.notified()).await;
    assert_eq!(front.tally.stalls(), 1);
}

#[tokio::test]
async fn a_stream_that_gets_no_window_is_reset_and_its_siblings_live() {
    let mut config = settings();
    config.limits.write_stall = millis(10_000);
    let front = serve(&config).await;
    let io = TokioIo::new(front.connect().await);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(16 << 10);
    let (mut client, connection) = builder.handshake::<_, Empty<Bytes>>(io).await.unwrap();
    let connection = tokio::spawn(connection);
    let get = |path| Request::get(format!("http://a{path}")).body(Empty::new()).unwrap();

    let stalled = client.send_request(get("/endless")).await.unwrap();
    pause();
    soon(front.stage.dropped.notified()).await;
    assert_eq!(front.tally.stalls(), 1);
    resume();
    assert!(stalled.into_body().collect().await.is_err(), "reset, not ended");
    let sibling = client.send_request(get("/")).await.unwrap();
    assert_eq!(sibling.into_body().collect().await.unwrap().to_bytes(), "hello");
    connection.abort();
}

#[tokio::test]
async fn beyond_the_connection_limit_clients_wait_in_the_backlog() {
    let mut config = settings();
    config.limits.connections = 1;
    let front = serve(&config).await;
    let ask = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut first = front.connect().await;
    first.write_all(ask).await.unwrap();
    one_response(&mut first).await;

    let mut second = front.connect().await;
    second.write_all(ask).await.unwrap();
    first.write_all(ask).await.unwrap();
    one_response(&mut first).await;
    assert_eq!((front.tally.accepted(), front.tally.open()), (1, 1));

    drop(first);
    let said = one_response(&mut second).await;
    assert!(said.ends_with("hello"), "{said}");
    assert_eq!((front.tally.accepted(), front.tally.open()), (2, 1));
}

#[tokio::test]
async fn a_body_that_is_too_large_gets_413_after_the_client_could_send_it() {
    let mut config = settings();
    config.limits.body_bytes = Size(1 << 20);
    let front = serve(&config).await;
    // As large as the limit and the drain together, in one write that must not break.
    let mut request =
        format!("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", 2 << 20)
            .into_bytes();
    request.resize(request.len() + (2 << 20), b'x');
    let said = front.raw(request).await;
    assert!(said.starts_with("HTTP/1.1 413 ") && said.contains("body_too_large"), "{said}");
}

#[tokio::test]
async fn a_body_that_stops_coming_gets_408() {
    let mut config = settings();
    config.limits.body_idle = millis(100);
    let front = serve(&config).await;
    let said = front.raw("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf").await;
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_body_ends_its_handler() {
    let mut front = serve(&settings()).await;
    let mut client = front.connect().await;
    client
        .write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf")
        .await
        .unwrap();
    drop(client);
    front.signals.drain.cancel();
    assert_eq!(front.drained().await, Drained { cut: 0 });
}
