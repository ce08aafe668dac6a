//! Websockets: agreed, carried both ways, ended on both sides.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    client::Ask,
    origin::{Origin, Reply},
    proxy::{Proxy, Setup, eventually, patiently},
};

const WISH: &str = "GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, Upgrade\r\n\
                    upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                    sec-websocket-version: 13\r\nauthorization: Bearer alice\r\n\r\n";

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(patiently(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A server that agrees, says a word at once, and then repeats what it hears.
async fn echo() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn agree(listener: &TcpListener) -> (TcpStream, String) {
    let (mut stream, _) = patiently(listener.accept()).await.unwrap();
    let asked = head(&mut stream).await;
    let agreed = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                  sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello";
    stream.write_all(agreed.as_bytes()).await.unwrap();
    (stream, asked)
}

async fn wish(proxy: &Proxy) -> TcpStream {
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(WISH.as_bytes()).await.unwrap();
    client
}

async fn said(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut said = vec![0; length];
    patiently(stream.read_exact(&mut said)).await.unwrap();
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways_until_either_side_ends() {
    let (listener, address) = echo().await;
    let proxy = Setup::at(address).open().await;
    for client_ends in [true, false] {
        let mut client = wish(&proxy).await;
        let (mut server, asked) = agree(&listener).await;
        assert!(asked.starts_with("GET /v1/realtime?model=m HTTP/1.1\r\n"), "{asked}");
        for line in [
            "upgrade: websocket",
            "connection: upgrade",
            "authorization: Bearer alice",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        ] {
            assert!(asked.lines().any(|one| one == line), "{line}: {asked}");
        }
        let agreed = head(&mut client).await;
        assert!(agreed.starts_with("HTTP/1.1 101 "), "{agreed}");
        assert!(agreed.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{agreed}");
        assert_eq!(said(&mut client, 5).await, b"hello");
        client.write_all(b"\x81\x03abc").await.unwrap();
        assert_eq!(said(&mut server, 5).await, b"\x81\x03abc");
        let large = vec![7; 1 << 20];
        let (wrote, read) = tokio::join!(server.write_all(&large), said(&mut client, large.len()));
        wrote.unwrap();
        assert_eq!(read, large);
        let (mut ends, mut hears) = if client_ends { (client, server) } else { (server, client) };
        ends.shutdown().await.unwrap();
        assert_eq!(patiently(hears.read(&mut [0])).await.unwrap(), 0);
        drop((ends, hears));
        eventually("the permit is back", || proxy.house().admission.in_flight() == 0).await;
        eventually("nothing is left", || proxy.house().tasks.is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_agree_is_heard_and_the_connection_goes_on() {
    let origin = Origin::start(|seen, _| {
        let status = if seen.header("upgrade") == "websocket" { 403 } else { 200 };
        Reply::json(bytes::Bytes::from_static(b"{\"no\":1}")).status(status)
    })
    .await;
    let proxy = Setup::new(&origin).open().await;
    let mut client = wish(&proxy).await;
    let refused = head(&mut client).await;
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
    assert_eq!(said(&mut client, 8).await, b"{\"no\":1}");
    client.write_all(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_it_and_other_upgrades_are_no_upgrades() {
    let (listener, address) = echo().await;
    let proxy = Setup::at(address).with("timeouts.tunnel_idle = \"100ms\"").open().await;
    let mut client = wish(&proxy).await;
    let (mut server, _) = agree(&listener).await;
    head(&mut client).await;
    assert_eq!(said(&mut client, 5).await, b"hello");
    assert_eq!(patiently(client.read(&mut [0])).await.unwrap_or(0), 0);
    assert_eq!(patiently(server.read(&mut [0])).await.unwrap_or(0), 0);

    let origin = Origin::start(|_, _| Reply::json(bytes::Bytes::from_static(b"{}"))).await;
    let proxy = Setup::new(&origin).open().await;
    let ask = Ask::new(http::Method::GET, "/v1/models", "")
        .header("connection", "upgrade")
        .header("upgrade", "h2c");
    assert_eq!(proxy.send(&ask).await.status, 200);
    assert_eq!(origin.last().header("upgrade"), "");
}
