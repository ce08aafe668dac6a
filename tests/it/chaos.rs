//! A model server that does everything wrong, in front of clients that partly leave: every request
//! ends with a status that fits, and nothing is left behind.

use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;

use crate::{
    client::{Answer, Ask, Http2, is_reset},
    origin::{Gate, Origin, Reply, Seen, Step},
    proxy::{Setup, eventually, patiently},
    talk::{self, done, events, finish, piece, whole},
};

/// Every way to go wrong, and a few to go right.
const WAYS: usize = 18;

fn misbehave(way: usize, seen: &Seen, call: usize, never: &Gate) -> Reply {
    let stall = || Step::Await(never.clone());
    let text = Step::Send(piece("one"));
    match way {
        0 => Reply::raw([Step::Cut]),
        1 => Reply::raw([Step::Send(Bytes::from("HTTP/1.1 2")), Step::Cut]),
        2 => Reply::raw([Step::Send(Bytes::from("SSH-2.0-OpenSSH_9.2\r\n")), Step::Cut]),
        3 => Reply::stream([text, Step::Cut]),
        4 => Reply::stream([text, stall()]),
        5 => Reply::stream([text]).after(stall()),
        6 => Reply::stream([stall()]),
        7 => Reply::json(whole("short", "stop")).length(10_000).then(Step::Cut),
        8 => Reply::json(whole("long", "stop")).length(10),
        9 => Reply::stream([Step::Send(Bytes::from("data: {{{\n\ndata: \u{0}\n\n")), text]),
        10 => Reply::stream([Step::Send(Bytes::from(vec![b'x'; 1 << 16])), text]),
        11 => Reply::json(Bytes::from_static(b"{\"error\":{}}")).status(429),
        12 => Reply::json(Bytes::from_static(b"{}")).status(503).header("retry-after", "1"),
        13 => Reply::json(Bytes::from_static(b"boom")).status(500),
        14 => Reply::stream([Step::Send(Bytes::from("data: {\"error\":{\"code\":503}}\n\n"))]),
        // One byte at a time.
        15 => Reply::stream(
            events(&["drip", " drop"])
                .concat()
                .iter()
                .map(|byte| Step::Send(Bytes::copy_from_slice(&[*byte])))
                .collect::<Vec<_>>(),
        ),
        16 => Reply::stream([text, Step::Send(finish("stop")), Step::Send(done()), Step::Cut]),
        _ => talk::model(seen, call),
    }
}

fn is_fit(answer: &Answer) -> bool {
    match answer.status.as_u16() {
        200 => true,
        429 | 500 | 502 | 503 | 504 => !answer.body.is_empty(),
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_model_server_does_every_request_ends_and_nothing_is_left() {
    let never = Gate::new();
    let script = never.clone();
    let misbehave =
        move |seen: &Seen, call: usize| misbehave(call.wrapping_mul(7) % WAYS, seen, call, &script);
    let origin = Origin::start(misbehave.clone()).await;
    survives(&origin, Setup::new(&origin)).await;
    let origin = Origin::start_h2(misbehave).await;
    survives(&origin, Setup::nowhere().http2_to(&origin)).await;
}

async fn survives(origin: &Origin, setup: Setup) {
    let spare = format!("[\"http://{0}\", \"http://{0}/\"]", origin.address);
    let proxy = setup
        .replicas(&spare)
        .with("timeouts.first_byte = \"150ms\"\ntimeouts.first_token = \"200ms\"")
        .with("timeouts.idle = \"150ms\"\ntimeouts.lifetime = \"3s\"")
        .open()
        .await;
    for round in 0..6 {
        let asked = (0..60).map(|number| {
            let text = format!("round {round} number {number}?");
            let ask = match number % 3 {
                0 => Ask::stream(&text),
                1 => Ask::chat(&text),
                _ => Ask::new(Method::POST, "/v1/files", text),
            };
            (number, proxy.spawn(&ask))
        });
        for (number, asked) in asked.collect::<Vec<_>>() {
            if number % 10 == 9 {
                asked.abort();
                continue;
            }
            let answer = asked.await.unwrap();
            assert!(is_fit(&answer), "{answer:?}");
        }
        // The same from the other side's HTTP/2: half of the streams are left half-way.
        let over_h2 = Http2::connect(proxy.address).await;
        let streams = (60..100).map(|number| {
            let (over_h2, ask) =
                (&over_h2, Ask::stream(&format!("round {round} number {number}?")));
            async move {
                match over_h2.open(&ask).await {
                    Ok(live) if number % 2 == 0 => {
                        let answer = live.rest().await;
                        assert!(is_fit(&answer), "{answer:?}");
                    }
                    Ok(left) => drop(left),
                    Err(error) => assert!(is_reset(&error), "{error:?}"),
                }
            }
        });
        patiently(join_all(streams)).await;
    }
    let house = proxy.house();
    eventually("no permit is held", || house.admission.in_flight() == 0).await;
    eventually("no journey runs", || house.tasks.is_empty()).await;
    let report = || house.flights.report();
    eventually("no flight is left", || report().running == 0 && report().log_bytes == 0).await;
    eventually("no body is held", || house.bodies.taken() == 0).await;
    eventually("no exchange counts", || {
        house.upstreams.all()[0].report().iter().all(|replica| replica.in_flight == 0)
    })
    .await;
}
