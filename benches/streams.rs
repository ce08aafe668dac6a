//! A load generator that hears streams: `streams URL STREAMS TOTAL RAMP_MS [HEADER:VALUE...]`.
//!
//! Keeps `STREAMS` streamed chat completions running until `TOTAL` have ended, each one after another over
//! an HTTP/1.1 connection of its own, and prints one JSON object: microseconds to the first event
//! (`first_*`), between events (`gap_*`), and by how much an event was later than the steady pace of
//! its own stream (`lag_*`), at p50, p99 and p99.9. A prompt is never asked twice.
//!
//! The first streams begin within `RAMP_MS`, one after another: with about the length of a stream, as many
//! begin at any time as end, where at once they would all stand in line for their first token. With a ramp,
//! what begins in it is not counted, nor are the last streams, which end alone.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for developers"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Microseconds, one list a question.
#[derive(Default)]
struct Heard {
    first: Vec<u64>,
    gap: Vec<u64>,
    lag: Vec<u64>,
    failed: usize,
}

struct Errand {
    authority: String,
    headers: Vec<(String, String)>,
    streams: usize,
    left: AtomicUsize,
    run: u128,
    begun: Instant,
    ramp: Duration,
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (Some(url), Some(streams), Some(total), Some(ramp)) = (
        arguments.next(),
        number(arguments.next()),
        number(arguments.next()),
        number(arguments.next()),
    ) else {
        return eprintln!(
            "usage: streams http://HOST:PORT STREAMS TOTAL RAMP_MS [HEADER:VALUE...]"
        );
    };
    let headers = arguments.filter_map(|header| {
        header.split_once(':').map(|(name, value)| (name.to_owned(), value.to_owned()))
    });
    let errand = Arc::new(Errand {
        authority: url.trim_start_matches("http://").trim_end_matches('/').to_owned(),
        headers: headers.collect(),
        streams,
        left: AtomicUsize::new(total),
        run: std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos(),
        begun: Instant::now(),
        ramp: Duration::from_millis(ramp as u64),
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let heard = runtime.block_on(async {
        let begins = |place| errand.ramp.mul_f64(place as f64 / streams as f64);
        let listeners: Vec<_> =
            (0..streams).map(|place| tokio::spawn(listen(errand.clone(), begins(place)))).collect();
        let mut all = Heard::default();
        for listener in listeners {
            let mut one = listener.await.unwrap();
            all.first.append(&mut one.first);
            all.gap.append(&mut one.gap);
            all.lag.append(&mut one.lag);
            all.failed += one.failed;
        }
        all
    });
    report(heard);
}

fn number(argument: Option<String>) -> Option<usize> {
    argument?.parse().ok()
}

async fn listen(errand: Arc<Errand>, begins: Duration) -> Heard {
    let mut heard = Heard::default();
    let mut connection = None;
    tokio::time::sleep(begins).await;
    loop {
        let turn = errand
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        let Ok(turn) = turn else { return heard };
        let mut this = Heard::default();
        let whole_load =
            errand.ramp.is_zero() || errand.begun.elapsed() >= errand.ramp && turn > errand.streams;
        if stream(&errand, &mut connection, turn, &mut this).await.is_none() {
            heard.failed += 1;
            connection = None;
        } else if whole_load {
            heard.first.append(&mut this.first);
            heard.gap.append(&mut this.gap);
            heard.lag.append(&mut this.lag);
        }
    }
}

async fn connect(errand: &Errand) -> Option<SendRequest<Full<Bytes>>> {
    let socket = TcpStream::connect(&errand.authority).await.ok()?;
    socket.set_nodelay(true).ok()?;
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}

/// One stream from its request to its end; `None` if anything about it was not as it should be.
async fn stream(
    errand: &Errand,
    connection: &mut Option<SendRequest<Full<Bytes>>>,
    turn: usize,
    heard: &mut Heard,
) -> Option<()> {
    if connection.is_none() {
        *connection = connect(errand).await;
    }
    let sender = connection.as_mut()?;
    sender.ready().await.ok()?;
    let body = format!(
        r#"{{"model":"sim","stream":true,"messages":[{{"role":"user","content":"Stream {turn} of run {}: tell me a story."}}]}}"#,
        errand.run
    );
    let mut request = Request::post("/v1/chat/completions")
        .header("host", &errand.authority)
        .header("content-type", "application/json")
        .header("authorization", "Bearer streams");
    for (name, value) in &errand.headers {
        request = request.header(name, value);
    }
    let begun = Instant::now();
    let response =
        sender.send_request(request.body(Full::new(Bytes::from(body))).ok()?).await.ok()?;
    if response.status() != 200 {
        return None;
    }
    let mut body = response.into_body();
    let mut arrivals = Vec::with_capacity(256);
    let mut tail = [0_u8; 16];
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        let now = Instant::now();
        arrivals.extend((0..events(&data)).map(|_| now));
        let kept = data.len().min(tail.len());
        tail.rotate_left(kept);
        let room = tail.len() - kept;
        tail[room..].copy_from_slice(&data[data.len() - kept..]);
    }
    if !tail.ends_with(b"[DONE]\n\n") || arrivals.len() < 3 {
        return None;
    }
    // The last two events (finish mark and [DONE]) come at once, outside the pace.
    arrivals.truncate(arrivals.len() - 2);
    heard.first.push(micros(begun, arrivals[0]));
    let pace = micros(arrivals[0], *arrivals.last()?) / (arrivals.len() as u64 - 1).max(1);
    for (index, pair) in arrivals.windows(2).enumerate() {
        heard.gap.push(micros(pair[0], pair[1]));
        let due = pace * (index as u64 + 1);
        heard.lag.push(micros(arrivals[0], pair[1]).saturating_sub(due));
    }
    Some(())
}

/// How many events end in these bytes. Servers of the bench write whole events.
fn events(data: &[u8]) -> usize {
    data.windows(2).filter(|pair| pair == b"\n\n").count()
}

fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.duration_since(from).as_micros()).unwrap_or(u64::MAX)
}

fn report(mut heard: Heard) {
    let mut fields = vec![format!(r#""streams":{},"failed":{}"#, heard.first.len(), heard.failed)];
    for (name, spans) in
        [("first", &mut heard.first), ("gap", &mut heard.gap), ("lag", &mut heard.lag)]
    {
        spans.sort_unstable();
        for (mark, share) in [("p50", 500), ("p99", 990), ("p999", 999)] {
            let at = spans.get(spans.len() * share / 1000).copied().unwrap_or_default();
            fields.push(format!(r#""{name}_{mark}":{at}"#));
        }
    }
    println!("{{{}}}", fields.join(","));
}
