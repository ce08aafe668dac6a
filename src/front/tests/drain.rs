//! How it ends.

use super::*;

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// A client that is in the middle of `/wait`.
async fn busy(front: &Served) -> TcpStream {
    let mut client = front.connect().await;
    client.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    soon(front.stage.waiting.notified()).await;
    client
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_the_drain() {
    let mut front = serve(&settings()).await;
    let mut client = front.connect().await;
    client.write_all(ASK).await.unwrap();
    one_response(&mut client).await;
    front.signals.drain.cancel();
    assert_eq!(front.drained().await, Drained { cut: 0 });
    assert_eq!(until_closed(&mut client).await, "");
}

#[tokio::test]
async fn a_busy_connection_finishes_and_says_close() {
    let mut front = serve(&settings()).await;
    let mut client = busy(&front).await;
    front.signals.drain.cancel();
    // The listener is gone: whoever comes now is refused and tries another server.
    while TcpStream::connect(front.tcp()).await.is_ok() {}
    front.stage.go.add_permits(1);
    let said = until_closed(&mut client).await;
    assert!(said.ends_with("waited") && said.contains("connection: close"), "{said}");
    assert_eq!(front.drained().await, Drained { cut: 0 });
}

/// On a paused clock: such a connection is waited for no longer than a second.
#[tokio::test(start_paused = true)]
async fn a_connection_that_has_not_asked_yet_may_still_ask_once() {
    let mut front = serve(&settings()).await;
    let mut client = front.connect().await;
    while front.tally.accepted() == 0 {
        tokio::task::yield_now().await;
    }
    front.signals.drain.cancel();
    client.write_all(ASK).await.unwrap();
    let said = until_closed(&mut client).await;
    assert!(said.ends_with("hello") && said.contains("connection: close"), "{said}");
    assert_eq!(front.drained().await, Drained { cut: 0 });
}

#[tokio::test]
async fn what_outlasts_the_deadline_is_cut_and_counted() {
    let mut config = settings();
    config.drain.deadline = millis(100);
    let mut front = serve(&config).await;
    let mut waiting = busy(&front).await;
    let mut partial = front.connect().await;
    partial.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
    while front.tally.accepted() < 2 {
        tokio::task::yield_now().await;
    }
    front.signals.drain.cancel();
    assert_eq!(front.drained().await, Drained { cut: 2 });
    assert_eq!(front.tally.open(), 0);
    assert_eq!(until_closed(&mut waiting).await, "");
    assert_eq!(until_closed(&mut partial).await, "");
}

#[tokio::test]
async fn a_partial_head_holds_the_drain_no_longer_than_a_head_may_take() {
    let mut config = settings();
    config.limits.header_time = millis(100);
    let mut front = serve(&config).await;
    let mut partial = front.connect().await;
    partial.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    while front.tally.accepted() == 0 {
        tokio::task::yield_now().await;
    }
    front.signals.drain.cancel();
    assert_eq!(front.drained().await, Drained { cut: 0 });
}

#[tokio::test]
async fn abort_cuts_at_once_with_or_without_a_drain() {
    for drain_first in [true, false] {
        let mut front = serve(&settings()).await;
        let mut client = busy(&front).await;
        if drain_first {
            front.signals.drain.cancel();
        }
        front.signals.abort.cancel();
        assert_eq!(front.drained().await, Drained { cut: 1 });
        assert_eq!(until_closed(&mut client).await, "");
    }
}

#[tokio::test]
async fn an_http_2_stream_finishes_after_goaway() {
    use http_body_util::Empty;
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let mut front = serve(&settings()).await;
    let io = TokioIo::new(front.connect().await);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://a/wait").body(Empty::<Bytes>::new()).unwrap();
    let answer = tokio::spawn(client.send_request(request));
    soon(front.stage.waiting.notified()).await;
    front.signals.drain.cancel();
    front.stage.go.add_permits(1);
    let answer = answer.await.unwrap().unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "waited");
    assert_eq!(front.drained().await, Drained { cut: 0 });
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_http_2_stream_that_outlasts_the_deadline_is_cut_with_its_handler() {
    use http_body_util::Empty;
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let mut config = settings();
    config.drain.deadline = millis(100);
    let mut front = serve(&config).await;
    let io = TokioIo::new(front.connect().await);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://a/endless").body(Empty::<Bytes>::new()).unwrap();
    let _answer = client.send_request(request).await.unwrap();
    front.signals.drain.cancel();
    assert_eq!(front.drained().await, Drained { cut: 1 });
    soon(front.stage.dropped.notified()).await;
    let _ = connection.await.unwrap();
}
