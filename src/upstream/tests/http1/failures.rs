//! What goes wrong before an answer is whole, and what may be sent again.

use http_body_util::BodyExt as _;
use tokio::join;

use crate::{
    fault::{Kind, Retry},
    upstream::tests::{
        config, open,
        origin::{Dead, Origin},
        post, text,
    },
};

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
