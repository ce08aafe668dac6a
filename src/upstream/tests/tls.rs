//! TLS towards replicas, with a certificate authority of the test's own.

use std::{io::Write as _, path::Path, sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::Response;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime},
    server::{
        NoClientAuth,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use tokio::{join, net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::task::AbortOnDropHandle;

use super::{
    ask_twice, config, get, open,
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
        Self::with(alpn, Arc::new(NoClientAuth)).await
    }

    /// One that wants a certificate from its clients, any.
    async fn demanding() -> Self {
        Self::with(&[b"http/1.1"], Arc::new(AnyClient(aws_lc_rs::default_provider()))).await
    }

    async fn with(alpn: &[&[u8]], clients: Arc<dyn ClientCertVerifier>) -> Self {
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
                .with_client_cert_verifier(clients)
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

/// Takes any certificate whose key its client has.
#[derive(Debug)]
struct AnyClient(CryptoProvider);

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
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
    join!(serve, ask_twice(&upstream));
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

/// Writes a certificate of this name, signed by itself, and its key.
fn identity(folder: &Path, name: &str) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.into()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(folder.join("client.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("client.key"), key.serialize_pem()).unwrap();
    certificate.der().clone()
}

/// A server that demands a certificate and takes any: answers with what it was shown.
async fn mirror(secure: Secure) {
    loop {
        let stream = secure.accept().await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        tokio::spawn(async move {
            let mut line = Line::over(stream);
            loop {
                line.request().await;
                line.answer(&blake3::hash(&shown).to_hex()).await;
            }
        });
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_exchanged_with_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let first = identity(folder.path(), "first");
    let secure = Secure::demanding().await;
    let mut config = secure.config();
    config.upstream[0].cert = Some(folder.path().join("client.pem"));
    config.upstream[0].key = Some(folder.path().join("client.key"));
    let (_all, upstream) = open(&config);
    let _server = AbortOnDropHandle::new(tokio::spawn(mirror(secure)));
    let digest = |der: &CertificateDer<'_>| blake3::hash(der).to_hex().to_string();
    let shown = async || text(post(&upstream, "x").await.unwrap()).await;
    assert_eq!(shown().await, digest(&first));
    let second = identity(folder.path(), "second");
    // Files are looked at every two seconds.
    let exchanged = async {
        while shown().await != digest(&second) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), exchanged).await.unwrap();
    std::fs::write(folder.path().join("client.key"), "garbage").unwrap();
    let tls = upstream.tls.as_ref().unwrap();
    // Whoever looks first; what was refused once is not looked at again.
    let mut refused = None;
    assert!(tls.look(&mut refused).unwrap().is_err());
    assert!(tls.look(&mut refused).is_none());
    assert_eq!(shown().await, digest(&second));
}

#[tokio::test]
async fn a_useless_ca_file_is_named_at_the_start() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let mut config = config(&["https://localhost:1".into()]);
    config.upstream[0].ca = Some(empty.path().to_owned());
    let error = Upstreams::open(&config).unwrap_err();
    assert!(matches!(error, OpenError::File(_)), "{error}");
}
