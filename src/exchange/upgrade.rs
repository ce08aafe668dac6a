//! Websockets (RFC 6455): agreed between client and model server, then bytes both ways.
//!
//! Over HTTP/1.1 only. An HTTP/2 client would ask by extended CONNECT (RFC 8441), which we do not
//! offer, so it asks over HTTP/1.1.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, Version, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    time::Instant,
};

use super::{Body, House, report};
use crate::{
    cache::reason::Reason,
    fault::{Fault, Kind},
    front::{admission::Admitted, hygiene},
    observe::{Outcome, RecordGuard},
    upstream::{Answered, Tunnel, Upstream},
};

/// What is read at once, each way.
const CHUNK: usize = 16 << 10;

/// The wish of a client for a websocket, taken out of a request before hygiene strips it.
pub(super) struct Wish(OnUpgrade);

impl Wish {
    /// `None`: it wants none, or could not have it.
    pub(super) fn of(parts: &mut Parts) -> Option<Self> {
        let says = |name, word: &str| {
            let values = parts.headers.get_all(name).iter();
            let mut words = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
            words.any(|one| one.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
        };
        let wanted = parts.method == Method::GET
            && parts.version == Version::HTTP_11
            && says(header::CONNECTION, "upgrade")
            && says(header::UPGRADE, "websocket");
        let upgrade = parts.extensions.remove::<OnUpgrade>()?;
        wanted.then_some(Self(upgrade))
    }
}

/// Passes the wish on, and the bytes if it comes true.
pub(super) async fn tunnel(
    house: &Arc<House>,
    upstream: &Upstream,
    parts: &mut Parts,
    wish: Wish,
    record: &mut RecordGuard,
) -> Result<Response<Body>, Fault> {
    // A second permit: the first ends with the response, the websocket does not.
    let permit = house.admission.admit()?;
    record.reason = Some(Reason::NotCacheable.name());
    hygiene::strip_control(&mut parts.headers);
    parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let answered = upstream.upgrade(parts.clone()).await?;
    record.outcome = Outcome::Bypass;
    let (head, tunnel) = match answered {
        Answered::Refused(head, body) => {
            return Ok(report::bypass(head, Reason::NotCacheable, Body::whole(body)));
        }
        Answered::Switched(head, tunnel) => (head, tunnel),
    };
    if !head
        .headers
        .get(header::UPGRADE)
        .is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"websocket"))
    {
        return Err(Fault::new(
            Kind::Reset,
            "the upstream switched to a protocol that was not asked for",
        ));
    }
    let idle = house.config.timeouts.tunnel_idle.get();
    house.tasks.spawn(carry(wish, tunnel, idle, permit));
    let mut response = report::bypass(head, Reason::NotCacheable, Body::whole(Bytes::new()));
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    Ok(response)
}

/// Carries bytes until both sides are done, one breaks, or neither has said a word for `idle`.
async fn carry(wish: Wish, tunnel: Tunnel, idle: Duration, _permit: Admitted) {
    let client = match wish.0.await {
        Ok(upgraded) => TokioIo::new(upgraded),
        Err(error) => {
            tracing::debug!(%error, "a client left before its websocket began");
            return;
        }
    };
    let ((from_client, to_client), (from_server, to_server)) = (split(client), split(tunnel));
    let heard = Heard::new();
    let both = async {
        let up = pour(from_client, to_server, &heard);
        let down = pour(from_server, to_client, &heard);
        tokio::try_join!(up, down)
    };
    tokio::select! {
        ended = both => if let Err(error) = ended {
            tracing::debug!(%error, "websocket broke off");
        },
        () = heard.silence(idle) => tracing::debug!(?idle, "websocket fell silent"),
    }
}

/// Passes on what `from` says; its end is passed on too.
async fn pour(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    heard: &Heard,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await?;
        heard.now();
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(chunk.get(..read).unwrap_or_default()).await?;
        to.flush().await?;
    }
}

/// When somebody last said something.
struct Heard {
    began: Instant,
    millis: AtomicU64,
}

impl Heard {
    fn new() -> Self {
        Self { began: Instant::now(), millis: AtomicU64::new(0) }
    }

    fn now(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Relaxed);
    }

    /// Ends after so long a silence.
    async fn silence(&self, limit: Duration) {
        loop {
            let until = self.began + Duration::from_millis(self.millis.load(Relaxed)) + limit;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}
