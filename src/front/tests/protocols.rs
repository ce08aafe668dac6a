//! Every way in, and what must not get in.

use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{io::AsyncWrite, net::UnixStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::config::TlsVersion;

/// `/peer` over HTTP/1.1 on `io`.
async fn peer_by_http1(
    io: impl tokio::io::AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> String {
    let (mut client, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("/peer").header("host", "a").body(Empty::<Bytes>::new()).unwrap();
    let answer = client.send_request(request).await.unwrap();
    let answer = answer.into_body().collect().await.unwrap().to_bytes();
    connection.abort();
    String::from_utf8(answer.to_vec()).unwrap()
}

/// `/peer` over HTTP/2 on `io`.
async fn peer_by_http2(
    io: impl tokio::io::AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> String {
    let (mut client, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://a/peer").body(Empty::<Bytes>::new()).unwrap();
    let answer = client.send_request(request).await.unwrap();
    let answer = answer.into_body().collect().await.unwrap().to_bytes();
    connection.abort();
    String::from_utf8(answer.to_vec()).unwrap()
}

#[tokio::test]
async fn http_1_and_http_2_with_prior_knowledge_in_clear() {
    let front = serve(&settings()).await;
    let said = peer_by_http1(front.connect().await).await;
    assert!(said.starts_with("HTTP/1.1 Tcp(127.0.0.1:") && said.ends_with(" None"), "{said}");
    let said = peer_by_http2(front.connect().await).await;
    assert!(said.starts_with("HTTP/2.0 Tcp(127.0.0.1:") && said.ends_with(" None"), "{said}");
}

#[tokio::test]
async fn a_unix_socket_speaks_both_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut config = settings();
    config.listen.http = None;
    config.listen.unix = Some(path.clone());
    let mut front = serve(&config).await;
    assert_eq!(front.addresses, [Address::Unix(path.clone())]);
    let connect = || UnixStream::connect(&path);
    assert_eq!(peer_by_http1(connect().await.unwrap()).await, "HTTP/1.1 Unix None");
    assert_eq!(peer_by_http2(connect().await.unwrap()).await, "HTTP/2.0 Unix None");
    front.signals.drain.cancel();
    front.drained().await;
    assert!(!path.exists());
}

/// Settings for TLS alone, with a certificate in `folder`; and the client's roots for it.
fn with_tls(folder: &std::path::Path) -> (Config, Arc<RootCertStore>) {
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&cert).unwrap()).unwrap();
    let mut config = settings();
    config.listen.http = None;
    config.listen.https = Some(([127, 0, 0, 1], 0).into());
    config.tls.cert = Some(cert);
    config.tls.key = Some(key);
    (config, roots.into())
}

fn tls_client(
    roots: &Arc<RootCertStore>,
    alpn: &[&str],
    versions: &[&'static SupportedProtocolVersion],
) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(Arc::clone(roots))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

async fn tls_connect(
    front: &Served,
    client: &TlsConnector,
) -> std::io::Result<TlsStream<TcpStream>> {
    client.connect(ServerName::try_from("localhost").unwrap(), front.connect().await).await
}

#[tokio::test]
async fn tls_settles_version_and_protocol() {
    let folder = tempfile::tempdir().unwrap();
    let (config, roots) = with_tls(folder.path());
    let front = serve(&config).await;
    let (v12, v13) = (&rustls::version::TLS12, &rustls::version::TLS13);

    let client = tls_client(&roots, &["h2", "http/1.1"], &[v12, v13]);
    let said = peer_by_http2(tls_connect(&front, &client).await.unwrap()).await;
    assert!(said.starts_with("HTTP/2.0 Tcp("), "{said}");
    assert!(said.ends_with("Some(TlsInfo { version: V13, alpn: Some(H2) })"), "{said}");

    let client = tls_client(&roots, &["http/1.1"], &[v12]);
    let said = peer_by_http1(tls_connect(&front, &client).await.unwrap()).await;
    assert!(said.ends_with("Some(TlsInfo { version: V12, alpn: Some(Http11) })"), "{said}");

    let client = tls_client(&roots, &[], &[v13]);
    let said = peer_by_http1(tls_connect(&front, &client).await.unwrap()).await;
    assert!(said.ends_with("Some(TlsInfo { version: V13, alpn: None })"), "{said}");
}

#[tokio::test]
async fn sessions_resume_by_ticket() {
    let folder = tempfile::tempdir().unwrap();
    let (config, roots) = with_tls(folder.path());
    let front = serve(&config).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = tls_client(&roots, &["http/1.1"], &[version]);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut stream = tls_connect(&front, &client).await.unwrap();
            // TLS 1.3 tickets come with the first answer.
            stream
                .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            until_closed(&mut stream).await;
            kinds.push(stream.get_ref().1.handshake_kind().unwrap());
        }
        assert_eq!(kinds, [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
    }
}

#[tokio::test]
async fn the_minimum_version_holds() {
    let folder = tempfile::tempdir().unwrap();
    let (mut config, roots) = with_tls(folder.path());
    config.tls.min_version = TlsVersion::V13;
    let front = serve(&config).await;
    let client = tls_client(&roots, &[], &[&rustls::version::TLS12]);
    assert!(tls_connect(&front, &client).await.is_err());
    let client = tls_client(&roots, &[], &[&rustls::version::TLS13]);
    assert!(tls_connect(&front, &client).await.is_ok());
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_closed_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (mut config, _) = with_tls(folder.path());
    config.limits.handshake_time = millis(100);
    let front = serve(&config).await;
    assert_eq!(front.raw("").await, "");
    // The first bytes of a ClientHello record.
    front.raw(b"\x16\x03\x01\x02\x00\x01\x00").await;
    assert_eq!(front.tally.handshake_failures(), 2);
}

#[tokio::test]
async fn clear_text_on_the_tls_port_fails_the_handshake() {
    let folder = tempfile::tempdir().unwrap();
    let (config, _) = with_tls(folder.path());
    let front = serve(&config).await;
    front.raw("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!((front.tally.handshake_failures(), front.requests()), (1, 0));
}

#[tokio::test]
async fn several_listeners_serve_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut config, roots) = with_tls(folder.path());
    config.listen.http = Some(([127, 0, 0, 1], 0).into());
    // Fewer than there are listeners: an idle one must not keep the others from accepting.
    config.limits.connections = 1;
    let mut front = serve(&config).await;
    assert!(front.raw("GET / HTTP/1.0\r\nhost: a\r\n\r\n").await.ends_with("hello"));
    front.addresses.remove(0);
    let client = tls_client(&roots, &["http/1.1"], &[&rustls::version::TLS13]);
    peer_by_http1(tls_connect(&front, &client).await.unwrap()).await;
}

// === what must not get in ===

#[tokio::test]
async fn bad_heads_get_400_and_connect_gets_405() {
    let front = serve(&settings()).await;
    let cases = [
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", "405"),
        ("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", "405"),
        ("GET /a/../b HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
    ];
    for (sent, status) in cases {
        let mut client = front.connect().await;
        client.write_all(sent.as_bytes()).await.unwrap();
        let said = one_response(&mut client).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{sent:?}: {said:?}");
    }
}

#[tokio::test]
async fn ambiguous_framing_never_becomes_two_requests() {
    let front = serve(&settings()).await;
    let refused = [
        "POST /echo HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 4\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nhost : a\r\ncontent-length: 3\r\n\r\nabc",
    ];
    for sent in refused {
        let said = front.raw(sent).await;
        assert!(
            said.starts_with("HTTP/1.1 400 ") || said.starts_with("HTTP/1.0 400 "),
            "{sent:?}: {said:?}"
        );
    }
    assert_eq!(front.requests(), 0);

    for lengths in [
        "content-length: 35\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 35",
    ] {
        let before = front.requests();
        let said = front
            .raw(format!(
                "POST /echo HTTP/1.1\r\nhost: a\r\n{lengths}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
            ))
            .await;
        assert_eq!(front.requests() - before, 1, "{said}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let front = serve(&settings()).await;
    let said = front
        .raw(
            "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\none\
             POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 3\r\n\r\ntwo",
        )
        .await;
    let (one, two) = (said.find("one").unwrap(), said.find("two").unwrap());
    assert!(one < two && front.requests() == 2, "{said}");
}

#[tokio::test]
async fn a_client_is_asked_for_its_body_only_when_it_is_read() {
    let front = serve(&settings()).await;
    let mut client = front.connect().await;
    client
        .write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let asked = one_response(&mut client).await;
    assert!(asked.starts_with("HTTP/1.1 100 "), "{asked}");
    client.write_all(b"abc").await.unwrap();
    let said = until_closed(&mut client).await;
    assert!(said.ends_with("abc"), "{said}");
}

#[tokio::test]
async fn a_body_that_fails_breaks_the_response_off_visibly() {
    let front = serve(&settings()).await;
    let said = front.raw("GET /broken HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(said.contains("transfer-encoding: chunked") && said.contains("half"), "{said}");
    assert!(!said.ends_with("0\r\n\r\n"), "{said}");

    let io = TokioIo::new(front.connect().await);
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let get = |path| Request::get(format!("http://a{path}")).body(Empty::<Bytes>::new()).unwrap();
    let broken = client.send_request(get("/broken")).await.unwrap();
    assert!(broken.into_body().collect().await.is_err(), "reset, not ended");
    assert!(client.send_request(get("/")).await.is_ok(), "the connection lives");
    connection.abort();
}

/// The address that the PROXY header names is the client's; without a header there is no service, and
/// from somebody else a header is no header.
#[tokio::test]
async fn the_proxy_protocol_names_the_client() {
    let mut config = settings();
    config.listen.proxy_protocol = true;
    config.listen.trusted.networks = vec!["127.0.0.0/8".parse().unwrap()];
    let served = serve(&config).await;
    let request = "GET /peer HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let mut stream = TcpStream::connect(served.tcp()).await.unwrap();
    let header = "PROXY TCP4 203.0.113.9 10.0.0.1 12345 80\r\n";
    stream.write_all(format!("{header}{request}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("Tcp(203.0.113.9:12345)"), "{answer}");

    let mut stream = TcpStream::connect(served.tcp()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
    assert_eq!(served.tally.handshake_failures(), 1);

    config.listen.trusted.networks = vec!["192.0.2.0/24".parse().unwrap()];
    let served = serve(&config).await;
    let mut stream = TcpStream::connect(served.tcp()).await.unwrap();
    stream.write_all(format!("{header}{request}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}
