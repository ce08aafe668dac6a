//! The least that a server of the same parts can cost: `floor PORT`. hyper on one single-threaded runtime a
//! core, each with its own listener; the request's body is read, the answer is 616 bytes from memory. No
//! limits, no hygiene, no key, no record: what an exact hit takes above it is ours.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a program for developers")]

use std::{convert::Infallible, net::SocketAddr, thread};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;

const ANSWER: Bytes = Bytes::from_static(&[b'x'; 616]);

fn main() {
    let port = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let Some(port) = port else { return eprintln!("usage: floor PORT") };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    for _ in 1..thread::available_parallelism().unwrap().get() {
        thread::spawn(move || lane(address));
    }
    lane(address);
}

fn lane(address: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let serve = async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseport(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(1024).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::task::spawn_local(
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)),
            );
        }
    };
    tokio::task::LocalSet::new().block_on(&runtime, serve);
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let whole = request.into_body().collect().await;
    drop(whole);
    Ok(Response::new(Full::new(ANSWER)))
}
