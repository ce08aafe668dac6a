//! HTTP/1.1: connections, framing, failures, retries.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::{join, sync::Notify, time::timeout};

use super::{
    collect, config, head, open,
    origin::{Dead, Origin, reactor_turn},
    post, text,
};
use crate::{
    fault::{Fault, Kind, Retry},
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
async fn a_connection_serves_one_exchange_after_the_other() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let serve = async {
        let mut line = origin.accept().await;
        for body in ["one", "two", "three"] {
            line.request().await;
            line.answer(body).await;
        }
        line.request().await;
        line.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nfou\r\n").await;
        line.say("1\r\nr\r\n0\r\n\r\n").await;
        line
    };
    let ask = async {
        for body in ["one", "two", "three", "four"] {
            assert_eq!(text(post(&upstream, "x").await.unwrap()).await, body);
            let report = &upstream.report()[0];
            assert_eq!((report.in_flight, report.idle_connections), (0, 1));
        }
    };
    join!(serve, ask);
    assert_eq!(upstream.report()[0].connections_opened, 1);
}

#[tokio::test]
async fn answers_without_a_body_free_their_connection_at_the_head() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let serve = async {
        let mut line = origin.accept().await;
        for answer in ["200 OK\r\ncontent-length: 7", "204 No Content", "304 Not Modified"] {
            line.request().await;
            line.say(&format!("HTTP/1.1 {answer}\r\n\r\n")).await;
        }
        line.request().await;
        line.answer("").await;
        line
    };
    let ask = async {
        for (method, status) in
            [(Method::HEAD, 200), (Method::DELETE, 204), (Method::GET, 304), (Method::GET, 200)]
        {
            let sent = upstream.send(head(method, "/"), Outgoing::Whole(Bytes::new())).await;
            let reply = sent.unwrap();
            assert_eq!(reply.head.status, status);
            assert_eq!(upstream.report()[0].idle_connections, 1);
            assert_eq!(text(reply).await, "");
        }
    };
    join!(serve, ask);
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced_and_the_whole_body_sent_again() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let first = async {
        let mut line = origin.accept().await;
        line.request().await;
        line.answer("one").await;
    };
    let (reply, ()) = join!(post(&upstream, "first"), first);
    assert_eq!(text(reply.unwrap()).await, "one");
    reactor_turn().await;
    let (reply, body) = join!(post(&upstream, "second"), async {
        let mut line = origin.accept().await;
        let (_, body) = line.request().await;
        line.answer("two").await;
        body
    });
    assert_eq!(body, "second");
    assert_eq!(text(reply.unwrap()).await, "two");
    assert_eq!(upstream.report()[0].connections_opened, 2);
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_swept_away() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let (reply, line) = join!(post(&upstream, "x"), async {
        let mut line = origin.accept().await;
        line.request().await;
        line.answer("").await;
        line
    });
    drop(reply);
    upstream.replicas[0].pool.sweep();
    assert_eq!(upstream.report()[0].idle_connections, 1);
    drop(line);
    reactor_turn().await;
    upstream.replicas[0].pool.sweep();
    assert_eq!(upstream.report()[0].idle_connections, 0);
}

#[tokio::test]
async fn a_refused_connection_names_the_replica_and_is_safe_to_retry() {
    let dead = Dead::new();
    let url = dead.url();
    let (_all, upstream) = open(&config(std::slice::from_ref(&url)));
    let fault = post(&upstream, "x").await.unwrap_err();
    assert_eq!((fault.kind, fault.retry), (Kind::Connect, Retry::Safe));
    assert!(fault.message.contains("`up`") && fault.message.contains(&url), "{fault}");
}

#[tokio::test]
async fn a_host_that_does_not_resolve_says_so() {
    let (_all, upstream) = open(&config(&["http://no-such-host.invalid:1".into()]));
    let fault = post(&upstream, "x").await.unwrap_err();
    assert_eq!((fault.kind, fault.retry), (Kind::Connect, Retry::Safe));
    assert!(fault.message.contains("does not resolve"), "{fault}");
}

#[tokio::test]
async fn another_replica_gets_what_the_first_one_did_not_take() {
    let (down, origin) = (Dead::new(), Origin::bind().await);
    let urls = [down.url(), origin.url()];
    let (_all, upstream) = open(&config(&urls));
    let mut line = None;
    for _ in 0..8 {
        let serve = async {
            let mut line = match line.take() {
                Some(line) => line,
                None => origin.accept().await,
            };
            assert_eq!(line.request().await.1, "body");
            line.answer("ok").await;
            line
        };
        let (reply, served) = join!(post(&upstream, "body"), serve);
        let reply = reply.unwrap();
        assert_eq!(*reply.replica, *urls[1]);
        assert_eq!(text(reply).await, "ok");
        line = Some(served);
    }
}

#[tokio::test]
async fn a_request_that_may_have_been_read_is_not_sent_again() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url(), origin.url()]));
    let (failed, _) = join!(post(&upstream, "x"), async {
        let mut line = origin.accept().await;
        line.request().await
    });
    let fault = failed.unwrap_err();
    assert_eq!((fault.kind, fault.retry), (Kind::Reset, Retry::Unsafe));
    let opened: u64 = upstream.report().iter().map(|one| one.connections_opened).sum();
    assert_eq!(opened, 1);
}

#[tokio::test]
async fn a_garbled_answer_is_a_reset() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    for garbage in ["SSH-2.0-OpenSSH_9.2\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n"] {
        let (failed, ()) = join!(post(&upstream, "x"), async {
            let mut line = origin.accept().await;
            line.request().await;
            line.say(garbage).await;
            line.closed().await;
        });
        assert_eq!(failed.unwrap_err().kind, Kind::Reset);
    }
}

#[tokio::test]
async fn an_answer_that_ends_early_is_cut() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    for answer in [
        "content-length: 10\r\n\r\nhalf",
        "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n4\r\nha",
    ] {
        let (reply, ()) = join!(post(&upstream, "x"), async {
            let mut line = origin.accept().await;
            line.request().await;
            line.say(&format!("HTTP/1.1 200 OK\r\n{answer}")).await;
        });
        let mut body = reply.unwrap().body;
        let first = body.frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "half");
        let fault = loop {
            match body.frame().await.unwrap() {
                Ok(_) => {}
                Err(fault) => break fault,
            }
        };
        assert_eq!((fault.kind, fault.retry), (Kind::Cut, Retry::Unsafe));
        assert!(body.frame().await.is_none(), "the fault is the last item");
        let report = &upstream.report()[0];
        assert_eq!((report.in_flight, report.idle_connections), (0, 0));
    }
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
async fn a_dropped_body_closes_the_connection_at_once() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let (reply, mut line) = join!(post(&upstream, "x"), async {
        let mut line = origin.accept().await;
        line.request().await;
        line.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n").await;
        line
    });
    let mut body = reply.unwrap().body;
    body.frame().await.unwrap().unwrap();
    assert_eq!(upstream.report()[0].in_flight, 1);
    drop(body);
    assert_eq!(upstream.report()[0].in_flight, 0);
    timeout(Duration::from_millis(100), line.closed()).await.unwrap();
}

#[tokio::test]
async fn a_dropped_request_closes_the_connection_at_once() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let mut line = tokio::select! {
        _ = post(&upstream, "x") => panic!("nobody answered"),
        line = async { let mut line = origin.accept().await; line.request().await; line } => line,
    };
    timeout(Duration::from_millis(100), line.closed()).await.unwrap();
    assert_eq!(upstream.report()[0].in_flight, 0);
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

#[tokio::test]
async fn the_longest_route_of_whole_segments_wins() {
    let mut config = config(&["http://127.0.0.1:1".into()]);
    let mut other = config.upstream[0].clone();
    other.name = "models".into();
    other.routes = vec!["/v1".into(), "/v1/embeddings/".into()];
    config.upstream.push(other);
    let all = super::Upstreams::open(&config).unwrap();
    let none = http::HeaderMap::new();
    for (path, name) in [
        ("/", "up"),
        ("/v10", "up"),
        ("/v1", "models"),
        ("/v1/chat", "models"),
        ("/v1/embeddings/x", "models"),
    ] {
        assert_eq!(all.route(path, &none, None).unwrap().name(), name, "{path}");
    }
    assert!(all.route("*", &none, None).is_none());
}

/// As it happens when a client certificate was exchanged under steady load.
#[tokio::test]
async fn a_connection_that_was_in_use_when_all_were_let_go_serves_no_other_exchange() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let let_go = Notify::new();
    let serve = async {
        let mut first = origin.accept().await;
        first.request().await;
        first.say("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n").await;
        let_go.notified().await;
        first.say("one").await;
        let mut second = origin.accept().await;
        second.request().await;
        second.answer("two").await;
    };
    let ask = async {
        let reply = post(&upstream, "x").await.unwrap();
        upstream.replicas[0].pool.forget();
        let_go.notify_one();
        assert_eq!(text(reply).await, "one");
        assert_eq!(text(post(&upstream, "x").await.unwrap()).await, "two");
    };
    join!(serve, ask);
    assert_eq!(upstream.report()[0].connections_opened, 2);
}
