//! Room 7: model servers. Connections, timeouts, balancing, and one answer to "may this be sent
//! again".
//!
//! [`Upstreams`] knows all of them and finds one by path; an [`Upstream`] is one named service with
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
mod http1;
mod http2;
mod in_flight;
mod load;
mod open;
mod outgoing;
mod peer;
mod pool;
mod replica;
mod reply;
pub mod sight;
mod socket;
mod tls;
mod unanswered;
mod upkeep;
mod verdict;
mod watchdog;

use std::{sync::Arc, time::Duration};

use http::{
    HeaderValue, Method, Request,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
    request,
    uri::PathAndQuery,
};
use tokio::time::Instant;

pub use self::{
    affinity::Prefix,
    balance::Branch,
    breaker::Standing,
    open::OpenError,
    outgoing::Outgoing,
    reply::{Reply, ReplyBody, Timing},
};
use self::{
    balance::Balance,
    budget::Budget,
    outgoing::Upload,
    replica::{Failure, Replica},
    upkeep::Upkeep,
};
use crate::{
    config::{Config, DialectName},
    fault::{Fault, Kind, Retry},
};

/// An HTTP version towards a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// All model servers.
#[derive(Debug)]
pub struct Upstreams {
    all: Vec<Arc<Upstream>>,
    /// Longest prefix first.
    routes: Vec<(String, Arc<Upstream>)>,
    _upkeep: Upkeep,
}

/// One named model server with its replicas.
pub struct Upstream {
    name: Arc<str>,
    dialect: DialectName,
    replicas: Vec<Arc<Replica>>,
    balance: Balance,
    budget: Budget,
    /// What active checks ask for, if they are on.
    check: Option<PathAndQuery>,
    /// Connections to each replica that are kept ready.
    warm: usize,
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
        let (mut all, mut routes) = (Vec::new(), Vec::new());
        let mut upkeep = Upkeep::default();
        for settings in &config.upstream {
            let upstream = Arc::new(open::upstream(settings, &config.timeouts)?);
            upkeep.add(&upstream);
            all.push(Arc::clone(&upstream));
            let of_this = settings.routes.iter();
            routes.extend(of_this.map(|route| (route.clone(), Arc::clone(&upstream))));
        }
        routes.sort_by_key(|(route, _)| std::cmp::Reverse(route.len()));
        Ok(Self { all, routes, _upkeep: upkeep })
    }

    /// All of them, in the order of the configuration.
    pub fn all(&self) -> &[Arc<Upstream>] {
        &self.all
    }

    /// Who serves `path`: the longest route that is a prefix of it, whole segments only (`/v1`
    /// serves `/v1/models`, not `/v10`).
    pub fn route(&self, path: &str) -> Option<&Arc<Upstream>> {
        let serves = |route: &str| match path.strip_prefix(route) {
            Some(rest) => rest.is_empty() || rest.starts_with('/') || route.ends_with('/'),
            None => false,
        };
        self.routes.iter().find(|(route, _)| serves(route)).map(|(_, upstream)| upstream)
    }
}

impl Upstream {
    /// Its name in metrics, errors and purges.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The API it speaks.
    pub fn dialect(&self) -> DialectName {
        self.dialect
    }

    /// Each replica in numbers.
    pub fn report(&self) -> Vec<ReplicaReport> {
        self.replicas.iter().map(|replica| replica.report()).collect()
    }

    /// Whether [`Self::send_near`] makes a difference here: spares computing prefixes.
    pub fn uses_prefix(&self) -> bool {
        self.balance.uses_prefix()
    }

    /// [`Self::send_near`] without a preference.
    ///
    /// # Errors
    /// As there.
    pub async fn send(&self, head: request::Parts, body: Outgoing) -> Result<Reply, Fault> {
        self.send_near(head, body, None).await
    }

    /// Makes one exchange, up to the response head, at best with the replica that holds `prefix`.
    ///
    /// `head` has a target in origin form and no hop-by-hop headers; `Host` is set to the
    /// replica's own. Dropping the future, or later the body, stops the upstream's work.
    ///
    /// The request goes to another replica when one certainly did not act on it: it could not be
    /// reached, refused it, or answered that it has too much to do (429, 503, 529; a whole body,
    /// and within the retry budget). Nothing of a reply is shown before that is settled. A fault is
    /// [`Retry::Safe`] when that was so for each replica that was asked.
    ///
    /// # Errors
    /// The last attempt's fault; each limit of `[timeouts]` has its own kind.
    pub async fn send_near(
        &self,
        head: request::Parts,
        body: Outgoing,
        prefix: Option<Prefix>,
    ) -> Result<Reply, Fault> {
        let began = Instant::now();
        let path = head.uri.path_and_query().cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut request = Request::from_parts(head, Upload::from(body));
        frame(&mut request);
        self.budget.earn();
        let mut tried = Vec::new();
        // What the client gets if nobody does better.
        let mut outcome = Err(Fault::new(Kind::Internal, "an upstream without replicas"));
        let mut now = began;
        while let Some(pick) = self.balance.pick(&self.replicas, &tried, prefix, now) {
            if outcome.is_ok() && pick.branch == Branch::NoHealthy {
                break;
            }
            let is_last = tried.len() + 1 == self.replicas.len();
            let spare = if is_last { None } else { copy(&request) };
            let sent = pick.replica.exchange(request, &path, began, pick.branch).await;
            let again = match sent {
                Ok(reply) => {
                    let overloaded = reply.is_overloaded();
                    outcome = Ok(reply);
                    if overloaded { self.within_budget(spare) } else { None }
                }
                Err(Failure { fault, request: unsent }) => {
                    let safe = fault.retry == Retry::Safe;
                    if outcome.is_err() {
                        outcome = Err(fault);
                    }
                    match unsent {
                        _ if !safe => None,
                        Some(unsent) => Some(*unsent),
                        None => self.within_budget(spare),
                    }
                }
            };
            let Some(again) = again else { break };
            request = again;
            tried.push(pick.index);
            now = Instant::now();
        }
        outcome
    }

    fn within_budget(&self, spare: Option<Request<Upload>>) -> Option<Request<Upload>> {
        spare.filter(|_| self.budget.spend(Instant::now()))
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Upstream").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A second request, where there can be one: once sent, the first is hyper's.
fn copy(request: &Request<Upload>) -> Option<Request<Upload>> {
    let mut copied = Request::new(request.body().copy()?);
    request.method().clone_into(copied.method_mut());
    request.uri().clone_into(copied.uri_mut());
    request.headers().clone_into(copied.headers_mut());
    Some(copied)
}

/// Says in the headers how long a whole body is; nobody else's word for it counts.
fn frame(request: &mut Request<Upload>) {
    // Extensions are for our own rooms; hyper reads some of them as orders.
    request.extensions_mut().clear();
    let Upload::Whole(bytes) = request.body() else { return };
    let length = bytes.len();
    let says_zero = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
    let headers = request.headers_mut();
    headers.remove(TRANSFER_ENCODING);
    if length > 0 || says_zero {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    } else {
        headers.remove(CONTENT_LENGTH);
    }
}

#[cfg(test)]
mod tests;
