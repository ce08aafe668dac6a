//! Each limit on a paused clock. Sockets are real, so the clock is paused only once the script has
//! come to the silence that is under test: a paused clock jumps whenever nothing is runnable.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use socket2::{Domain, Socket, Type};
use tokio::{
    join,
    time::{Instant, pause, resume, sleep},
};

use super::{begun, config, head, open, origin::Origin, post, text};
use crate::{
    config::Span,
    fault::{Kind, Retry},
    upstream::Outgoing,
};

/// A listening socket whose queue is full: the kernel drops what else wants to connect.
fn black_hole() -> (Socket, Vec<Socket>, String) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    for _ in 0..4 {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        let _in_progress = filler.connect(&address);
        queued.push(filler);
    }
    let url = format!("http://{}", address.as_socket().unwrap());
    (listener, queued, url)
}

#[tokio::test(start_paused = true)]
async fn connecting_has_a_limit() {
    let (_listener, _queued, url) = black_hole();
    let mut config = config(&[url]);
    config.timeouts.connect = Span(Duration::from_secs(2));
    let (_all, upstream) = open(&config);
    let began = Instant::now();
    let fault = post(&upstream, "x").await.unwrap_err();
    assert_eq!((fault.kind, fault.retry), (Kind::ConnectTimeout, Retry::Safe));
    assert_eq!(began.elapsed().as_secs(), 2);
    assert!(fault.message.contains("timeouts.connect"), "{fault}");
}

#[tokio::test]
async fn the_first_byte_has_a_limit() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let (failed, mut line) = join!(post(&upstream, "x"), async {
        let mut line = origin.accept().await;
        line.request().await;
        pause();
        line
    });
    let fault = failed.unwrap_err();
    assert_eq!((fault.kind, fault.retry), (Kind::FirstByteTimeout, Retry::Unsafe));
    line.closed().await;
}

#[tokio::test]
async fn silence_inside_an_answer_has_a_limit_and_a_slow_reader_is_not_silence() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let (mut body, mut line) = begun(&upstream, &origin).await;
    pause();
    // The reader is away for longer than `timeouts.idle`.
    sleep(Duration::from_secs(90)).await;
    resume();
    let (second, ()) = join!(body.frame(), line.say("1\r\nb\r\n"));
    assert_eq!(second.unwrap().unwrap().into_data().unwrap(), "b");
    pause();
    let began = Instant::now();
    let fault = body.frame().await.unwrap().unwrap_err();
    assert_eq!(fault.kind, Kind::IdleTimeout);
    assert_eq!(began.elapsed().as_secs(), 60);
    resume();
    line.closed().await;
}

#[tokio::test]
async fn a_whole_exchange_has_a_limit_even_if_it_never_pauses() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let (mut body, mut line) = begun(&upstream, &origin).await;
    line.say("1\r\nb\r\n").await;
    pause();
    tokio::time::advance(Duration::from_secs(15 * 60)).await;
    resume();
    let fault = body.frame().await.unwrap().unwrap_err();
    assert_eq!(fault.kind, Kind::LifetimeTimeout);
    line.closed().await;
}

#[tokio::test]
async fn a_slow_upload_does_not_run_into_the_first_byte_limit() {
    let origin = Origin::bind().await;
    let mut config = config(&[origin.url()]);
    config.timeouts.first_byte = Span(Duration::from_secs(30));
    let (_all, upstream) = open(&config);
    // Three pieces, 20 s apart: a minute in all.
    let pieces = futures_util::StreamExt::then(futures_util::stream::iter(0..3), |_| async {
        pause();
        sleep(Duration::from_secs(20)).await;
        resume();
        Ok(Frame::data(Bytes::from_static(b"piece")))
    });
    let body = Outgoing::Stream(StreamBody::new(Box::pin(pieces)).boxed());
    let mut parts = head(Method::POST, "/v1/files");
    parts.headers.insert("content-length", 15.into());
    let (reply, ()) = join!(upstream.send(parts, body), async {
        let mut line = origin.accept().await;
        assert_eq!(line.request().await.1, "piecepiecepiece");
        line.answer("ok").await;
    });
    assert_eq!(text(reply.unwrap()).await, "ok");
}

#[tokio::test]
async fn an_unused_connection_is_closed_after_its_time() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let (reply, mut line) = join!(post(&upstream, "x"), async {
        let mut line = origin.accept().await;
        line.request().await;
        line.answer("").await;
        line
    });
    drop(reply);
    pause();
    // Far from the thirty seconds: some may have passed before the pause.
    sleep(Duration::from_secs(20)).await;
    assert_eq!(upstream.report()[0].idle_connections, 1);
    sleep(Duration::from_secs(12)).await;
    assert_eq!(upstream.report()[0].idle_connections, 0);
    line.closed().await;
}
