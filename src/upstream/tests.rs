//! Real sockets in one process: scripted origins on one side, [`Upstreams`] on the other.

mod http1;
mod http2;
mod origin;
mod resilience;
mod route;
mod timeouts;
mod tls;
mod unix;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, request};
use http_body_util::{BodyExt as _, Collected};
use tokio::{join, net::TcpStream};

use self::origin::{Line, Origin};
use super::{Outgoing, Protocol, Reply, ReplyBody, Upstream, Upstreams};
use crate::{
    config::{self, Config, Overrides, Span},
    fault::Fault,
};

/// The defaults, with one upstream named `up` at `urls`; but a machine that stands still for some
/// seconds is no replica that cannot be reached.
pub(super) fn config(urls: &[String]) -> Config {
    let overrides = Overrides { upstream: urls.first().cloned(), ..Overrides::default() };
    let mut config = config::load(None, &BTreeMap::new(), &overrides).unwrap();
    config.upstream[0].name = "up".into();
    config.upstream[0].urls = urls.to_vec();
    config.timeouts.connect = Span(Duration::from_secs(30));
    config.timeouts.handshake = Span(Duration::from_secs(30));
    config
}

/// The upstream of a configuration with one; the first value keeps it swept.
fn open(config: &Config) -> (Upstreams, std::sync::Arc<Upstream>) {
    let upstreams = Upstreams::open(config).unwrap();
    let upstream = upstreams.route("/", &HeaderMap::new(), None).unwrap().clone();
    (upstreams, upstream)
}

fn head(method: Method, path: &str) -> request::Parts {
    http::Request::builder().method(method).uri(path).body(()).unwrap().into_parts().0
}

async fn get(upstream: &Upstream, path: &str) -> Result<Reply, Fault> {
    upstream.send(head(Method::GET, path), Outgoing::Whole(Bytes::new())).await
}

async fn post(upstream: &Upstream, body: &str) -> Result<Reply, Fault> {
    let body = Outgoing::Whole(Bytes::copy_from_slice(body.as_bytes()));
    upstream.send(head(Method::POST, "/v1/chat/completions"), body).await
}

/// An answer whose first byte has come, with the other end of its connection.
async fn begun(upstream: &Upstream, origin: &Origin) -> (ReplyBody, Line<TcpStream>) {
    let (reply, line) = join!(post(upstream, "x"), async {
        let mut line = origin.accept().await;
        line.request().await;
        line.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n").await;
        line
    });
    let mut body = reply.unwrap().body;
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
    (body, line)
}

/// Two exchanges over HTTP/1.1, which answers `one` and `two`.
async fn ask_twice(upstream: &Upstream) {
    for body in ["one", "two"] {
        let reply = post(upstream, "x").await.unwrap();
        assert_eq!(reply.protocol, Protocol::Http1);
        assert_eq!(text(reply).await, body);
    }
}

async fn collect(reply: Reply) -> Result<Collected<Bytes>, Fault> {
    reply.body.collect().await
}

async fn text(reply: Reply) -> String {
    String::from_utf8(collect(reply).await.unwrap().to_bytes().to_vec()).unwrap()
}
