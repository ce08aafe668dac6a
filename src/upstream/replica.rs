//! One model server: where it is, what runs on it, and one attempt at an exchange with it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use http::{
    HeaderValue, Request, Response, StatusCode, Uri, Version,
    header::HOST,
    uri::{Authority, PathAndQuery, Scheme},
};
use tokio::time::Instant;

use super::{
    Protocol, ReplicaReport, Reply, ReplyBody, Timing,
    connect::Address,
    deadline::{Deadline, Limits, Overdue},
    http1::Http1,
    http2::{self, Stream},
    outgoing::{Progress, Upload},
    peer::Peer,
    pool::{Link, Pool, Taken},
    reply::Source,
    unanswered::Unanswered,
    watchdog::Watchdog,
};
use crate::fault::{Fault, Retry};

/// See the module.
pub(super) struct Replica {
    peer: Peer,
    limits: Limits,
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    /// What comes before each path: empty, or `/api` without a slash at its end.
    base: String,
    pub(super) pool: Pool,
    in_flight: AtomicUsize,
}

/// A failed attempt, with the request where it may be sent again.
pub(super) struct Failure {
    pub(super) fault: Fault,
    pub(super) request: Option<Box<Request<Upload>>>,
}

/// One exchange in a replica's load, from before its connection to the end of its body.
pub(super) struct InFlight {
    pub(super) replica: Arc<Replica>,
    pub(super) upload: Option<Arc<Progress>>,
}

impl Replica {
    /// `url` is checked configuration: a scheme and an authority are there.
    pub(super) fn new(
        url: &Uri,
        address: Address,
        limits: Limits,
        pool_idle: std::time::Duration,
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
            in_flight: AtomicUsize::new(0),
        })
    }

    /// Whom to name in errors.
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Exchanges that run now.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// Numbers for metrics.
    pub(super) fn report(&self) -> ReplicaReport {
        let count = self.pool.count();
        ReplicaReport {
            url: Arc::clone(&self.peer.url),
            in_flight: self.in_flight(),
            idle_connections: count.idle,
            shared_connections: count.sessions,
            connections_opened: count.opened,
        }
    }

    /// One attempt. `path` is the client's; `began` is when the whole exchange began.
    pub(super) async fn exchange(
        self: &Arc<Self>,
        mut request: Request<Upload>,
        path: &PathAndQuery,
        began: Instant,
    ) -> Result<Reply, Failure> {
        let path = self.join(path);
        let flight = InFlight::new(self, request.body().progress());
        let asked = Instant::now();
        loop {
            let Taken { link, connect } = match self.pool.take().await {
                Ok(taken) => taken,
                Err(fault) => return Err(Failure { fault, request: Some(Box::new(request)) }),
            };
            let sent = Instant::now();
            let deadline = Deadline {
                sent,
                upload: flight.upload.clone(),
                first_byte: self.limits.first_byte,
                end: began + self.limits.lifetime,
            };
            let tried = match link {
                Link::Http1(wire) => self.over_http1(wire, request, &path, &deadline).await,
                Link::Http2(stream) => self.over_http2(stream, request, &path, &deadline).await,
            };
            let failed = match tried {
                Ok(answer) => {
                    let queue = (sent - asked).saturating_sub(connect.unwrap_or_default());
                    let timing = Timing { queue, connect, first_byte: sent.elapsed() };
                    return self.reply(answer, timing, deadline.end, flight);
                }
                Err(failed) => failed,
            };
            match failed {
                // An old connection that the other side had closed: nothing was written.
                Unanswered::Unwritten(unwritten, _) if connect.is_none() => request = *unwritten,
                Unanswered::Unwritten(unwritten, error) => {
                    let fault = self.peer.gone(&error);
                    return Err(Failure { fault, request: Some(unwritten) });
                }
                Unanswered::Refused(spare, error) => {
                    return Err(Failure { fault: self.peer.refused(&error), request: spare });
                }
                Unanswered::Broken(error) => {
                    let fault = flight.upload_fault().unwrap_or_else(|| self.peer.reset(&error));
                    return Err(Failure { fault, request: None });
                }
                Unanswered::Late => {
                    return Err(Failure { fault: self.late(&deadline), request: None });
                }
            }
        }
    }

    async fn over_http1(
        &self,
        mut wire: Box<Http1>,
        mut request: Request<Upload>,
        path: &PathAndQuery,
        deadline: &Deadline,
    ) -> Result<Answer, Unanswered> {
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = Uri::from(path.clone());
        request.headers_mut().insert(HOST, self.host.clone());
        let response = wire.send(request, deadline).await?;
        let (head, body) = Response::into_parts(response);
        Ok(Answer { head, source: Source::Http1 { body, wire }, protocol: Protocol::Http1 })
    }

    async fn over_http2(
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
        // A refusal comes after hyper has taken the request, so a copy must be made before.
        let spare = copy(&request);
        let mut watchdog = Watchdog::new(self.limits.horizon());
        match stream.send(request, deadline, &mut watchdog).await {
            Ok(response) => {
                let (head, body) = Response::into_parts(response);
                let source = Source::Http2 { body, watchdog, _stream: stream };
                Ok(Answer { head, source, protocol: Protocol::Http2 })
            }
            Err(Unanswered::Broken(error)) if http2::is_refusal(&error) => {
                Err(Unanswered::Refused(spare, error))
            }
            Err(other) => Err(other),
        }
    }

    fn reply(
        &self,
        answer: Answer,
        timing: Timing,
        end: Instant,
        flight: InFlight,
    ) -> Result<Reply, Failure> {
        let Answer { head, source, protocol } = answer;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure { fault: self.peer.switched(), request: None });
        }
        let body = ReplyBody::new(source, self.limits, end, flight);
        Ok(Reply { head, body, timing, replica: Arc::clone(&self.peer.url), protocol })
    }

    fn late(&self, deadline: &Deadline) -> Fault {
        match deadline.overdue() {
            Overdue::FirstByte => self.peer.first_byte_timeout(self.limits.first_byte),
            Overdue::Lifetime => self.peer.lifetime_timeout(self.limits.lifetime),
        }
    }

    /// The client's path behind the replica's base path.
    fn join(&self, path: &PathAndQuery) -> PathAndQuery {
        if self.base.is_empty() {
            return path.clone();
        }
        // Two valid paths make a valid path; a `*` (OPTIONS) has no place under a base path.
        format!("{}{path}", self.base).parse().unwrap_or_else(|_| path.clone())
    }
}

impl InFlight {
    fn new(replica: &Arc<Replica>, upload: Option<Arc<Progress>>) -> Self {
        replica.in_flight.fetch_add(1, Relaxed);
        Self { replica: Arc::clone(replica), upload }
    }

    /// Why the client's side of the exchange failed, if it did.
    pub(super) fn upload_fault(&self) -> Option<Fault> {
        self.upload.as_ref().and_then(|upload| upload.fault())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.replica.in_flight.fetch_sub(1, Relaxed);
        if let Some(upload) = &self.upload {
            upload.cancel();
        }
    }
}

impl Failure {
    /// The request to send to another replica, if that is safe and possible.
    pub(super) fn into_retry(self) -> Result<Request<Upload>, Fault> {
        match (self.fault.retry, self.request) {
            (Retry::Safe, Some(request)) => Ok(*request),
            _ => Err(self.fault),
        }
    }
}

/// A response head and where its body comes from.
struct Answer {
    head: http::response::Parts,
    source: Source,
    protocol: Protocol,
}

fn copy(request: &Request<Upload>) -> Option<Box<Request<Upload>>> {
    let mut copied = Request::new(request.body().copy()?);
    request.method().clone_into(copied.method_mut());
    request.uri().clone_into(copied.uri_mut());
    request.headers().clone_into(copied.headers_mut());
    Some(Box::new(copied))
}
