//! The connections of one replica: idle HTTP/1.1 ones, and the few HTTP/2 ones that are shared.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

use super::{
    Protocol,
    connect::{Address, Wrap},
    http1::Http1,
    http2::{Session, Stream},
    socket::Socket,
};
use crate::fault::Fault;

/// Idle HTTP/1.1 connections kept; one more is closed. Bounds sockets after a burst, well above
/// what steady traffic leaves idle.
const IDLE_MAX: usize = 512;

/// How many of the newest idle connections are looked at for one of this lane's own.
const NEAR: usize = 8;

/// HTTP/2 connections to one replica. Past `SESSIONS_MAX * SHARE` streams they fill up further.
const SESSIONS_MAX: usize = 4;

/// See the module.
pub(super) struct Pool {
    address: Address,
    /// Shortest limit of an exchange, for the timer of each connection.
    horizon: Duration,
    /// After this long without use a connection is closed, before the other side does it.
    idle_for: Duration,
    open: Mutex<Open>,
    /// Held by the one request that opens a connection others wait for; with what the last try
    /// came to, so that they need not repeat it one after the other.
    opening: tokio::sync::Mutex<Option<(Instant, Fault)>>,
}

#[derive(Default)]
struct Open {
    /// What the replica spoke last, where that is not known beforehand.
    speaks: Option<Protocol>,
    /// Least recently used first; the newest is taken, so that the rest can grow old.
    idle: VecDeque<(Box<Http1>, Instant)>,
    sessions: Vec<(Arc<Session>, Quiet)>,
    opened: u64,
    /// Counts [`Pool::forget`]: a connection of an earlier epoch is not used for another exchange.
    epoch: u64,
}

impl Open {
    /// The idle connection that was used last; of the last few, one whose events come here already.
    fn newest(&mut self) -> Option<(Box<Http1>, Instant)> {
        let newest = self.idle.len().checked_sub(1)?;
        let near = self.idle.iter().enumerate().rev().take(NEAR);
        let here = near.filter(|(_, (wire, _))| wire.is_here()).map(|(index, _)| index).next();
        self.idle.remove(here.unwrap_or(newest))
    }
}

/// Since when an HTTP/2 connection has been seen without streams.
type Quiet = Option<Instant>;

/// A connection, or a place on one, for one exchange.
pub(super) enum Link {
    Http1(Box<Http1>),
    Http2(Stream),
}

/// A new connection.
pub(super) enum Dialed {
    Http1(Box<Http1>),
    Http2(Arc<Session>),
}

/// What getting a [`Link`] took.
pub(super) struct Taken {
    pub(super) link: Link,
    /// `None`: it was open already.
    pub(super) connect: Option<Duration>,
}

/// Counts for reports.
pub(super) struct Count {
    pub(super) idle: usize,
    pub(super) sessions: usize,
    pub(super) opened: u64,
}

/// What the open connections offer.
enum Offer {
    Use(Link),
    /// All HTTP/2 connections carry their share; one more may be opened.
    Crowded(Stream),
    Nothing,
}

impl Pool {
    pub(super) fn new(address: Address, horizon: Duration, idle_for: Duration) -> Self {
        let speaks = match address.wrap {
            Wrap::Clear(protocol) => Some(protocol),
            Wrap::Tls { .. } => None,
        };
        Self {
            address,
            horizon,
            idle_for,
            open: Mutex::new(Open { speaks, ..Open::default() }),
            opening: tokio::sync::Mutex::new(None),
        }
    }

    /// A connection for one exchange, open already or new.
    pub(super) async fn take(&self) -> Result<Taken, Fault> {
        match self.offer() {
            Offer::Use(link) => Ok(Taken { link, connect: None }),
            Offer::Crowded(stream) => self.spread(stream).await,
            Offer::Nothing if self.speaks() == Some(Protocol::Http1) => self.open().await,
            Offer::Nothing => self.open_for_all().await,
        }
    }

    /// Takes back a connection whose exchange is completely over.
    pub(super) fn put(&self, wire: Box<Http1>) {
        let mut open = self.open.lock();
        if open.idle.len() < IDLE_MAX && wire.epoch == open.epoch {
            open.idle.push_back((wire, Instant::now()));
        }
    }

    /// Closes what is unused for too long or closed by the other side. Called every second or so:
    /// nobody else looks at idle connections.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        let mut closed = Vec::new();
        let mut open = self.open.lock();
        let Open { idle, sessions, .. } = &mut *open;
        for _ in 0..idle.len() {
            let Some((mut wire, since)) = idle.pop_front() else { break };
            if now - since < self.idle_for && wire.is_open() {
                idle.push_back((wire, since));
            } else {
                closed.push(wire);
            }
        }
        sessions.retain_mut(|(session, quiet)| {
            if session.streams() > 0 {
                *quiet = None;
            }
            let since = match session.streams() {
                0 => *quiet.get_or_insert(now),
                _ => now,
            };
            session.is_open() && now - since < self.idle_for
        });
        drop(open);
        // Closing is a system call each: not under the lock.
        drop(closed);
    }

    /// Lets go of all connections; exchanges that run keep theirs to their end, and no longer.
    pub(super) fn forget(&self) {
        let mut open = self.open.lock();
        open.epoch += 1;
        let forgotten = (std::mem::take(&mut open.idle), std::mem::take(&mut open.sessions));
        drop(open);
        drop(forgotten);
    }

    /// How many there are.
    pub(super) fn count(&self) -> Count {
        let open = self.open.lock();
        Count { idle: open.idle.len(), sessions: open.sessions.len(), opened: open.opened }
    }

    fn speaks(&self) -> Option<Protocol> {
        self.open.lock().speaks
    }

    fn offer(&self) -> Offer {
        let mut open = self.open.lock();
        if let Some((wire, since)) = open.newest() {
            if since.elapsed() < self.idle_for {
                return Offer::Use(Link::Http1(wire));
            }
            // The newest is too old, so all are.
            open.idle.clear();
        }
        open.sessions.retain(|(session, _)| session.is_open());
        let spread = open.sessions.len() < SESSIONS_MAX;
        match open.sessions.iter_mut().min_by_key(|(session, _)| session.streams()) {
            None => Offer::Nothing,
            Some((session, quiet)) => {
                *quiet = None;
                let roomy = session.has_room();
                let stream = session.stream();
                if roomy || !spread {
                    Offer::Use(Link::Http2(stream))
                } else {
                    Offer::Crowded(stream)
                }
            }
        }
    }

    /// One of the crowd opens another connection, the others go on with what there is.
    async fn spread(&self, stream: Stream) -> Result<Taken, Fault> {
        if let Ok(_opening) = self.opening.try_lock()
            && let Ok(taken) = self.open().await
        {
            return Ok(taken);
        }
        Ok(Taken { link: Link::Http2(stream), connect: None })
    }

    /// Opens what all others who wait here can share. A thousand requests at once must not become
    /// a thousand connections to a replica that takes them all on one.
    async fn open_for_all(&self) -> Result<Taken, Fault> {
        let since = Instant::now();
        let mut last = self.opening.lock().await;
        match self.offer() {
            Offer::Use(link) => return Ok(Taken { link, connect: None }),
            Offer::Crowded(stream) => {
                return Ok(Taken { link: Link::Http2(stream), connect: None });
            }
            Offer::Nothing if self.speaks() == Some(Protocol::Http1) => {
                drop(last);
                return self.open().await;
            }
            Offer::Nothing => {}
        }
        if let Some((at, fault)) = &*last
            && *at >= since
        {
            return Err(fault.clone());
        }
        let opened = self.open().await;
        *last = opened.as_ref().err().map(|fault| (Instant::now(), fault.clone()));
        opened
    }

    /// A new connection, whatever is open.
    pub(super) async fn open(&self) -> Result<Taken, Fault> {
        let began = Instant::now();
        let epoch = self.open.lock().epoch;
        let dialed = self.dial_in(epoch).await?;
        let mut open = self.open.lock();
        let (protocol, link) = match dialed {
            Dialed::Http1(wire) => (Protocol::Http1, Link::Http1(wire)),
            Dialed::Http2(session) => {
                let stream = session.stream();
                if open.epoch == epoch {
                    open.sessions.push((session, None));
                }
                (Protocol::Http2, Link::Http2(stream))
            }
        };
        open.speaks = Some(protocol);
        open.opened += 1;
        drop(open);
        Ok(Taken { link, connect: Some(began.elapsed()) })
    }

    /// Opens one connection more if fewer than `count` are ready for use.
    pub(super) async fn warm(&self, count: usize) -> Result<(), Fault> {
        let ready = self.count();
        // One HTTP/2 connection is ready for many exchanges.
        if ready.idle < count && ready.sessions == 0 {
            match self.open().await?.link {
                Link::Http1(wire) => self.put(wire),
                Link::Http2(stream) => drop(stream),
            }
        }
        Ok(())
    }

    /// Opens a socket that speaks HTTP/1.1 and that the pool does not know.
    pub(super) async fn dial_http1(&self) -> Result<Socket, Fault> {
        self.address.connect_http1().await
    }

    /// Opens a connection that the pool does not know.
    pub(super) async fn dial(&self) -> Result<Dialed, Fault> {
        let epoch = self.open.lock().epoch;
        self.dial_in(epoch).await
    }

    async fn dial_in(&self, epoch: u64) -> Result<Dialed, Fault> {
        let (socket, protocol) = self.address.connect().await?;
        let gone = |error: hyper::Error| self.address.peer.gone(&error);
        Ok(match protocol {
            Protocol::Http1 => {
                Dialed::Http1(Http1::new(socket, self.horizon, epoch).await.map_err(gone)?)
            }
            Protocol::Http2 => Dialed::Http2(Session::new(socket).await.map_err(gone)?),
        })
    }
}
