//! The HTTP/2 side of a scripted model server.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, sync::mpsc};

use super::{Framing, Seen, Shared, Step};

pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service =
        hyper::service::service_fn(move |request: Request<_>| answer(request, shared.clone()));
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type Frames = mpsc::Receiver<Result<Frame<Bytes>, std::io::Error>>;

/// A body out of a channel.
struct Played(Frames);

impl http_body::Body for Played {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.get_mut().0.poll_recv(context)
    }
}

async fn answer(
    request: Request<hyper::body::Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Played>, std::io::Error> {
    let (head, body) = request.into_parts();
    let seen = Seen {
        method: head.method.to_string(),
        target: head.uri.path_and_query().unwrap().to_string(),
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes().to_vec(),
    };
    let reply = shared.begin(seen);
    let reset = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    for step in &reply.before {
        match step {
            Step::Await(gate) => gate.pass().await,
            Step::Send(_) | Step::Cut | Step::Trailer(..) => return Err(reset()),
        }
    }
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(*name, value);
    }
    match reply.framing {
        Framing::Length(length) => response = response.header("content-length", length),
        Framing::Chunked => {}
        // What is no head in HTTP/1.1 has no form here.
        Framing::Raw => return Err(reset()),
    }
    let (frames, body) = mpsc::channel(1);
    tokio::spawn(async move {
        for step in reply.steps {
            let sent = match step {
                Step::Send(bytes) => frames.send(Ok(Frame::data(bytes))).await,
                Step::Await(gate) => tokio::select! {
                    () = gate.pass() => Ok(()),
                    () = frames.closed() => return shared.hung_up(),
                },
                Step::Cut => frames.send(Err(std::io::ErrorKind::Other.into())).await,
                Step::Trailer(..) => panic!("no trailers over HTTP/2 here"),
            };
            if sent.is_err() {
                return shared.hung_up();
            }
        }
    });
    Ok(response.body(Played(body)).unwrap())
}
