//! One model server: where it is, what runs on it, and one attempt at an exchange with it.

use std::sync::Arc;

use http::{
    HeaderValue, Request, Response, StatusCode, Uri, Version,
    header::HOST,
    uri::{Authority, PathAndQuery, Scheme},
};
use tokio::time::{Duration, Instant};

use super::{
    Branch, Protocol, ReplicaReport, Reply, ReplyBody, Timing,
    breaker::Breaker,
    connect::Address,
    deadline::{Deadline, Limits, Overdue},
    http1::Http1,
    http2::{self, Stream},
    in_flight::{InFlight, Measure},
    load::Load,
    outgoing::{Upload, copy},
    peer::Peer,
    pool::{Link, Pool, Taken},
    reply::Source,
    unanswered::Unanswered,
    verdict::Verdict,
    watchdog::Watchdog,
};
use crate::fault::Fault;

/// See the module.
pub(super) struct Replica {
    peer: Peer,
    pub(super) limits: Limits,
    scheme: Scheme,
    authority: Authority,
    pub(super) host: HeaderValue,
    /// What comes before each path: empty, or `/api` without a slash at its end.
    base: String,
    pub(super) pool: Pool,
    pub(super) load: Load,
    pub(super) breaker: Breaker,
}

/// A request lost so soon after it was sent on a kept connection was hardly read: the server closed
/// the connection in that moment, for being idle.
const CLOSING: Duration = Duration::from_secs(1);

/// What an attempt depends on beside the request.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// When the whole exchange began.
    pub(super) began: Instant,
    /// Why this replica was picked.
    pub(super) branch: Branch,
    /// What its latency is measured by.
    pub(super) measure: Measure,
    /// Asking twice does nothing twice.
    pub(super) repeatable: bool,
}

/// A failed attempt, with the request where it may be sent again.
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) request: Option<Box<Request<Upload>>>,
}

impl Replica {
    /// `url` is checked configuration: a scheme and an authority are there.
    pub(super) fn new(
        url: &Uri,
        address: Address,
        limits: Limits,
        pool_idle: Duration,
    ) -> Option<Self> {
        let authority = url.authority()?.clone();
        Some(Self {
            peer: address.peer.clone(),
            limits,
            scheme: url.scheme()?.clone(),
            host: HeaderValue::from_str(authority.as_str()).ok()?,
            authority,
            base: url.path().trim_end_matches('/').to_owned(),
            pool: Pool::new(address, limits.horizon(), pool_idle),
            load: Load::new(),
            breaker: Breaker::default(),
        })
    }

    /// Whom to name in errors.
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Numbers for metrics.
    pub(super) fn report(&self) -> ReplicaReport {
        let count = self.pool.count();
        let now = Instant::now();
        ReplicaReport {
            url: Arc::clone(&self.peer.url),
            in_flight: self.load.in_flight(),
            idle_connections: count.idle,
            shared_connections: count.sessions,
            connections_opened: count.opened,
            first_byte: self.load.first_byte(),
            standing: self.breaker.standing(now),
            exchanges_total: self.load.begun(),
            failures_total: self.breaker.failures_total(),
        }
    }

    /// One attempt. `path` is the client's.
    pub(super) async fn exchange(
        self: &Arc<Self>,
        mut request: Request<Upload>,
        path: &PathAndQuery,
        terms: Terms,
    ) -> Result<Reply, Failure> {
        let Terms { began, branch, measure, mut repeatable } = terms;
        let path = self.join(path);
        let upload = request.body().progress();
        let mut flight = InFlight::new(self, upload, branch == Branch::Trial);
        flight.measure = measure;
        let asked = flight.began;
        loop {
            let Taken { link, connect } = match self.pool.take().await {
                Ok(taken) => taken,
                Err(fault) => {
                    flight.judge_fault(&fault);
                    return Err(Failure { fault, request: Some(Box::new(request)) });
                }
            };
            let sent = Instant::now();
            let deadline = Deadline {
                sent,
                upload: flight.upload.clone(),
                first_byte: self.limits.first_byte,
                end: began + self.limits.lifetime,
            };
            let kept = connect.is_none() && matches!(link, Link::Http1(_));
            let spare = if kept && repeatable { copy(&request) } else { None };
            let tried = match link {
                Link::Http1(wire) => self.over_http1(wire, request, &path, &deadline).await,
                Link::Http2(stream) => self.over_http2(stream, request, &path, &deadline).await,
            };
            match (tried, spare) {
                (Ok(answer), _) => {
                    let queue = (sent - asked).saturating_sub(connect.unwrap_or_default());
                    let timing = Timing { queue, connect, first_byte: sent.elapsed() };
                    return self.reply(answer, timing, &deadline, branch, flight);
                }
                // An old connection that the other side had closed: nothing was written.
                (Err(Unanswered::Unwritten(unwritten, _)), _) if connect.is_none() => {
                    request = *unwritten;
                }
                // The same, found out too late (RFC 9110, 9.2.2: what does nothing twice may be
                // sent again by itself). Once: two in a row are no coincidence.
                (Err(Unanswered::Broken(_)), Some(spare)) if sent.elapsed() < CLOSING => {
                    repeatable = false;
                    request = spare;
                }
                (Err(unanswered), _) => return Err(self.fail(unanswered, &deadline, flight)),
            }
        }
    }

    fn fail(&self, unanswered: Unanswered, deadline: &Deadline, mut flight: InFlight) -> Failure {
        let (fault, request) = match unanswered {
            Unanswered::Unwritten(request, error) => (self.peer.gone(&error), Some(request)),
            Unanswered::Late if deadline.overdue() == Overdue::Lifetime => {
                (self.peer.lifetime_timeout(self.limits.lifetime), None)
            }
            other => (self.fault(other), None),
        };
        // The client's own upload failing is the reason, whatever the upstream made of it.
        let fault = flight.upload_fault().unwrap_or(fault);
        flight.judge_fault(&fault);
        Failure { fault, request }
    }

    /// What an unanswered request comes to.
    pub(super) fn fault(&self, unanswered: Unanswered) -> Fault {
        match unanswered {
            Unanswered::Unwritten(_, error) => self.peer.gone(&error),
            Unanswered::Refused(error) => self.peer.refused(&error),
            Unanswered::Broken(error) => self.peer.reset(&error),
            Unanswered::Late => self.peer.first_byte_timeout(self.limits.first_byte),
        }
    }

    pub(super) async fn over_http1(
        &self,
        mut wire: Box<Http1>,
        mut request: Request<Upload>,
        path: &PathAndQuery,
        deadline: &Deadline,
    ) -> Result<Answer, Unanswered> {
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = Uri::from(path.clone());
        request.headers_mut().insert(HOST, self.host.clone());
        // `TE` concerns one connection; HTTP/1 trailers are nobody's business here.
        request.headers_mut().remove(http::header::TE);
        let response = wire.send(request, deadline).await?;
        let (head, body) = Response::into_parts(response);
        Ok(Answer { head, source: Source::Http1 { body, wire }, protocol: Protocol::Http1 })
    }

    pub(super) async fn over_http2(
        &self,
        stream: Stream,
        mut request: Request<Upload>,
        path: &PathAndQuery,
        deadline: &Deadline,
    ) -> Result<Answer, Unanswered> {
        *request.version_mut() = Version::HTTP_2;
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(self.scheme.clone());
        uri.authority = Some(self.authority.clone());
        uri.path_and_query = Some(path.clone());
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        request.headers_mut().remove(HOST);
        let mut watchdog = Watchdog::new(self.limits.horizon());
        match stream.send(request, deadline, &mut watchdog).await {
            Ok(response) => {
                let (head, body) = Response::into_parts(response);
                let source = Source::Http2 { body, watchdog, _stream: stream };
                Ok(Answer { head, source, protocol: Protocol::Http2 })
            }
            Err(Unanswered::Broken(error)) if http2::is_refusal(&error) => {
                Err(Unanswered::Refused(error))
            }
            Err(other) => Err(other),
        }
    }

    fn reply(
        &self,
        answer: Answer,
        timing: Timing,
        deadline: &Deadline,
        branch: Branch,
        mut flight: InFlight,
    ) -> Result<Reply, Failure> {
        let Answer { head, source, protocol } = answer;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure { fault: self.peer.switched(), request: None });
        }
        let verdict = Verdict::of_head(&head);
        flight.judge(verdict, flight.thought(deadline.sent));
        let body = ReplyBody::new(source, self.limits, deadline.end, flight);
        let replica = Arc::clone(&self.peer.url);
        let declined = matches!(verdict, Verdict::Overloaded(_));
        Ok(Reply { head, body, timing, replica, protocol, branch, declined })
    }

    /// The client's path behind the replica's base path.
    pub(super) fn join(&self, path: &PathAndQuery) -> PathAndQuery {
        if self.base.is_empty() {
            return path.clone();
        }
        // Two valid paths make a valid path; a `*` (OPTIONS) has no place under a base path.
        format!("{}{path}", self.base).parse().unwrap_or_else(|_| path.clone())
    }
}

/// A response head and where its body comes from.
pub(super) struct Answer {
    pub(super) head: http::response::Parts,
    source: Source,
    protocol: Protocol,
}
