//! When a connection serves the next exchange, and when it is closed.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::{
    join,
    net::TcpStream,
    sync::Notify,
    time::{advance, pause, resume, timeout},
};

use crate::{
    fault::{Fault, Kind, Retry},
    upstream::{
        Call, Outgoing, Reply, Upstream,
        tests::{
            begun, config, get, head, open,
            origin::{Line, Origin, reactor_turn},
            post, text,
        },
    },
};

/// Long before `timeouts.pool_idle` would close a connection that was kept.
const AT_ONCE: Duration = Duration::from_secs(10);

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

/// A connection whose second request is read and not answered.
async fn asked_twice(origin: &Origin) -> Line<TcpStream> {
    let mut line = origin.accept().await;
    line.request().await;
    line.answer("one").await;
    line.request().await;
    line
}

const CALL: Call<'static> = Call { tenant: "", prefix: None, ears: None };

/// One exchange, whose connection is kept, and then a call that is lost with it.
async fn call_on_a_kept(upstream: &Upstream) -> Result<Reply, Fault> {
    assert_eq!(text(post(upstream, "x").await.unwrap()).await, "one");
    upstream.call(head(Method::POST, "/"), Bytes::from_static(b"x"), CALL).await
}

#[tokio::test]
async fn what_is_lost_with_a_kept_connection_is_asked_again_on_a_new_one() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let serve = async {
        for answer in ["a call's", "a GET's"] {
            drop(asked_twice(&origin).await);
            let mut line = origin.accept().await;
            line.request().await;
            line.answer(answer).await;
        }
    };
    let ask = async {
        let reply = call_on_a_kept(&upstream).await.unwrap();
        assert_eq!(text(reply).await, "a call's");
        upstream.replicas[0].pool.forget();
        assert_eq!(text(post(&upstream, "x").await.unwrap()).await, "one");
        assert_eq!(text(get(&upstream, "/").await.unwrap()).await, "a GET's");
    };
    join!(serve, ask);
    let report = &upstream.report()[0];
    assert_eq!((report.connections_opened, report.failures_total, report.in_flight), (4, 0, 0));
}

#[tokio::test]
async fn what_may_do_something_twice_is_not() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let ask = async {
        assert_eq!(text(post(&upstream, "x").await.unwrap()).await, "one");
        assert_eq!(post(&upstream, "x").await.unwrap_err().kind, Kind::Reset);
    };
    join!(async { drop(asked_twice(&origin).await) }, ask);
    assert_eq!(upstream.report()[0].connections_opened, 1);
}

#[tokio::test]
async fn nor_what_was_worked_on() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let serve = async {
        let line = asked_twice(&origin).await;
        pause();
        advance(Duration::from_secs(2)).await;
        resume();
        drop(line);
    };
    let (asked, ()) = join!(call_on_a_kept(&upstream), serve);
    assert_eq!(asked.unwrap_err().kind, Kind::Reset);
    assert_eq!(upstream.report()[0].connections_opened, 1);
}

#[tokio::test]
async fn nor_what_was_answered_in_a_way_that_cannot_be_read() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let serve = async {
        let mut line = asked_twice(&origin).await;
        line.say("HTTP/1.1 what?\r\n\r\n").await;
    };
    let (asked, ()) = join!(call_on_a_kept(&upstream), serve);
    assert_eq!(asked.unwrap_err().kind, Kind::Reset);
    assert_eq!(upstream.report()[0].connections_opened, 1);
}

/// A prompt that kills its server is lost, and not unsent: no other server gets it past the budget.
#[tokio::test]
async fn a_second_loss_is_told_as_the_first_one() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let serve = async {
        let line = asked_twice(&origin).await;
        drop(origin);
        drop(line);
    };
    let (asked, ()) = join!(call_on_a_kept(&upstream), serve);
    let fault = asked.unwrap_err();
    assert_eq!((fault.kind, fault.retry), (Kind::Reset, Retry::Unsafe));
    assert_eq!(upstream.report()[0].failures_total, 1);
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
async fn a_dropped_body_closes_the_connection_at_once() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let (body, mut line) = begun(&upstream, &origin).await;
    assert_eq!(upstream.report()[0].in_flight, 1);
    drop(body);
    assert_eq!(upstream.report()[0].in_flight, 0);
    timeout(AT_ONCE, line.closed()).await.unwrap();
}

#[tokio::test]
async fn a_dropped_request_closes_the_connection_at_once() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let mut line = tokio::select! {
        _ = post(&upstream, "x") => panic!("nobody answered"),
        line = async { let mut line = origin.accept().await; line.request().await; line } => line,
    };
    timeout(AT_ONCE, line.closed()).await.unwrap();
    assert_eq!(upstream.report()[0].in_flight, 0);
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
