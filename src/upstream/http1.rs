//! One HTTP/1.1 connection, driven by the request that has it.
//!
//! There is no task for it. While a request has the connection, polling the request's head or body
//! polls the connection; between requests nobody does, apart from the pool's sweep. That saves two
//! task switches a frame, makes "the exchange is over and the connection is free" an exact
//! statement instead of a race, and lets a dropped request close its connection in the drop itself.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::time::Duration;

use super::{
    deadline::Deadline, gate::Gate, movable::Mover, outgoing::Upload, socket::Socket,
    unanswered::Unanswered, watchdog::Watchdog,
};

/// Bytes that a connection may buffer to read, and so what an idle one may keep. A response head
/// must fit; bodies come in pieces of at most this size.
const BUFFER_BYTES: usize = 128 * 1024;

/// Bytes of a response head, status line included.
const HEAD_BYTES: usize = 64 * 1024;

type Wire = http1::Connection<TokioIo<Socket>, Upload>;

/// An open connection.
pub(super) struct Http1 {
    sender: http1::SendRequest<Upload>,
    /// `None` once the connection is over.
    wire: Option<Wire>,
    gate: Gate,
    mover: Mover,
    /// The pool's epoch in which it was opened.
    pub(super) epoch: u64,
    /// Times the exchanges one after the other.
    pub(super) watchdog: Watchdog,
}

impl Http1 {
    /// A connection over a fresh socket. `horizon` is the shortest limit of any exchange.
    pub(super) async fn new(
        socket: Socket,
        horizon: Duration,
        epoch: u64,
    ) -> hyper::Result<Box<Self>> {
        let mut builder = http1::Builder::new();
        // The number of headers stays at hyper's 100: setting it moves the parser to the heap.
        builder.max_buf_size(BUFFER_BYTES).max_header_size(HEAD_BYTES);
        let mover = socket.mover();
        let (sender, wire) = builder.handshake(TokioIo::new(socket)).await?;
        let watchdog = Watchdog::new(horizon);
        Ok(Box::new(Self { sender, wire: Some(wire), gate: Gate::new(), mover, epoch, watchdog }))
    }

    /// Sends `request` and waits for the response head; the body is [`Self::poll_frame`]'s.
    pub(super) async fn send(
        &mut self,
        request: Request<Upload>,
        deadline: &Deadline,
    ) -> Result<Response<Incoming>, Unanswered> {
        if !self.is_here() {
            // What the kernel told the other runtime is looked at before it is forgotten: on a
            // connection that the other side has closed, nothing must be written.
            self.is_open();
            self.mover.here();
        }
        let Self { sender, wire, gate, watchdog, .. } = self;
        let mut response = pin!(gate.hush(|| sender.try_send_request(request)));
        poll_fn(|cx| {
            let answered = gate.poll(cx, |cx| {
                drive(wire, cx);
                response.as_mut().poll(cx)
            });
            if let Poll::Ready(answered) = answered {
                return Poll::Ready(answered.map_err(Unanswered::from));
            }
            deadline.poll_passed(cx, watchdog).map(|()| Err(Unanswered::Late))
        })
        .await
    }

    /// The next frame of the response's `body`.
    pub(super) fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Self { wire, gate, .. } = self;
        gate.poll(cx, |cx| {
            drive(wire, cx);
            Pin::new(&mut *body).poll_frame(cx)
        })
    }

    /// Whether the last exchange is completely over, both ways, and another may follow.
    pub(super) fn is_free(&self) -> bool {
        self.wire.is_some() && self.sender.is_ready()
    }

    /// Whether its events come to the runtime that this is called on.
    pub(super) fn is_here(&self) -> bool {
        self.mover.is_here()
    }

    /// Whether an idle connection is still open, as far as the kernel told us.
    pub(super) fn is_open(&mut self) -> bool {
        let Self { wire, gate, .. } = self;
        let _looked: Poll<()> = gate.poll(&mut Context::from_waker(Waker::noop()), |cx| {
            drive(wire, cx);
            Poll::Pending
        });
        self.is_free()
    }
}

fn drive(wire: &mut Option<Wire>, cx: &mut Context<'_>) {
    // The outcome reaches whoever waits for a head or a body; here it only says that it is over.
    // Dropping it then is what hands an unwritten request back.
    if wire.as_mut().is_some_and(|wire| Pin::new(wire).poll(cx).is_ready()) {
        *wire = None;
    }
}
