//! Connections that become another protocol: websockets.
//!
//! Each has a connection of its own, opened for it; once both sides have agreed, bytes are passed on
//! and nobody here reads them.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use http::{HeaderValue, Request, StatusCode, header, request, response, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Collected, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, timeout},
};

use super::{
    Upstream, balance::Branch, in_flight::InFlight, replica::Replica, socket::Socket,
    verdict::Verdict,
};
use crate::fault::{Fault, Kind};

/// The most bytes of a refusal.
const REFUSAL_MAX: usize = 1 << 20;

/// What a server says to the wish for another protocol.
#[derive(Debug)]
pub enum Answered {
    /// It agrees: the head to pass on, and its bytes from now on.
    Switched(response::Parts, Tunnel),
    /// It does not: an ordinary answer.
    Refused(response::Parts, Bytes),
}

/// The server's side of what became of a connection. It counts as an exchange of its replica to its
/// end.
pub struct Tunnel {
    socket: Socket,
    /// Bytes that came behind the head.
    early: Bytes,
    _flight: InFlight,
}

impl Upstream {
    /// Asks for the protocol that `head` names in its `Upgrade` header.
    ///
    /// # Errors
    /// No connection, or no answer in time.
    pub async fn upgrade(&self, head: request::Parts) -> Result<Answered, Fault> {
        let path = head.uri.path_and_query().cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut tried = Vec::new();
        let mut last = Err(Fault::new(Kind::Internal, "an upstream without replicas"));
        while let Some(pick) = self.balance.pick(&self.replicas, &tried, None, Instant::now()) {
            tried.push(pick.index);
            let flight = InFlight::new(pick.replica, None, pick.branch == Branch::Trial);
            last = match pick.replica.pool.dial_http1().await {
                Ok(socket) => return pick.replica.switch(socket, head, &path, flight).await,
                Err(fault) => {
                    let mut flight = flight;
                    flight.judge_fault(&fault);
                    Err(fault)
                }
            };
        }
        last
    }
}

impl Replica {
    async fn switch(
        &self,
        socket: Socket,
        head: request::Parts,
        path: &PathAndQuery,
        mut flight: InFlight,
    ) -> Result<Answered, Fault> {
        let (limit, began) = (self.limits.first_byte, Instant::now());
        let mut request = Request::from_parts(head, Empty::new());
        *request.uri_mut() = self.join(path).into();
        request.extensions_mut().clear();
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.remove(header::TE);
        let answered = match timeout(limit, answer(socket, request)).await {
            Ok(answered) => answered.map_err(|error| self.peer().reset(&error)),
            Err(_elapsed) => Err(self.peer().first_byte_timeout(limit)),
        };
        match answered {
            Ok((head, rest)) => {
                flight.judge(Verdict::of_head(&head), began.elapsed());
                Ok(match rest {
                    Rest::Body(body) => Answered::Refused(head, body),
                    Rest::Switched(socket, early) => {
                        Answered::Switched(head, Tunnel { socket, early, _flight: flight })
                    }
                })
            }
            Err(fault) => {
                flight.judge_fault(&fault);
                Err(fault)
            }
        }
    }
}

/// What comes behind a head.
enum Rest {
    /// Another protocol, whose first bytes may be here already.
    Switched(Socket, Bytes),
    /// A body; a refusal's own words may be cut, they say no less then.
    Body(Bytes),
}

/// One request over a fresh socket, without a task to drive it.
async fn answer(
    socket: Socket,
    request: Request<Empty<Bytes>>,
) -> hyper::Result<(response::Parts, Rest)> {
    let (mut sender, mut wire) = http1::handshake(TokioIo::new(socket)).await?;
    let mut sending = pin!(sender.send_request(request));
    let mut open = true;
    let response = poll_fn(|cx| {
        open = open && wire.poll_without_shutdown(cx).is_pending();
        sending.as_mut().poll(cx)
    });
    let (head, body) = response.await?.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let parts = wire.into_parts();
        return Ok((head, Rest::Switched(parts.io.into_inner(), parts.read_buf)));
    }
    let mut collecting = pin!(Limited::new(body, REFUSAL_MAX).collect());
    let collected = poll_fn(|cx| {
        open = open && wire.poll_without_shutdown(cx).is_pending();
        collecting.as_mut().poll(cx)
    });
    let body = collected.await.map(Collected::to_bytes).unwrap_or_default();
    Ok((head, Rest::Body(body)))
}

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { socket, early, .. } = self.get_mut();
        if early.is_empty() {
            return Pin::new(socket).poll_read(cx, into);
        }
        let taken = early.len().min(into.remaining());
        into.put_slice(&early[..taken]);
        early.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Tunnel").finish_non_exhaustive()
    }
}
