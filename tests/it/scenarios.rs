//! What every cache in front of slow servers must survive, a row a test, over HTTP/1.1 and HTTP/2 on
//! either side. The rows are those of Pingora's own tests of its cache lock and its upstreams.

use std::{net::SocketAddr, sync::Arc};

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use crate::{
    client::{self, Answer, Ask, Http2, Live, is_reset},
    origin::{Gate, Origin, Reply, Seen, Step},
    proxy::{Proxy, Setup, eventually, patiently},
    talk,
};

const CROWD: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Version {
    Http1,
    Http2,
}

/// What is spoken with the client, and with the model server.
const SIDES: [(Version, Version); 4] = [
    (Version::Http1, Version::Http1),
    (Version::Http1, Version::Http2),
    (Version::Http2, Version::Http1),
    (Version::Http2, Version::Http2),
];

/// A client that speaks either; over HTTP/2 all its requests share a connection.
#[derive(Clone)]
enum Client {
    Http1(SocketAddr),
    Http2(Arc<Http2>),
}

impl Client {
    async fn of(version: Version, proxy: &Proxy) -> Self {
        match version {
            Version::Http1 => Self::Http1(proxy.address),
            Version::Http2 => Self::Http2(Arc::new(Http2::connect(proxy.address).await)),
        }
    }

    async fn open(&self, ask: &Ask) -> Result<Live, hyper::Error> {
        match self {
            Self::Http1(address) => client::open(*address, ask).await,
            Self::Http2(connection) => connection.open(ask).await,
        }
    }

    async fn live(&self, ask: &Ask) -> Live {
        patiently(self.open(ask)).await.unwrap()
    }

    async fn send(&self, ask: &Ask) -> Answer {
        patiently(async { self.live(ask).await.rest().await }).await
    }

    /// An answer that is to break off; none if not even its head came through.
    async fn broken(&self, ask: &Ask) -> Option<Answer> {
        match patiently(self.open(ask)).await {
            Ok(live) => Some(patiently(live.rest()).await),
            Err(error) => {
                assert!(is_reset(&error), "{error:?}");
                None
            }
        }
    }

    fn spawn(&self, ask: &Ask) -> JoinHandle<Answer> {
        let (client, ask) = (self.clone(), ask.clone());
        tokio::spawn(async move { client.send(&ask).await })
    }

    async fn crowd(&self, ask: &Ask) -> Vec<Answer> {
        join_all((0..CROWD).map(|_| self.send(ask))).await
    }

    /// The same where answers are to break off: those whose head came through.
    async fn broken_crowd(&self, ask: &Ask) -> Vec<Answer> {
        let crowd = join_all((0..CROWD).map(|_| self.broken(ask))).await;
        crowd.into_iter().flatten().collect()
    }
}

/// A house between a client and a model server, on one of [`SIDES`].
struct Row {
    origin: Origin,
    proxy: Proxy,
    client: Client,
}

impl Row {
    async fn open(
        (client, upstream): (Version, Version),
        settings: &str,
        script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let (origin, setup) = match upstream {
            Version::Http1 => {
                let origin = Origin::start(script).await;
                let setup = Setup::new(&origin);
                (origin, setup)
            }
            Version::Http2 => {
                let origin = Origin::start_h2(script).await;
                let setup = Setup::nowhere().http2_to(&origin);
                (origin, setup)
            }
        };
        let proxy = setup.with(settings).open().await;
        let client = Client::of(client, &proxy).await;
        Self { origin, proxy, client }
    }

    async fn nothing_is_left(&self) {
        let house = self.proxy.house();
        eventually("no permit is held", || house.admission.in_flight() == 0).await;
        eventually("no journey runs", || house.tasks.is_empty()).await;
        let report = || house.flights.report();
        eventually("no flight is left", || report().running == 0 && report().log_bytes == 0).await;
        eventually("no exchange counts", || {
            house.upstreams.all()[0].report().iter().all(|replica| replica.in_flight == 0)
        })
        .await;
    }
}

/// One, then a wait, then the rest.
fn halting(gate: &Gate) -> Reply {
    let mut steps: Vec<Step> = talk::events(&["one", " two"]).into_iter().map(Step::Send).collect();
    steps.insert(1, Step::Await(gate.clone()));
    Reply::stream(steps)
}

fn whole() -> Vec<u8> {
    talk::events(&["one", " two"]).concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_hit() {
    for sides in SIDES {
        let gate = Gate::new();
        let script = gate.clone();
        let row = Row::open(sides, "", move |_, _| halting(&script)).await;
        let crowd: Vec<_> = (0..CROWD).map(|_| row.client.spawn(&Ask::stream("why?"))).collect();
        row.proxy.joined(CROWD as u64 - 1).await;
        gate.open();
        for answer in crowd {
            let answer = answer.await.unwrap();
            assert!(answer.complete && answer.body == whole(), "{sides:?}");
        }
        assert_eq!(row.origin.calls(), 1, "{sides:?}");
        assert_eq!(row.client.send(&Ask::stream("why?")).await.x_cache(), "HIT");
        row.nothing_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_network_error() {
    for sides in SIDES {
        let gate = Gate::new();
        let script = gate.clone();
        let row = Row::open(sides, "", move |seen, call| match call {
            0 => Reply::stream([Step::Cut]).after(Step::Await(script.clone())).after(Step::Cut),
            _ => talk::model(seen, call),
        })
        .await;
        let crowd: Vec<_> = (0..CROWD).map(|_| row.client.spawn(&Ask::stream("why?"))).collect();
        row.proxy.joined(CROWD as u64 - 1).await;
        gate.open();
        for answer in crowd {
            assert_eq!(answer.await.unwrap().status, 502, "{sides:?}");
        }
        assert_eq!(row.client.send(&Ask::stream("why?")).await.status, 200);
        row.nothing_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_uncacheable() {
    for sides in SIDES {
        let gate = Gate::new();
        let script = gate.clone();
        let row = Row::open(sides, "", move |_, _| {
            halting(&script).header("cache-control", "private, max-age=60")
        })
        .await;
        let ask = Ask::stream("why?");
        let crowd: Vec<_> = (0..CROWD).map(|_| row.client.spawn(&ask)).collect();
        // All are on their way before the first one is over: nobody waits for another.
        row.origin.called(CROWD).await;
        gate.open();
        for answer in crowd {
            let answer = answer.await.unwrap();
            assert!(answer.complete && answer.body == whole(), "{sides:?}");
            assert!(!answer.cache_status().collapsed && !answer.cache_status().stored);
        }
        assert_eq!(row.origin.calls(), CROWD, "{sides:?}");
        let again = row.client.send(&ask).await;
        assert_eq!(again.cache_status().detail.as_deref(), Some("uncacheable"));
        assert!(row.proxy.reasons("uncacheable") >= 1);
        row.nothing_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_age_and_wait_timeout() {
    for sides in SIDES {
        let never = Gate::new();
        let limits = "timeouts.first_byte = \"150ms\"\ntimeouts.first_token = \"150ms\"";
        let row =
            Row::open(sides, limits, move |_, _| halting(&never).after(Step::Await(never.clone())))
                .await;
        for answer in row.client.crowd(&Ask::stream("why?")).await {
            assert_eq!(answer.status, 504, "{sides:?}");
        }
        row.nothing_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_on_network_error_and_on_error_mid_response() {
    for sides in SIDES {
        let row = Row::open(sides, "cache.grace = \"1h\"", |seen, call| match call {
            0 => talk::model(seen, call),
            _ if call % 2 == 1 => Reply::raw([Step::Cut]),
            _ => Reply::stream([Step::Send(talk::piece("other")), Step::Cut]),
        })
        .await;
        let ask = Ask::stream("why?").header("x-reprise-ttl", "1ms");
        let first = row.client.send(&ask).await;
        let mut details = Vec::new();
        while row.origin.calls() < 3 || details.len() < 4 {
            let answer = row.client.send(&ask).await;
            assert_eq!((answer.x_cache(), &answer.body), ("HIT", &first.body), "{sides:?}");
            details.extend(answer.cache_status().detail);
            row.proxy.landed().await;
        }
        assert!(details.iter().any(|detail| detail == "stale_on_error"), "{details:?}");
        row.nothing_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_while_revalidate_with_many_readers() {
    for sides in SIDES {
        let gate = Gate::new();
        let script = gate.clone();
        let row = Row::open(sides, "cache.grace = \"1h\"", move |seen, call| {
            let reply = talk::model(seen, call);
            if call == 0 { reply } else { reply.after(Step::Await(script.clone())) }
        })
        .await;
        let short = Ask::stream("why?").header("x-reprise-ttl", "1s");
        let first = row.client.send(&short).await;
        let ask = Ask::stream("why?");
        while row.client.send(&ask).await.cache_status().detail.as_deref() != Some("stale") {}
        for answer in row.client.crowd(&ask).await {
            assert_eq!((answer.x_cache(), &answer.body), ("HIT", &first.body), "{sides:?}");
        }
        row.origin.called(2).await;
        assert_eq!(row.origin.calls(), 2, "{sides:?}");
        gate.open();
        row.proxy.landed().await;
        assert!(row.client.send(&ask).await.text().contains("call 1"));
        row.nothing_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streaming_partial_body() {
    for sides in SIDES {
        let gate = Gate::new();
        let script = gate.clone();
        let row = Row::open(sides, "", move |_, _| halting(&script)).await;
        let first = talk::piece("one");
        for _ in 0..3 {
            let mut live = row.client.live(&Ask::stream("why?")).await;
            assert_eq!(live.read(first.len()).await, first, "{sides:?}");
        }
        gate.open();
        row.proxy.landed().await;
        let answer = row.client.send(&Ask::stream("why?")).await;
        assert_eq!(answer.x_cache(), "HIT", "{sides:?}");
        assert_eq!(answer.body, whole(), "{sides:?}");
        assert_eq!(row.origin.calls(), 1);
        row.nothing_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_on_one_key() {
    for sides in SIDES {
        let gate = Gate::new();
        let script = gate.clone();
        let row = Row::open(sides, "", move |seen, call| {
            talk::model(seen, call).after(Step::Await(script.clone()))
        })
        .await;
        let anew = Ask::stream("why?").header("cache-control", "no-cache");
        let writers = [row.client.spawn(&anew), row.client.spawn(&anew)];
        row.origin.called(2).await;
        gate.open();
        let mut said = Vec::new();
        for writer in writers {
            let answer = writer.await.unwrap();
            assert!(answer.complete && answer.x_cache() == "MISS", "{sides:?}");
            said.push(answer.body);
        }
        assert_ne!(said[0], said[1]);
        let hit = row.client.send(&Ask::stream("why?")).await;
        assert_eq!(hit.x_cache(), "HIT");
        assert!(said.contains(&hit.body), "{sides:?}");
        row.nothing_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_bails_and_one_that_stalls() {
    for sides in SIDES {
        let gate = Gate::new();
        let script = gate.clone();
        let row = Row::open(sides, "", move |_, _| halting(&script)).await;
        let ask = Ask::stream("why?");
        let mut bails = row.client.live(&ask).await;
        bails.read(1).await;
        // It reads its head and then nothing for as long as the test lasts.
        let stalls = row.client.live(&ask).await;
        drop(bails);
        gate.open();
        let answer = row.client.send(&ask).await;
        assert_eq!(answer.body, whole(), "{sides:?}");
        row.proxy.landed().await;
        assert_eq!(row.client.send(&ask).await.x_cache(), "HIT");
        assert_eq!(stalls.rest().await.body, whole());
        assert_eq!(row.origin.calls(), 1);
        row.nothing_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_premature_end_is_never_kept() {
    for sides in SIDES {
        let row = Row::open(sides, "", |seen, call| match call {
            0 => Reply::stream([Step::Send(talk::piece("one")), Step::Cut]),
            1 => Reply::json(talk::whole("one", "stop")).length(10_000).then(Step::Cut),
            _ => talk::model(seen, call),
        })
        .await;
        if let Some(broken) = row.client.broken(&Ask::stream("why?")).await {
            assert!(!broken.text().contains("[DONE]"), "{sides:?} {broken:?}");
            assert!(!broken.complete || broken.text().contains("error"), "{sides:?} {broken:?}");
        }
        row.proxy.landed().await;
        if let Some(short) = row.client.broken(&Ask::chat("why?")).await {
            assert!(!short.complete || short.status != 200, "{sides:?} {short:?}");
        }
        row.proxy.landed().await;
        assert_eq!(row.client.send(&Ask::stream("why?")).await.x_cache(), "MISS", "{sides:?}");
        row.nothing_is_left().await;
    }
}

/// Pingora bounds the rate of a download; here silence is bounded.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_comes_to_rest() {
    for sides in SIDES {
        let never = Gate::new();
        let row = Row::open(sides, "timeouts.idle = \"150ms\"", move |_, _| halting(&never)).await;
        let mut heard = 0;
        // Where the machine stands still for longer than the limit, heads come with a reset.
        for _ in 0..3 {
            let crowd = row.client.broken_crowd(&Ask::stream("why?")).await;
            for answer in &crowd {
                assert!(answer.body.starts_with(&talk::piece("one")), "{sides:?}");
                assert!(!answer.text().contains("[DONE]"), "{sides:?}");
            }
            heard = heard.max(crowd.len());
            if heard == CROWD {
                break;
            }
        }
        assert_eq!(heard, CROWD, "{sides:?}");
        row.nothing_is_left().await;
    }
}
