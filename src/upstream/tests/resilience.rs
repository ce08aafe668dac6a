//! Several replicas, some of them in trouble.

use std::{cell::Cell, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Full};
use tokio::{
    join,
    sync::Notify,
    time::{Instant, pause, sleep, timeout},
};

use super::{
    config, get, head, open,
    origin::{Dead, Origin},
    post, text,
};
use crate::{
    fault::{Kind, Retry},
    upstream::{Branch, Call, Outgoing, Standing},
};

/// For what must happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn an_overloaded_replica_is_left_alone_and_its_request_goes_to_another() {
    let (busy, free) = (Origin::bind().await, Origin::bind().await);
    let (_all, upstream) = open(&config(&[busy.url(), free.url()]));
    let busy = busy.answering("429 Too Many Requests\r\nretry-after: 30", "later");
    let free = free.answering("200 OK", "now");
    for _ in 0..20 {
        let reply = post(&upstream, "x").await.unwrap();
        assert_eq!(text(reply).await, "now");
    }
    assert_eq!((busy.asked.load(Relaxed), free.asked.load(Relaxed)), (1, 20));
    let report = upstream.report();
    let standings = (report[0].standing, report[1].standing);
    assert_eq!(standings, (Standing::Holding, Standing::Ready));
    assert_eq!((report[0].in_flight, report[1].in_flight), (0, 0));
}

#[tokio::test]
async fn when_all_are_overloaded_the_client_hears_it_and_retries_stay_in_budget() {
    let origins = [Origin::bind().await, Origin::bind().await];
    let (_all, upstream) = open(&config(&origins.each_ref().map(Origin::url)));
    let origins = origins.map(|origin| origin.answering("503 Service Unavailable", "full"));
    for _ in 0..100 {
        let reply = post(&upstream, "x").await.unwrap();
        assert_eq!(reply.head.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text(reply).await, "full");
    }
    let asked: usize = origins.iter().map(|origin| origin.asked.load(Relaxed)).sum();
    // Ten saved up, a fifth of a hundred, and one a second while the test ran.
    assert!((125..=140).contains(&asked), "{asked}");
}

#[tokio::test]
async fn a_streamed_body_is_not_sent_twice() {
    let origins = [Origin::bind().await, Origin::bind().await];
    let (_all, upstream) = open(&config(&origins.each_ref().map(Origin::url)));
    let origins = origins.map(|origin| origin.answering("429 Too Many Requests", ""));
    let body = Full::new(Bytes::from_static(b"once")).map_err(|never| match never {}).boxed();
    let mut parts = head(Method::POST, "/");
    parts.headers.insert("content-length", 4.into());
    let reply = upstream.send(parts, Outgoing::Stream(body)).await.unwrap();
    assert_eq!(reply.head.status, StatusCode::TOO_MANY_REQUESTS);
    let asked: usize = origins.iter().map(|origin| origin.asked.load(Relaxed)).sum();
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn a_call_whose_answer_ends_right_behind_its_head_is_asked_elsewhere() {
    let (mortal, steady) = (Origin::bind().await, Origin::bind().await);
    let (_all, upstream) = open(&config(&[mortal.url(), steady.url()]));
    let steady = steady.answering("200 OK", "steady");
    let call = Call { tenant: "", prefix: None, ears: None };
    let died = Cell::new(false);
    let asking = async {
        // Whichever is picked first: the other one is, before long.
        while !died.get() {
            let head = head(Method::POST, "/");
            let reply = upstream.call(head, Bytes::from_static(b"x"), call).await.unwrap();
            assert_eq!(text(reply).await, "steady");
        }
    };
    let dying = async {
        let mut line = mortal.accept().await;
        line.request().await;
        line.say("HTTP/1.1 200 OK\r\ncontent-length: 104\r\n\r\n").await;
        died.set(true);
    };
    join!(asking, dying);
    assert!(steady.asked.load(Relaxed) > 0);
}

#[tokio::test]
async fn a_dead_replica_costs_no_request_is_ejected_and_returns_by_trial() {
    let (mortal, steady) = (Dead::new(), Origin::bind().await);
    let (_all, upstream) = open(&config(&[mortal.url(), steady.url()]));
    let _steady = steady.answering("200 OK", "steady");
    for _ in 0..20 {
        assert_eq!(text(post(&upstream, "x").await.unwrap()).await, "steady");
    }
    assert_ne!(upstream.report()[0].standing, Standing::Ready);
    assert!(upstream.report()[0].failures_total >= 3);
    let _back = mortal.revive().answering("200 OK", "back");
    // What a second of waiting would do.
    let breaker = &upstream.replicas[0].breaker;
    let later = Instant::now() + Duration::from_secs(9);
    assert!(breaker.claim_trial(later));
    breaker.release_trial();
    let trial = async {
        loop {
            let reply = post(&upstream, "x").await.unwrap();
            if reply.branch == Branch::Trial {
                break text(reply).await;
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(timeout(PATIENCE, trial).await.unwrap(), "back");
    assert_eq!(upstream.report()[0].standing, Standing::Ready);
}

#[tokio::test]
async fn a_client_that_gives_up_leaves_a_mark_on_the_replica() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let asked = Notify::new();
    let patience = async {
        asked.notified().await;
        pause();
        sleep(Duration::from_millis(50)).await;
    };
    let ((), _line) = join!(
        async {
            tokio::select! {
                _ = post(&upstream, "x") => panic!("nobody answers"),
                () = patience => {}
            }
        },
        async {
            let mut line = origin.accept().await;
            line.request().await;
            asked.notify_one();
            line
        }
    );
    let waited = upstream.report()[0].first_byte.unwrap();
    assert!(waited >= Duration::from_millis(50), "{waited:?}");
}

#[tokio::test]
async fn a_health_check_has_its_own_connection_and_wants_a_2xx_in_time() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&config(&[origin.url()]));
    let replica = &upstream.replicas[0];
    let path = PathAndQuery::from_static("/health");
    for (status, passes) in [("200 OK", true), ("204 No Content", true), ("500 Oh", false)] {
        let mut tries = 0..3;
        let (checked, request) = loop {
            let (checked, request) = join!(replica.check(&path), async {
                let mut line = origin.accept().await;
                let request = line.next_request().await;
                line.say(&format!("HTTP/1.1 {status}\r\n\r\n")).await;
                line.closed().await;
                request
            });
            // Once more where the machine stood still for the two seconds that a check may take.
            let late = matches!(&checked, Err(fault) if fault.kind == Kind::FirstByteTimeout);
            if !late || tries.next().is_none() {
                break (checked, request.unwrap().0);
            }
        };
        assert!(request.starts_with("GET /health HTTP/1.1\r\n"), "{request}");
        assert_eq!(checked.is_ok(), passes, "{status}");
    }
    assert_eq!(upstream.report()[0].idle_connections, 0);
    let (checked, ()) = join!(replica.check(&path), async {
        let mut line = origin.accept().await;
        line.request().await;
        pause();
        line.closed().await;
    });
    assert_eq!(checked.unwrap_err().kind, Kind::FirstByteTimeout);
    let (_all, upstream) = open(&config(&[Dead::new().url()]));
    let down = upstream.replicas[0].check(&path).await;
    assert_eq!(down.unwrap_err().retry, Retry::Safe);
}

#[tokio::test]
async fn configured_checks_take_a_replica_out() {
    let origin = Origin::bind().await;
    let mut config = config(&[origin.url()]);
    config.upstream[0].check = "/health".into();
    let _origin = origin.answering("503 Service Unavailable", "");
    let (_all, upstream) = open(&config);
    let out = async {
        while upstream.report()[0].standing == Standing::Ready {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, out).await.unwrap();
}

#[tokio::test]
async fn connections_are_opened_ahead() {
    let origin = Origin::bind().await;
    let mut config = config(&[origin.url()]);
    config.upstream[0].warm = 2;
    let (_all, upstream) = open(&config);
    let mut lines = [origin.accept().await, origin.accept().await];
    let ready = async {
        while upstream.report()[0].idle_connections < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, ready).await.unwrap();
    let (reply, ()) = join!(get(&upstream, "/"), async {
        let [one, other] = &mut lines;
        tokio::select! {
            _ = one.request() => one.answer("warm").await,
            _ = other.request() => other.answer("warm").await,
        }
    });
    let reply = reply.unwrap();
    assert_eq!(reply.timing.connect, None);
    assert_eq!(text(reply).await, "warm");
}
