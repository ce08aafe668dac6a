//! HTTP/2 with prior knowledge: sharing, fairness, resets, refusals.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use h2::Reason;
use http::{HeaderMap, Method, Response};
use http_body_util::BodyExt as _;
use tokio::{join, sync::Notify, time::timeout};

use super::{
    collect, config, get, head, open,
    origin::{Dead, Origin, serve_on},
    post, text,
};
use crate::{
    config::Config,
    fault::{Fault, Kind, Retry},
    upstream::{Outgoing, Protocol, http2::SHARE},
};

fn h2_config(urls: &[String]) -> Config {
    let mut config = config(urls);
    config.upstream[0].http2 = true;
    config
}

fn ok() -> Response<()> {
    Response::new(())
}

#[tokio::test]
async fn many_exchanges_share_one_connection() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&h2_config(&[origin.url()]));
    let authority = origin.listener.local_addr().unwrap().to_string();
    let serve = async {
        let mut server = origin.accept_h2().await;
        let mut waiting = Vec::new();
        for _ in 0..20 {
            let (request, respond) = server.accept().await.unwrap().unwrap();
            assert_eq!(request.uri().authority().unwrap().as_str(), authority);
            assert!(!request.headers().contains_key("host"));
            waiting.push((request.uri().path().to_owned(), respond));
        }
        // All of them are in before any is answered.
        for (path, mut respond) in waiting {
            respond.send_response(ok(), false).unwrap().send_data(path.into(), true).unwrap();
        }
        serve_on(server)
    };
    let ask = join_all((0..20).map(async |number| {
        let reply = get(&upstream, &format!("/{number}")).await.unwrap();
        assert_eq!(reply.protocol, Protocol::Http2);
        assert_eq!(text(reply).await, format!("/{number}"));
    }));
    let (_server, _) = join!(serve, ask);
    let report = &upstream.report()[0];
    assert_eq!((report.connections_opened, report.shared_connections), (1, 1));
    assert_eq!(report.in_flight, 0);
}

#[tokio::test]
async fn past_its_share_of_streams_another_connection_is_opened() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&h2_config(&[origin.url()]));
    let servers = tokio::spawn(async move {
        let mut servers = Vec::new();
        while servers.len() < 2 {
            let mut server = origin.accept_h2().await;
            servers.push(tokio::spawn(async move {
                let mut streams = Vec::new();
                while let Some(Ok((_, mut respond))) = server.accept().await {
                    streams.push(respond.send_response(ok(), false).unwrap());
                }
            }));
        }
        servers
    });
    let mut replies = Vec::new();
    for _ in 0..SHARE + 3 {
        replies.push(get(&upstream, "/").await.unwrap());
    }
    let report = &upstream.report()[0];
    assert_eq!((report.shared_connections, report.in_flight), (2, SHARE + 3));
    assert_eq!(servers.await.unwrap().len(), 2);
}

/// A client that reads nothing must cost the others nothing, though its answer comes in frames as
/// small as tokens and fills the stream's window (transport findings 1 and 2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_stream_does_not_slow_or_kill_its_neighbour() {
    const TOKENS: usize = 30_000;
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&h2_config(&[origin.url()]));
    let token = Bytes::from(vec![b't'; 60]);
    let serve = tokio::spawn(async move {
        let mut server = origin.accept_h2().await;
        while let Some(Ok((request, mut respond))) = server.accept().await {
            let token = token.clone();
            let endless = request.uri().path() == "/stalled";
            tokio::spawn(async move {
                let mut stream = respond.send_response(ok(), false).unwrap();
                let mut left = TOKENS;
                while endless || left > 0 {
                    stream.reserve_capacity(token.len());
                    while stream.capacity() < token.len() {
                        let granted = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
                        let Some(Ok(_)) = granted else { return };
                    }
                    if stream.send_data(token.clone(), false).is_err() {
                        return;
                    }
                    left = left.saturating_sub(1);
                    tokio::task::yield_now().await;
                }
                stream.send_data(Bytes::new(), true).unwrap();
            });
        }
    });
    let mut stalled = get(&upstream, "/stalled").await.unwrap();
    let lively = get(&upstream, "/lively").await.unwrap();
    let read = timeout(Duration::from_secs(60), collect(lively)).await.unwrap().unwrap();
    assert_eq!(read.to_bytes().len(), TOKENS * 60);
    assert_eq!(upstream.report()[0].connections_opened, 1);
    stalled.body.frame().await.unwrap().unwrap();
    serve.abort();
}

#[tokio::test]
async fn a_dropped_body_resets_its_stream_and_not_the_connection() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&h2_config(&[origin.url()]));
    let (reply, (mut server, mut stream)) = join!(post(&upstream, "x"), async {
        let mut server = origin.accept_h2().await;
        let (_, mut respond) = server.accept().await.unwrap().unwrap();
        let mut stream = respond.send_response(ok(), false).unwrap();
        stream.send_data("a".into(), false).unwrap();
        // Flushes what was sent: h2 works while the connection is polled.
        let _nothing_yet = timeout(Duration::from_millis(1), server.accept()).await;
        (server, stream)
    });
    let mut body = reply.unwrap().body;
    body.frame().await.unwrap().unwrap();
    drop(body);
    let reset = tokio::select! {
        reset = std::future::poll_fn(|cx| stream.poll_reset(cx)) => reset.unwrap(),
        _ = server.accept() => panic!("no other request was made"),
    };
    assert_eq!(reset, Reason::CANCEL);
    let (reply, _server) = join!(get(&upstream, "/"), async {
        let (_, mut respond) = server.accept().await.unwrap().unwrap();
        respond.send_response(ok(), true).unwrap();
        serve_on(server)
    });
    assert_eq!(text(reply.unwrap()).await, "");
    assert_eq!(upstream.report()[0].connections_opened, 1);
}

#[tokio::test]
async fn a_dropped_body_ends_an_upload_that_still_runs() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&h2_config(&[origin.url()]));
    let pending = http_body_util::StreamBody::new(futures_util::stream::pending());
    let body = Outgoing::Stream(pending.boxed());
    let (reply, (mut server, mut request)) =
        join!(upstream.send(head(Method::POST, "/"), body), async {
            let mut server = origin.accept_h2().await;
            let (request, mut respond) = server.accept().await.unwrap().unwrap();
            let stream = respond.send_response(ok(), false).unwrap();
            let _nothing_yet = timeout(Duration::from_millis(1), server.accept()).await;
            drop(stream);
            (server, request.into_body())
        });
    drop(reply.unwrap());
    let ended = tokio::select! {
        ended = request.data() => ended.unwrap().unwrap_err(),
        _ = server.accept() => panic!("no other request was made"),
    };
    assert!(ended.is_reset());
}

#[tokio::test]
async fn a_refused_stream_is_safe_to_retry_and_the_next_replica_gets_it() {
    let (first, second) = (Origin::bind().await, Origin::bind().await);
    let (_all, upstream) = open(&h2_config(&[first.url(), second.url()]));
    // Whoever is asked first refuses; the other one answers.
    let answers = |origin: Origin, other: std::sync::Arc<tokio::sync::Semaphore>| async move {
        let mut server = origin.accept_h2().await;
        let (request, mut respond) = server.accept().await.unwrap().unwrap();
        if other.try_acquire().is_ok_and(|permit| {
            permit.forget();
            true
        }) {
            respond.send_reset(Reason::REFUSED_STREAM);
        } else {
            let mut body = request.into_body();
            let sent = body.data().await.unwrap().unwrap();
            respond.send_response(ok(), false).unwrap().send_data(sent, true).unwrap();
        }
        let _running = serve_on(server);
        std::future::pending::<()>().await;
    };
    let refusals = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
    let one = tokio::spawn(answers(first, refusals.clone()));
    let two = tokio::spawn(answers(second, refusals.clone()));
    assert_eq!(text(post(&upstream, "again").await.unwrap()).await, "again");
    one.abort();
    two.abort();
}

#[tokio::test]
async fn a_refusal_by_the_only_replica_is_a_safe_fault_and_a_reset_is_not() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&h2_config(&[origin.url()]));
    let server = tokio::spawn(async move {
        let mut server = origin.accept_h2().await;
        for reason in [Reason::REFUSED_STREAM, Reason::INTERNAL_ERROR] {
            let (_, mut respond) = server.accept().await.unwrap().unwrap();
            respond.send_reset(reason);
        }
        let _running = serve_on(server);
        std::future::pending::<()>().await;
    });
    let faults: [Fault; 2] =
        [post(&upstream, "x").await.unwrap_err(), post(&upstream, "x").await.unwrap_err()];
    assert_eq!(faults.each_ref().map(|fault| fault.kind), [Kind::Reset, Kind::Reset]);
    assert_eq!(faults.each_ref().map(|fault| fault.retry), [Retry::Safe, Retry::Unsafe]);
    server.abort();
}

#[tokio::test]
async fn after_goaway_running_answers_end_well_and_new_ones_go_elsewhere() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&h2_config(&[origin.url()]));
    let (reply, (mut server, mut stream)) = join!(get(&upstream, "/old"), async {
        let mut server = origin.accept_h2().await;
        let (_, mut respond) = server.accept().await.unwrap().unwrap();
        let stream = respond.send_response(ok(), false).unwrap();
        server.graceful_shutdown();
        let _nothing_yet = timeout(Duration::from_millis(20), server.accept()).await;
        (server, stream)
    });
    let old = reply.unwrap();
    let (new, _second) = join!(get(&upstream, "/new"), async {
        let mut second = origin.accept_h2().await;
        let (request, mut respond) = second.accept().await.unwrap().unwrap();
        assert_eq!(request.uri().path(), "/new");
        respond.send_response(ok(), true).unwrap();
        serve_on(second)
    });
    assert_eq!(text(new.unwrap()).await, "");
    let (old, ()) = join!(text(old), async {
        stream.send_data("done".into(), true).unwrap();
        drop(stream);
        while let Some(Ok(_)) = server.accept().await {}
    });
    assert_eq!(old, "done");
}

#[tokio::test]
async fn trailers_come_through_and_a_reset_inside_an_answer_is_a_cut() {
    let origin = Origin::bind().await;
    let (_all, upstream) = open(&h2_config(&[origin.url()]));
    let heard = Arc::new(Notify::new());
    let head_heard = heard.clone();
    let server = tokio::spawn(async move {
        let mut server = origin.accept_h2().await;
        let (_, mut respond) = server.accept().await.unwrap().unwrap();
        let mut stream = respond.send_response(ok(), false).unwrap();
        stream.send_data("a".into(), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", 0.into());
        stream.send_trailers(trailers).unwrap();
        let (_, mut respond) = server.accept().await.unwrap().unwrap();
        let mut stream = respond.send_response(ok(), false).unwrap();
        stream.send_data("a".into(), false).unwrap();
        // Together with its head the reset would be all that is heard.
        tokio::select! {
            () = head_heard.notified() => {}
            _ = server.accept() => panic!("no other request was made"),
        }
        stream.send_reset(Reason::INTERNAL_ERROR);
        let _running = serve_on(server);
        std::future::pending::<()>().await;
    });
    let whole = collect(get(&upstream, "/").await.unwrap()).await.unwrap();
    assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
    let cut = get(&upstream, "/").await.unwrap();
    heard.notify_one();
    let fault = collect(cut).await.unwrap_err();
    assert_eq!(fault.kind, Kind::Cut);
    server.abort();
}

#[tokio::test]
async fn a_thousand_waiting_for_a_dead_replica_fail_together() {
    let dead = Dead::new();
    let (_all, upstream) = open(&h2_config(&[dead.url()]));
    let faults = join_all((0..1000).map(|_| get(&upstream, "/"))).await;
    assert!(faults.into_iter().all(|failed| failed.unwrap_err().kind == Kind::Connect));
    assert_eq!(upstream.report()[0].in_flight, 0);
}
