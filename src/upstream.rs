//! Room 7: model servers. Connections, timeouts, balancing, and one answer to "may this be sent
//! again".
//!
//! [`Upstreams`] knows all of them and finds one by path, headers and model; an [`Upstream`] is one named service with
//! its replicas; [`Upstream::send`] makes one exchange, on another replica when the first one
//! certainly did nothing. The body of the reply carries everything that must outlive the call: the
//! connection, the load, the timers.
//!
//! Connections are hyper's, but the pool is ours, because hyper-util's keeps one HTTP/2 connection
//! per host, cannot say whether it gave an old connection, and drives each in a task of its own.
//!
//! From the outside in: `balance` chooses a `replica` by `load`, `breaker` and `affinity`; its
//! `pool` gives a connection (`connect`, `http1`, `http2`); `reply` carries the answer; `in_flight`
//! records how it went; `upkeep` does what must be done between requests.

mod affinity;
mod balance;
mod breaker;
mod budget;
mod check;
mod connect;
mod deadline;
mod gate;
mod hedge;
mod http1;
mod http2;
mod in_flight;
mod line;
mod load;
mod movable;
mod open;
mod outgoing;
mod peek;
mod peer;
mod pool;
mod replica;
mod reply;
mod route;
mod send;
pub mod sight;
mod socket;
mod speculate;
mod tls;
mod unanswered;
mod upgrade;
mod upkeep;
mod verdict;
mod watchdog;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderMap, uri::PathAndQuery};
use tokio::time::Instant;

pub use self::{
    affinity::Prefix,
    balance::Branch,
    breaker::Standing,
    open::OpenError,
    outgoing::Outgoing,
    reply::{Reply, ReplyBody, Timing},
    send::Call,
    speculate::{Looked, Stake},
    upgrade::{Answered, Tunnel},
};
use self::{
    balance::Balance, budget::Budget, hedge::Hedge, line::Line, replica::Replica, route::Table,
    speculate::Speculation, tls::ClientTls, upkeep::Upkeep,
};
use crate::{
    config::{self, Config},
    wire::dialects::Dialects,
};

/// An HTTP version towards a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// All model servers. A clone is the same servers.
#[derive(Clone, Debug)]
pub struct Upstreams {
    all: Vec<Arc<Upstream>>,
    table: Table,
    /// For each of `all`, whom to ask when it fails.
    failover: Vec<Vec<Arc<Upstream>>>,
    /// For each of `all`, what it was opened with.
    opened: Vec<Opened>,
}

/// What an upstream was opened with.
#[derive(Clone, Debug)]
struct Opened {
    settings: config::Upstream,
    timeouts: config::Timeouts,
    upkeep: Arc<Upkeep>,
}

/// One named model server with its replicas.
pub struct Upstream {
    name: Arc<str>,
    dialects: Dialects,
    aliases: BTreeMap<String, String>,
    replicas: Vec<Arc<Replica>>,
    balance: Balance,
    /// Exchanges that may be sent again.
    budget: Budget,
    hedge: Option<Hedge>,
    /// Where only so many exchanges may run at once.
    line: Option<Line>,
    /// Where calls may begin before they are known to be wanted.
    speculation: Option<Speculation>,
    /// Exchanges that went on to another upstream.
    failed_over: AtomicU64,
    /// What active checks ask for, if they are on.
    check: Option<PathAndQuery>,
    /// Connections to each replica that are kept ready.
    warm: usize,
    /// For `https://` replicas.
    tls: Option<Arc<ClientTls>>,
}

/// One replica in numbers.
#[derive(Clone, Debug)]
pub struct ReplicaReport {
    /// Its base URL.
    pub url: Arc<str>,
    /// Exchanges that run, each to the end of its body.
    pub in_flight: usize,
    /// Open HTTP/1.1 connections that wait for use.
    pub idle_connections: usize,
    /// Open HTTP/2 connections.
    pub shared_connections: usize,
    /// Connections opened since the start, checks' own not counted.
    pub connections_opened: u64,
    /// The estimated time to first byte; `None` before the first answer.
    pub first_byte: Option<Duration>,
    /// Whether it is asked.
    pub standing: Standing,
    /// Exchanges that it was given since the start.
    pub exchanges_total: u64,
    /// Those that it could not be reached for, broke off or answered with 502 or 504.
    pub failures_total: u64,
}

impl Upstreams {
    /// Sets up what `config` names. Must be called inside a tokio runtime: tasks that close unused
    /// connections, open others ahead and check replicas run until this is dropped.
    ///
    /// # Errors
    /// Certificates that cannot be read.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        Self::opened(config, None)
    }

    /// What `config` names, with those that stay as they are: their connections, their load and
    /// their record go on. Must be called inside a tokio runtime. Exchanges of upstreams that are
    /// gone end in their own time.
    ///
    /// # Errors
    /// As [`Self::open`]; nothing has changed then.
    pub fn reopened(&self, config: &Config) -> Result<Self, OpenError> {
        Self::opened(config, Some(self))
    }

    fn opened(config: &Config, before: Option<&Self>) -> Result<Self, OpenError> {
        let (mut all, mut opened) = (Vec::new(), Vec::new());
        for settings in &config.upstream {
            let known = before.and_then(|before| before.like(settings, &config.timeouts));
            let (upstream, upkeep) = match known {
                Some(known) => known,
                None => {
                    let upstream = Arc::new(open::upstream(settings, &config.timeouts)?);
                    let upkeep = Arc::new(Upkeep::of(&upstream));
                    (upstream, upkeep)
                }
            };
            let (settings, timeouts) = (settings.clone(), config.timeouts.clone());
            opened.push(Opened { settings, timeouts, upkeep });
            all.push(upstream);
        }
        let named = |name: &String| all.iter().find(|one| *one.name == **name).cloned();
        let failover =
            config.upstream.iter().map(|one| one.failover.iter().filter_map(named).collect());
        let failover = failover.collect();
        let table = Table::new(&config.upstream, &all);
        Ok(Self { all, table, failover, opened })
    }

    /// The one that differs at most in what is sent to it.
    fn like(
        &self,
        settings: &config::Upstream,
        timeouts: &config::Timeouts,
    ) -> Option<(Arc<Upstream>, Arc<Upkeep>)> {
        let servers = |settings: &config::Upstream| config::Upstream {
            routes: Vec::new(),
            models: Vec::new(),
            headers: config::Headers::default(),
            failover: Vec::new(),
            ..settings.clone()
        };
        let wanted = servers(settings);
        let found = self
            .opened
            .iter()
            .position(|one| servers(&one.settings) == wanted && one.timeouts == *timeouts)?;
        Some((self.all.get(found)?.clone(), self.opened.get(found)?.upkeep.clone()))
    }

    /// All of them, in the order of the configuration.
    pub fn all(&self) -> &[Arc<Upstream>] {
        &self.all
    }

    /// Who serves a request: the longest route that is a prefix of `path`, whole segments only
    /// (`/v1` serves `/v1/models`, not `/v10`), among the upstreams whose `headers` the request
    /// has and whose `models` it asks for. While the model is not known yet (`None`), an upstream
    /// for all models goes before one for some.
    pub fn route(
        &self,
        path: &str,
        headers: &HeaderMap,
        model: Option<&str>,
    ) -> Option<&Arc<Upstream>> {
        self.table.find(path, headers, model)
    }

    /// Whom to ask when `upstream` fails, in this order.
    pub fn after(&self, upstream: &Upstream) -> &[Arc<Upstream>] {
        let at = self.all.iter().position(|one| one.name == upstream.name);
        at.and_then(|at| self.failover.get(at)).map_or(&[], Vec::as_slice)
    }
}

impl Upstream {
    /// Its name in metrics, errors and purges.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The APIs that it speaks.
    pub fn dialects(&self) -> &Dialects {
        &self.dialects
    }

    /// What a model is called here, if that is not what clients call it.
    pub fn alias(&self, model: &str) -> Option<&str> {
        self.aliases.get(model).map(String::as_str)
    }

    /// Each replica in numbers.
    pub fn report(&self) -> Vec<ReplicaReport> {
        self.replicas.iter().map(|replica| replica.report()).collect()
    }

    /// Whether a [`Call`]'s prefix makes a difference here: spares computing it.
    pub fn uses_prefix(&self) -> bool {
        self.balance.uses_prefix()
    }

    /// Whether none of its replicas is to be asked now: each asked for a pause or was ejected.
    pub fn is_out(&self) -> bool {
        let now = Instant::now();
        let out = |standing| matches!(standing, Standing::Holding | Standing::Ejected);
        self.replicas.iter().all(|replica| out(replica.breaker.standing(now)))
    }

    /// Notes that an exchange went on to another upstream.
    pub fn failed_over(&self) {
        self.failed_over.fetch_add(1, Relaxed);
    }

    /// Exchanges that went on to another upstream, since the start.
    pub fn failovers_total(&self) -> u64 {
        self.failed_over.load(Relaxed)
    }

    /// Requests that wait in line for their turn, and requests that were refused one.
    pub fn waiting(&self) -> (usize, u64) {
        self.line.as_ref().map_or((0, 0), Line::counts)
    }

    /// Exchanges that a second replica was asked for because the first was slow, since the start.
    pub fn hedges_total(&self) -> u64 {
        self.hedge.as_ref().map_or(0, Hedge::total)
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Upstream").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
