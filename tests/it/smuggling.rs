//! Requests that two servers could read differently. Nothing but whole, well-formed requests may
//! reach the model server, and never more of them than the client sent.
//!
//! The cases stand in `tests/data/smuggling`, one file each: why, how many requests it may be taken
//! for at most, and the bytes, with their line ends written out.

use std::{net::SocketAddr, path::Path, sync::Arc};

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use crate::proxy::{Setup, patiently};

struct Case {
    name: String,
    at_most: usize,
    bytes: Vec<u8>,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/smuggling");
    let mut cases: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let at_most = text.lines().find_map(|line| line.strip_prefix("# requests: ")).unwrap();
            let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("# ")).collect();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            Case { name, at_most: at_most.parse().unwrap(), bytes: written_out(&lines.concat()) }
        })
        .collect();
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    cases
}

fn written_out(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.chars();
    while let Some(one) = rest.next() {
        if one != '\\' {
            bytes.push(u8::try_from(one).unwrap());
            continue;
        }
        bytes.push(match rest.next().unwrap() {
            'r' => b'\r',
            'n' => b'\n',
            't' => b'\t',
            '0' => 0,
            'x' => {
                let digits: String = rest.by_ref().take(2).collect();
                u8::from_str_radix(&digits, 16).unwrap()
            }
            other => panic!("what is \\{other}?"),
        });
    }
    bytes
}

/// A server that takes nothing but what every other server would read the same way.
struct Strict {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Seen {
    requests: usize,
    wrong: Vec<String>,
}

impl Strict {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let shared = seen.clone();
        let accepting = tokio::spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                lines.spawn(async move {
                    if let Err(wrong) = serve(stream, &shared).await {
                        shared.lock().wrong.push(wrong);
                    }
                });
            }
        });
        Self { address, seen, _accepting: AbortOnDropHandle::new(accepting) }
    }
}

async fn serve(mut stream: TcpStream, seen: &Mutex<Seen>) -> Result<(), String> {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break buffer.drain(..at + 4).collect::<Vec<u8>>();
            }
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return if buffer.is_empty() { Ok(()) } else { Err(shown("half a head", &buffer)) };
            }
        };
        let body = framing(&head)?;
        seen.lock().requests += 1;
        let whole = match body {
            Body::Length(length) => sized(&mut stream, &mut buffer, length).await,
            Body::Chunked => chunked(&mut stream, &mut buffer).await?,
        };
        // A client that left half-way is passed on as a connection that ends: no request is whole.
        if !whole {
            return Ok(());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    }
}

enum Body {
    Length(usize),
    Chunked,
}

fn shown(what: &str, bytes: &[u8]) -> String {
    format!("{what}: {}", bytes.escape_ascii())
}

fn framing(head: &[u8]) -> Result<Body, String> {
    let wrong = |what: &str| shown(what, head);
    let text = std::str::from_utf8(head).map_err(|_| wrong("no text"))?;
    let lines: Vec<_> = text.trim_end_matches("\r\n\r\n").split("\r\n").collect();
    if lines.iter().any(|line| line.bytes().any(|byte| byte < b' ' && byte != b'\t')) {
        return Err(wrong("a control character"));
    }
    let words: Vec<_> = lines[0].split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { return Err(wrong("no request line")) };
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(wrong("no method"));
    }
    if !target.starts_with('/') || target.contains("/../") || target.contains('#') {
        return Err(wrong("no target"));
    }
    let mut values = std::collections::BTreeMap::<String, Vec<&str>>::new();
    for line in &lines[1..] {
        let named = line.split_once(": ").or_else(|| line.split_once(':'));
        let (name, value) = named.ok_or_else(|| wrong("no header"))?;
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(wrong("no header name"));
        }
        values.entry(name.to_ascii_lowercase().replace('_', "-")).or_default().push(value);
    }
    if values.get("host").map_or(0, Vec::len) != 1 {
        return Err(wrong("not one Host"));
    }
    let of_one_hop = ["upgrade", "http2-settings", "keep-alive", "te"];
    if of_one_hop.iter().any(|name| values.contains_key(*name)) {
        return Err(wrong("a header of the client's connection"));
    }
    match (values.get("content-length"), values.get("transfer-encoding")) {
        (None, None) => Ok(Body::Length(0)),
        (Some(length), None) if length.len() == 1 => {
            let digits = Some(length[0]).filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
            let length = digits.and_then(|digits| digits.parse().ok());
            length.map(Body::Length).ok_or_else(|| wrong("no length"))
        }
        (None, Some(coding)) if coding[..] == ["chunked"] => Ok(Body::Chunked),
        _ => Err(wrong("framed twice")),
    }
}

async fn sized(stream: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> bool {
    while buffer.len() < length {
        if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
            return false;
        }
    }
    buffer.drain(..length);
    true
}

async fn chunked(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<bool, String> {
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(2).position(|two| two == b"\r\n") {
                break at;
            }
            if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
                return Ok(false);
            }
        };
        let line: Vec<u8> = buffer.drain(..end + 2).collect();
        let digits = &line[..end];
        if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(shown("no chunk size", &line));
        }
        let size = usize::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
        if !sized(stream, buffer, if size == 0 { 0 } else { size }).await {
            return Ok(false);
        }
        // Trailers would stand here; none are passed on.
        while buffer.len() < 2 {
            if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
                return Ok(false);
            }
        }
        let behind: Vec<u8> = buffer.drain(..2).collect();
        if behind != b"\r\n" {
            return Err(shown("no end of a chunk", &behind));
        }
        if size == 0 {
            return Ok(true);
        }
    }
}

async fn replay(case: Case) -> Vec<String> {
    let origin = Strict::start().await;
    // Short, so that what is never finished ends soon.
    let proxy = Setup::at(origin.address)
        .with("limits.header_time = \"300ms\"\nlimits.body_idle = \"200ms\"")
        .open()
        .await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    // It may be refused, and the connection closed, before all of it is written.
    let _ = stream.write_all(&case.bytes).await;
    let mut answer = Vec::new();
    let _ = patiently(stream.read_to_end(&mut answer)).await;
    proxy.stop().await;
    let seen = origin.seen.lock();
    let mut wrong: Vec<_> =
        seen.wrong.iter().map(|wrong| format!("{}: {wrong}", case.name)).collect();
    if seen.requests > case.at_most {
        wrong.push(format!("{}: {} requests reached the server", case.name, seen.requests));
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_malformed_and_nothing_doubled_reaches_the_model_server() {
    let cases = cases();
    assert!(cases.len() >= 80, "{}", cases.len());
    let wrong: Vec<_> = stream::iter(cases).map(replay).buffer_unordered(16).concat().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The corpus can fail: an honest request passes, and a crooked one would be seen.
#[tokio::test(flavor = "multi_thread")]
async fn the_strict_server_tells_good_from_bad() {
    for (request, requests, wrong) in [
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", 1, 0),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            1,
            0,
        ),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 0, 1),
        ("GET /\tHTTP/1.1\r\nhost: a\r\n\r\n", 0, 1),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            0,
            1,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\n\r\n",
            1,
            1,
        ),
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\nGARBAGE", 1, 1),
    ] {
        let origin = Strict::start().await;
        let mut stream = TcpStream::connect(origin.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = patiently(stream.read_to_end(&mut answer)).await;
        let seen = || {
            let seen = origin.seen.lock();
            (seen.requests, seen.wrong.len())
        };
        crate::proxy::eventually("it is judged", || seen() == (requests, wrong)).await;
    }
}
