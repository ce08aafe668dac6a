//! Clients: one connection a request, or many streams on one HTTP/2 connection.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use sfv::{BareItem, List, ListEntry, Parser};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

pub(crate) const CHAT: &str = "/v1/chat/completions";

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Ask {
    /// Any request.
    pub(crate) fn new(method: Method, target: &str, body: impl Into<Bytes>) -> Self {
        Self { method, target: target.into(), headers: Vec::new(), body: body.into() }
    }

    /// A chat completion of this body.
    pub(crate) fn body(body: &Value) -> Self {
        Self::new(Method::POST, CHAT, body.to_string())
            .header("content-type", "application/json")
            .header("authorization", "Bearer alice")
    }

    /// A question, to be answered in one body.
    pub(crate) fn chat(text: &str) -> Self {
        Self::body(&json!({"model": "m", "messages": [{"role": "user", "content": text}]}))
    }

    /// A question, to be answered as a stream.
    pub(crate) fn stream(text: &str) -> Self {
        Self::body(&json!({
            "model": "m", "stream": true, "messages": [{"role": "user", "content": text}],
        }))
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name || name == "x-repeated");
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    fn request(&self) -> Request<BoxBody<Bytes, std::convert::Infallible>> {
        let body = Full::new(self.body.clone()).boxed();
        let mut request = Request::builder().method(self.method.clone()).uri(&self.target);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(body).unwrap()
    }
}

/// A complete answer, or what came of it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Did it end as its framing says?
    pub(crate) complete: bool,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    /// The value of a header, `""` if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn x_cache(&self) -> &str {
        self.header("x-cache")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// What `Cache-Status` says of our own cache.
    pub(crate) fn cache_status(&self) -> CacheStatus {
        CacheStatus::of(&self.headers)
    }
}

/// Our member of `Cache-Status`, read by a parser of structured fields.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct CacheStatus {
    pub(crate) hit: bool,
    pub(crate) fwd: Option<String>,
    pub(crate) fwd_status: Option<i64>,
    pub(crate) ttl: Option<i64>,
    pub(crate) stored: bool,
    pub(crate) collapsed: bool,
    pub(crate) detail: Option<String>,
    /// Caches before us.
    pub(crate) before: Vec<String>,
}

impl CacheStatus {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let values: Vec<_> =
            headers.get_all("cache-status").iter().map(|value| value.to_str().unwrap()).collect();
        let list: List = Parser::new(&values.join(", ")).parse().unwrap();
        let mut status = Self::default();
        for member in &list {
            let ListEntry::Item(item) = member else { panic!("a list inside Cache-Status") };
            let name = match &item.bare_item {
                BareItem::Token(token) => token.as_str().to_owned(),
                BareItem::String(text) => text.as_str().to_owned(),
                other => panic!("{other:?} is no name of a cache"),
            };
            if name != "reprise" {
                assert_eq!(status.detail, None, "caches before us come first");
                status.before.push(name);
                continue;
            }
            let get = |key: &str| item.params.get(key);
            let flag = |key: &str| get(key) == Some(&BareItem::Boolean(true));
            let word = |key: &str| match get(key) {
                Some(BareItem::Token(token)) => Some(token.as_str().to_owned()),
                None => None,
                Some(other) => panic!("{key} is {other:?}"),
            };
            let number = |key: &str| match get(key) {
                Some(BareItem::Integer(number)) => Some(i64::from(*number)),
                None => None,
                Some(other) => panic!("{key} is {other:?}"),
            };
            status.hit = flag("hit");
            status.stored = flag("stored");
            status.collapsed = flag("collapsed");
            status.fwd = word("fwd");
            status.detail = word("detail");
            status.fwd_status = number("fwd-status");
            status.ttl = number("ttl");
        }
        status
    }
}

/// An answer whose head is here. Dropping it hangs up.
pub(crate) struct Live {
    pub(crate) head: http::response::Parts,
    body: Incoming,
    _connection: Option<AbortOnDropHandle<()>>,
}

impl Live {
    /// The next piece of the body; `None` at its end, `Err` if it breaks.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Reads on until so many bytes are here.
    pub(crate) async fn read(&mut self, wanted: usize) -> Vec<u8> {
        let mut read = Vec::new();
        while read.len() < wanted {
            read.extend(self.next().await.unwrap().unwrap());
        }
        read
    }

    pub(crate) async fn rest(mut self) -> Answer {
        let (mut body, mut complete, mut trailers) = (Vec::new(), true, None);
        while let Some(frame) = self.body.frame().await {
            match frame.map(http_body::Frame::into_data) {
                Ok(Ok(data)) => body.extend_from_slice(&data),
                Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
                Err(_) => complete = false,
            }
            if !complete {
                break;
            }
        }
        let (status, headers) = (self.head.status, self.head.headers);
        Answer { status, headers, body, complete, trailers }
    }
}

/// Sends a request over a connection of its own, and waits for the head.
pub(crate) async fn open(address: SocketAddr, ask: &Ask) -> Result<Live, hyper::Error> {
    let ask = if ask.headers.iter().any(|(name, _)| name == "host") {
        ask.clone()
    } else {
        ask.clone().header("host", &address.to_string())
    };
    open_with(address, ask.request()).await
}

/// The same with any body.
pub(crate) async fn open_with<B>(
    address: SocketAddr,
    request: Request<B>,
) -> Result<Live, hyper::Error>
where
    B: hyper::body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let response = sender.send_request(request).await?;
    Ok(live(response, Some(connection)))
}

fn live(response: Response<Incoming>, connection: Option<AbortOnDropHandle<()>>) -> Live {
    let (head, body) = response.into_parts();
    Live { head, body, _connection: connection }
}

/// Was a stream reset? How HTTP/2 tells of an answer that broke off, before its head is passed on
/// where the two come at once.
pub(crate) fn is_reset(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|it| it.downcast_ref::<h2::Error>());
    source.is_some_and(h2::Error::is_reset)
}

/// One HTTP/2 connection.
pub(crate) struct Http2 {
    sender: hyper::client::conn::http2::SendRequest<BoxBody<Bytes, std::convert::Infallible>>,
    address: SocketAddr,
    _connection: AbortOnDropHandle<()>,
}

impl Http2 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = connection.await;
        }));
        Self { sender, address, _connection: connection }
    }

    pub(crate) async fn open(&self, ask: &Ask) -> Result<Live, hyper::Error> {
        let mut request = ask.request();
        request.headers_mut().remove(header::HOST);
        *request.uri_mut() = format!("http://{}{}", self.address, ask.target).parse().unwrap();
        let response = self.sender.clone().send_request(request).await?;
        Ok(live(response, None))
    }
}
