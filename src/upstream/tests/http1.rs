//! HTTP/1.1: requests as they arrive, framing, trailers, uploads; connections and failures beside it.

mod connections;
mod failures;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::join;

use super::{collect, config, head, open, origin::Origin, post, text};
use crate::{
    fault::{Fault, Kind},
    upstream::{Outgoing, Protocol},
};

fn streamed(pieces: Vec<Result<Bytes, Fault>>) -> Outgoing {
    let frames = stream::iter(pieces.into_iter().map(|piece| piece.map(Frame::data)));
    Outgoing::Stream(StreamBody::new(frames).boxed())
}

#[tokio::test]
async fn the_request_arrives_as_the_replica_expects_it() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[format!("{}/base/", origin.url())]));
    let mut parts = head(Method::POST, "/v1/x?q=1");
    parts.headers.insert("host", "client.example".parse().unwrap());
    parts.headers.insert("content-length", "999".parse().unwrap());
    let send = upstream.send(parts, Outgoing::Whole("hello".into()));
    let (reply, (request_head, body)) = join!(send, async {
        let mut line = origin.accept().await;
        let request = line.request().await;
        line.answer("hi").await;
        request
    });
    let host = origin.listener.local_addr().unwrap();
    let expected =
        format!("POST /base/v1/x?q=1 HTTP/1.1\r\nhost: {host}\r\ncontent-length: 5\r\n\r\n");
    assert_eq!((request_head, body.as_str()), (expected, "hello"));
    let reply = reply.unwrap();
    assert_eq!(reply.protocol, Protocol::Http1);
    assert!(reply.timing.connect.is_some());
    assert_eq!(text(reply).await, "hi");
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let (reply, ()) = join!(post(&upstream, "x"), async {
        let mut line = origin.accept().await;
        line.request().await;
        line.say("HTTP/1.0 200 OK\r\n\r\nto the end").await;
    });
    assert_eq!(text(reply.unwrap()).await, "to the end");
    assert_eq!(upstream.report()[0].idle_connections, 0);
}

#[tokio::test]
async fn informational_answers_are_skipped() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let (reply, ()) = join!(post(&upstream, "x"), async {
        let mut line = origin.accept().await;
        line.say("HTTP/1.1 100 Continue\r\n\r\n").await;
        line.request().await;
        line.say("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n").await;
        line.answer("real").await;
    });
    let reply = reply.unwrap();
    assert_eq!(reply.head.status, StatusCode::OK);
    assert_eq!(text(reply).await, "real");
}

#[tokio::test]
async fn trailers_come_through() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let (reply, _line) = join!(post(&upstream, "x"), async {
        let mut line = origin.accept().await;
        line.request().await;
        line.say("HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n").await;
        line.say("1\r\na\r\n0\r\nx-sum: 7\r\n\r\n").await;
        line
    });
    let collected = collect(reply.unwrap()).await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "7");
    assert_eq!(upstream.report()[0].idle_connections, 1);
}

#[tokio::test]
async fn a_large_upload_streams_through() {
    const PIECE: usize = 64 * 1024;
    const PIECES: usize = 256;
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let pieces = vec![Ok(Bytes::from(vec![b'x'; PIECE])); PIECES];
    let mut parts = head(Method::POST, "/v1/files");
    parts.headers.insert("content-length", (PIECE * PIECES).into());
    let (reply, _line) = join!(upstream.send(parts, streamed(pieces)), async {
        let mut line = origin.accept().await;
        line.head().await;
        for _ in 0..PIECES {
            assert!(line.bytes(PIECE).await.iter().all(|byte| *byte == b'x'));
        }
        line.answer("stored").await;
        line
    });
    assert_eq!(text(reply.unwrap()).await, "stored");
    assert_eq!(upstream.report()[0].idle_connections, 1);
}

#[tokio::test]
async fn an_early_answer_ends_the_upload_and_its_connection() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let endless = stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b'x'; 4096]))));
    let body = Outgoing::Stream(StreamBody::new(endless).boxed());
    let send = upstream.send(head(Method::POST, "/v1/files"), body);
    let serve = async {
        let mut line = origin.accept().await;
        line.head().await;
        line.say("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig").await;
        line.closed().await;
    };
    let ask = async {
        let reply = send.await.unwrap();
        assert_eq!(reply.head.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(text(reply).await, "big");
    };
    join!(ask, serve);
    assert_eq!(upstream.report()[0].idle_connections, 0);
}

#[tokio::test]
async fn a_failing_upload_is_the_clients_fault() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let gone = Fault::new(Kind::BodyAborted, "the client left");
    let body = streamed(vec![Ok("half".into()), Err(gone)]);
    let (failed, ()) = join!(upstream.send(head(Method::POST, "/"), body), async {
        origin.accept().await.closed().await;
    });
    assert_eq!(failed.unwrap_err().kind, Kind::BodyAborted);
}
