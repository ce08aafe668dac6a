//! Scripted model servers: HTTP/1.1 by hand, so that they can also misbehave, and HTTP/2.

mod http2;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

/// A request as the model server got it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// The value of a header, `""` if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A door that a script waits at until a test opens it.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets everybody through, now and later.
    pub(crate) fn open(&self) {
        self.0.close();
    }

    /// Lets one through.
    pub(crate) fn step(&self) {
        self.0.add_permits(1);
    }

    pub(crate) async fn pass(&self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

/// What a script does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Send these bytes of the body.
    Send(Bytes),
    /// Wait.
    Await(Gate),
    /// Break the connection off: the answer is not complete.
    Cut,
    /// Trailers; only in a chunked answer.
    Trailer(&'static str, &'static str),
}

impl From<Bytes> for Step {
    fn from(bytes: Bytes) -> Self {
        Self::Send(bytes)
    }
}

/// How an answer says where it ends.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Length(usize),
    Chunked,
    /// The steps hold the head too.
    Raw,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    framing: Framing,
    /// Done before the head is sent.
    before: Vec<Step>,
    steps: Vec<Step>,
}

impl Reply {
    fn new(status: u16, kind: &str, framing: Framing, steps: Vec<Step>) -> Self {
        let headers = vec![("content-type", kind.to_owned())];
        Self { status, headers, framing, before: Vec::new(), steps }
    }

    /// Server-sent events, chunked.
    pub(crate) fn stream<S: Into<Step>>(steps: impl IntoIterator<Item = S>) -> Self {
        let steps = steps.into_iter().map(Into::into).collect();
        Self::new(200, "text/event-stream", Framing::Chunked, steps)
    }

    /// One JSON body.
    pub(crate) fn json(body: Bytes) -> Self {
        Self::new(200, "application/json", Framing::Length(body.len()), vec![body.into()])
    }

    /// Whatever these steps write, head included.
    pub(crate) fn raw<S: Into<Step>>(steps: impl IntoIterator<Item = S>) -> Self {
        let steps = steps.into_iter().map(Into::into).collect();
        Self::new(200, "", Framing::Raw, steps)
    }

    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Announces this length, true or not.
    pub(crate) fn length(mut self, length: usize) -> Self {
        self.framing = Framing::Length(length);
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Does this before the head.
    pub(crate) fn after(mut self, step: Step) -> Self {
        self.before.push(step);
        self
    }

    /// Does this last.
    pub(crate) fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match self.framing {
            Framing::Length(length) => head.push_str(&format!("content-length: {length}\r\n\r\n")),
            Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n\r\n"),
            Framing::Raw => head.clear(),
        }
        head.into_bytes()
    }
}

type Script = Arc<dyn Fn(&Seen, usize) -> Reply + Send + Sync>;

struct Shared {
    script: Script,
    calls: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
    /// How often a peer left while a script was not done.
    hangups: watch::Sender<usize>,
    connections: AtomicUsize,
}

/// A scripted model server; gone with this value.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
}

impl Origin {
    /// HTTP/1.1. The script gets the request and the number of the call, from 0.
    pub(crate) async fn start(
        script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(script, |stream, shared| async move {
            let _ = serve(stream, &shared).await;
        })
        .await
    }

    /// HTTP/2 with prior knowledge.
    pub(crate) async fn start_h2(
        script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(script, http2::serve).await
    }

    async fn listen<F: Future<Output = ()> + Send + 'static>(
        script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
        serve: impl Fn(TcpStream, Arc<Shared>) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Arc::new(script),
            calls: AtomicUsize::new(0),
            seen: Mutex::default(),
            hangups: watch::Sender::new(0),
            connections: AtomicUsize::new(0),
        });
        let inside = shared.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                inside.connections.fetch_add(1, Ordering::Relaxed);
                connections.spawn(serve(stream, inside.clone()));
            }
        });
        Self { address, shared, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Requests so far.
    pub(crate) fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Waits for so many requests.
    pub(crate) async fn called(&self, calls: usize) {
        crate::proxy::eventually("the model server is called", || self.calls() >= calls).await;
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// The last request.
    pub(crate) fn last(&self) -> Seen {
        self.shared.seen.lock().last().cloned().unwrap()
    }

    /// Waits until so many peers have left in the middle of an answer.
    pub(crate) async fn hangups(&self, wanted: usize) {
        let mut hangups = self.shared.hangups.subscribe();
        hangups.wait_for(|so_far| *so_far >= wanted).await.unwrap();
    }

    /// How many have.
    pub(crate) fn hangups_so_far(&self) -> usize {
        *self.shared.hangups.borrow()
    }
}

impl Shared {
    fn begin(&self, seen: Seen) -> Reply {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let reply = (self.script)(&seen, call);
        self.seen.lock().push(seen);
        reply
    }

    fn hung_up(&self) {
        self.hangups.send_modify(|hangups| *hangups += 1);
    }
}

// === HTTP/1.1 ===

async fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(seen) = read(&mut stream, &mut buffer).await? {
        let reply = shared.begin(seen);
        match play(&mut stream, &reply).await {
            Ok(Played::Whole) => {}
            Ok(Played::Cut) => return Ok(()),
            Err(error) => {
                shared.hung_up();
                return Err(error);
            }
        }
    }
    Ok(())
}

/// The next request; `None` at the end of the connection.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Seen>> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap().split(' ').map(str::to_owned);
    let mut seen =
        Seen { method: words.next().unwrap(), target: words.next().unwrap(), ..Seen::default() };
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        seen.headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    if seen.header("transfer-encoding") == "chunked" {
        while let Some(chunk) = read_chunk(stream, buffer).await? {
            seen.body.extend(chunk);
        }
    } else if let Ok(length) = seen.header("content-length").parse::<usize>() {
        while buffer.len() < length {
            if stream.read_buf(buffer).await? == 0 {
                return Ok(None);
            }
        }
        seen.body = buffer.drain(..length).collect();
    }
    Ok(Some(seen))
}

async fn read_chunk(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> std::io::Result<Option<Vec<u8>>> {
    let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let (start, size) = loop {
        if let Some(at) = buffer.windows(2).position(|window| window == b"\r\n") {
            let size = std::str::from_utf8(&buffer[..at]).unwrap();
            break (at + 2, usize::from_str_radix(size, 16).unwrap());
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(cut());
        }
    };
    while buffer.len() < start + size + 2 {
        if stream.read_buf(buffer).await? == 0 {
            return Err(cut());
        }
    }
    let chunk = buffer[start..start + size].to_vec();
    buffer.drain(..start + size + 2);
    Ok((size > 0).then_some(chunk))
}

enum Played {
    Whole,
    Cut,
}

async fn play(stream: &mut TcpStream, reply: &Reply) -> std::io::Result<Played> {
    for step in &reply.before {
        if let Played::Cut = walk(stream, step, Framing::Raw).await? {
            return Ok(Played::Cut);
        }
    }
    stream.write_all(&reply.head()).await?;
    let mut trailers = String::new();
    for step in &reply.steps {
        match step {
            Step::Trailer(name, value) => trailers.push_str(&format!("{name}: {value}\r\n")),
            step => {
                if let Played::Cut = walk(stream, step, reply.framing).await? {
                    return Ok(Played::Cut);
                }
            }
        }
    }
    if let Framing::Chunked = reply.framing {
        stream.write_all(format!("0\r\n{trailers}\r\n").as_bytes()).await?;
    }
    Ok(Played::Whole)
}

async fn walk(stream: &mut TcpStream, step: &Step, framing: Framing) -> std::io::Result<Played> {
    match step {
        Step::Send(bytes) if bytes.is_empty() => {}
        Step::Send(bytes) => {
            let mut framed = Vec::with_capacity(bytes.len() + 16);
            if let Framing::Chunked = framing {
                framed.extend(format!("{:x}\r\n", bytes.len()).into_bytes());
            }
            framed.extend_from_slice(bytes);
            if let Framing::Chunked = framing {
                framed.extend(b"\r\n");
            }
            stream.write_all(&framed).await?;
        }
        Step::Await(gate) => {
            let mut byte = [0];
            tokio::select! {
                () = gate.pass() => {}
                read = stream.read(&mut byte) => {
                    assert_eq!(read?, 0, "a request before the answer to the one before it");
                    return Err(std::io::ErrorKind::ConnectionAborted.into());
                }
            }
        }
        Step::Cut => return Ok(Played::Cut),
        Step::Trailer(..) => panic!("trailers come last, in a chunked answer"),
    }
    Ok(Played::Whole)
}
