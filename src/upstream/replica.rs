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
    outgoing::Upload,
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

/// What an attempt depends on beside the request.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// When the whole exchange began.
    pub(super) began: Instant,
    /// Why this replica was picked.
    pub(super) branch: Branch,
    /// What its latency is measured by.
    pub(super) measure: Measure,
    /// No kept connection, but one of its own.
    pub(super) anew: bool,
}

/// A failed attempt, with the request where it may be sent again.
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) request: Option<Box<Request<Upload>>>,
    /// It was lost with a kept connection that its server closed just then, for having been idle.
    pub(super) closing: bool,
}

impl Failure {
    /// The request is gone.
    pub(super) fn of(fault: Fault) -> Self {
        Self { fault, request: None, closing: false }
    }
}

/// Between a server's decision to close a connection and our hearing of it lies no more than the way
/// between us; what is lost later was being worked on.
const CLOSING: Duration = Duration::from_secs(1);

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
        let Terms { began, branch, measure, anew } = terms;
        let path = self.join(path);
        let upload = request.body().progress();
        let mut flight = InFlight::new(self, upload, branch == Branch::Trial);
        flight.measure = measure;
        let asked = flight.began;
        loop {
            let taken = if anew { self.pool.open().await } else { self.pool.take().await };
            let Taken { link, connect } = match taken {
                Ok(taken) => taken,
                Err(fault) => {
                    flight.judge_fault(&fault);
                    let request = Some(Box::new(request));
                    return Err(Failure { fault, request, closing: false });
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
            let tried = match link {
                Link::Http1(wire) => self.over_http1(wire, request, &path, &deadline).await,
                Link::Http2(stream) => self.over_http2(stream, request, &path, &deadline).await,
            };
            match tried {
                Ok(answer) => {
                    let queue = (sent - asked).saturating_sub(connect.unwrap_or_default());
                    let timing = Timing { queue, connect, first_byte: sent.elapsed() };
                    return self.reply(answer, timing, &deadline, branch, flight);
                }
                // An old connection that the other side had closed: nothing was written.
                Err(Unanswered::Unwritten(unwritten, _)) if connect.is_none() => {
                    request = *unwritten;
                }
                Err(unanswered) if kept && unanswered.is_loss() && sent.elapsed() < CLOSING => {
                    // That says nothing of the replica, so it is not judged.
                    let fault = flight.upload_fault().unwrap_or_else(|| self.fault(unanswered));
                    return Err(Failure { fault, request: None, closing: true });
                }
                Err(unanswered) => return Err(self.fail(unanswered, &deadline, flight)),
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
        Failure { fault, request, closing: false }
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
            return Err(Failure::of(self.peer.switched()));
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
