//! Replicas behind socket files.

use std::path::Path;

use bytes::Bytes;
use http::Response;
use tokio::{join, net::UnixListener};

use super::{
    ask_twice, config, open,
    origin::{Line, serve_on},
    post, text,
};
use crate::{
    config::Config,
    fault::{Kind, Retry},
    upstream::Protocol,
};

fn at(path: &Path) -> Config {
    config(&[format!("unix:{}", path.display())])
}

#[tokio::test]
async fn http1_keeps_its_connection_and_names_a_host() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (_all, upstream) = open(&at(&path));
    let serve = async {
        let mut line = Line::over(listener.accept().await.unwrap().0);
        for body in ["one", "two"] {
            let (head, _) = line.request().await;
            assert!(head.contains("host: localhost"), "{head}");
            line.answer(body).await;
        }
    };
    join!(serve, ask_twice(&upstream));
    assert_eq!(upstream.report()[0].connections_opened, 1);
}

#[tokio::test]
async fn http2_with_prior_knowledge() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut config = at(&path);
    config.upstream[0].http2 = true;
    let (_all, upstream) = open(&config);
    let serve = async {
        let stream = listener.accept().await.unwrap().0;
        let mut server = h2::server::handshake(stream).await.unwrap();
        let (_, mut respond) = server.accept().await.unwrap().unwrap();
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(b"ok"), true).unwrap();
        serve_on(server)
    };
    let ask = async {
        let reply = post(&upstream, "x").await.unwrap();
        assert_eq!(reply.protocol, Protocol::Http2);
        assert_eq!(text(reply).await, "ok");
    };
    let (_running, ()) = join!(serve, ask);
}

#[tokio::test]
async fn a_socket_that_nobody_serves_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.sock");
    let (_all, upstream) = open(&at(&path));
    let fault = post(&upstream, "x").await.unwrap_err();
    assert_eq!((fault.kind, fault.retry), (Kind::Connect, Retry::Safe));
    assert!(fault.message.contains("model.sock"), "{fault}");
}
