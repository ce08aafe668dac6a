//! TLS towards replicas, with a certificate authority of the test's own.

use std::{io::Write as _, sync::Arc};

use futures_util::future::join_all;
use http::Response;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{join, net::TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    config, get, open,
    origin::{Line, Origin, serve_on},
    post, text,
};
use crate::{
    config::Config,
    fault::{Kind, Retry},
    upstream::{OpenError, Protocol, Upstreams},
};

struct Secure {
    origin: Origin,
    acceptor: TlsAcceptor,
    ca: tempfile::NamedTempFile,
}

impl Secure {
    async fn bind(alpn: &[&[u8]]) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca_params = CertificateParams::new(Vec::new()).unwrap();
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_certificate = ca_params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::from_params(&ca_params, &ca_key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".into()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut server =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![leaf.der().clone()], private)
                .unwrap();
        server.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let mut ca = tempfile::NamedTempFile::new().unwrap();
        ca.write_all(ca_certificate.pem().as_bytes()).unwrap();
        Self { origin: Origin::bind().await, acceptor: TlsAcceptor::from(Arc::new(server)), ca }
    }

    fn config(&self) -> Config {
        let port = self.origin.listener.local_addr().unwrap().port();
        let mut config = config(&[format!("https://localhost:{port}")]);
        config.upstream[0].ca = Some(self.ca.path().to_owned());
        config
    }

    async fn accept(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let (stream, _) = self.origin.listener.accept().await.unwrap();
        self.acceptor.accept(stream).await
    }
}

#[tokio::test]
async fn http1_over_tls_with_a_given_root() {
    let secure = Secure::bind(&[b"http/1.1"]).await;
    let (_all, upstream) = open(&secure.config());
    let serve = async {
        let mut line = Line::over(secure.accept().await.unwrap());
        for body in ["one", "two"] {
            line.request().await;
            line.answer(body).await;
        }
    };
    let ask = async {
        for body in ["one", "two"] {
            let reply = post(&upstream, "x").await.unwrap();
            assert_eq!(reply.protocol, Protocol::Http1);
            assert_eq!(text(reply).await, body);
        }
    };
    join!(serve, ask);
    assert_eq!(upstream.report()[0].connections_opened, 1);
}

#[tokio::test]
async fn a_crowd_at_the_start_shares_the_one_http2_connection_that_alpn_chose() {
    let secure = Secure::bind(&[b"h2", b"http/1.1"]).await;
    let (_all, upstream) = open(&secure.config());
    let serve = async {
        let mut server = h2::server::handshake(secure.accept().await.unwrap()).await.unwrap();
        for _ in 0..20 {
            let (_, mut respond) = server.accept().await.unwrap().unwrap();
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(bytes::Bytes::from_static(b"ok"), true).unwrap();
        }
        serve_on(server)
    };
    let ask = join_all((0..20).map(async |_| {
        let reply = get(&upstream, "/").await.unwrap();
        assert_eq!(reply.protocol, Protocol::Http2);
        assert_eq!(text(reply).await, "ok");
    }));
    let (_running, _) = join!(serve, ask);
    assert_eq!(upstream.report()[0].connections_opened, 1);
}

#[tokio::test]
async fn an_answer_cut_without_close_notify_is_a_cut() {
    let secure = Secure::bind(&[b"http/1.1"]).await;
    let (_all, upstream) = open(&secure.config());
    let (reply, ()) = join!(post(&upstream, "x"), async {
        let mut line = Line::over(secure.accept().await.unwrap());
        line.request().await;
        // No length: only the end of the connection could end it, and that must be authentic.
        line.say("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhalf").await;
        let (tcp, _) = line.stream.into_inner();
        drop(tcp);
    });
    assert_eq!(super::collect(reply.unwrap()).await.unwrap_err().kind, Kind::Cut);
}

#[tokio::test]
async fn an_untrusted_certificate_is_refused_and_the_error_says_what_to_set() {
    let secure = Secure::bind(&[]).await;
    let other = Secure::bind(&[]).await;
    let mut config = secure.config();
    config.upstream[0].ca = Some(other.ca.path().to_owned());
    let (_all, upstream) = open(&config);
    let (failed, _) = join!(post(&upstream, "x"), secure.accept());
    let fault = failed.unwrap_err();
    assert_eq!((fault.kind, fault.retry), (Kind::Connect, Retry::Safe));
    assert!(fault.message.contains("upstream.ca"), "{fault}");
}

#[tokio::test]
async fn a_useless_ca_file_is_named_at_the_start() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let mut config = config(&["https://localhost:1".into()]);
    config.upstream[0].ca = Some(empty.path().to_owned());
    let error = Upstreams::open(&config).unwrap_err();
    assert!(matches!(error, OpenError::File(_)), "{error}");
}
