//! One exchange with whichever replica does it.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{
    HeaderValue, Method, Request,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
    request,
    uri::PathAndQuery,
};
use tokio::time::Instant;

use super::{
    Outgoing, Prefix, Reply, Upstream,
    balance::{Branch, Pick},
    budget::Budget,
    hedge::Hedge,
    in_flight::Measure,
    outgoing::{Upload, copy},
    replica::{Failure, Terms},
};
use crate::{
    fault::{Fault, Kind, Retry},
    wire::{Dialect, Shape},
};

/// What is known of a request that a dialect has read: asking for it twice costs money, but does
/// nothing twice.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Whose request it is: tenants take turns where an upstream is full.
    pub tenant: &'a str,
    /// How its prompt begins, for replicas that keep what they computed for it.
    pub prefix: Option<Prefix>,
    /// Whose ears to use for an answer that comes as a stream: its first event is then heard before
    /// the answer counts as one.
    pub ears: Option<(&'a dyn Dialect, Shape)>,
}

/// Everything about one exchange that does not change from replica to replica.
struct Exchange<'a> {
    path: PathAndQuery,
    began: Instant,
    call: Option<Call<'a>>,
    budget: &'a Budget,
}

impl Upstream {
    /// Forwards a request that nobody here has read.
    ///
    /// `head` has a target in origin form and no hop-by-hop headers; `Host` is set to the
    /// replica's own. Dropping the future, or later the body, stops the upstream's work.
    ///
    /// The request goes to another replica when one certainly did not act on it: it could not be
    /// reached, refused it, or answered that it has too much to do (429, 503, 529; a whole body,
    /// and within the retry budget). One that does nothing twice and was lost with a kept connection
    /// is asked of the same replica once more, on a new one, under the same terms. Nothing of a reply
    /// is shown before that is settled. A fault is [`Retry::Safe`] when the last replica that was
    /// asked cannot have acted.
    ///
    /// # Errors
    /// The last attempt's fault; each limit of `[timeouts]` has its own kind.
    pub async fn send(&self, head: request::Parts, body: Outgoing) -> Result<Reply, Fault> {
        self.exchange(head, body, None).await
    }

    /// [`Self::send`] for a [`Call`]: near its prefix, with a second replica where the first is
    /// slow (`upstream.hedge`), and past a stream whose first event is an error, which becomes an
    /// error status where no replica does better.
    ///
    /// # Errors
    /// As there, and `timeouts.first_token`.
    pub async fn call(
        &self,
        head: request::Parts,
        body: Bytes,
        call: Call<'_>,
    ) -> Result<Reply, Fault> {
        self.exchange(head, Outgoing::Whole(body), Some(call)).await
    }

    async fn exchange(
        &self,
        head: request::Parts,
        body: Outgoing,
        call: Option<Call<'_>>,
    ) -> Result<Reply, Fault> {
        let path = head.uri.path_and_query().cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut request = Request::from_parts(head, Upload::from(body));
        frame(&mut request);
        self.budget.earn();
        if let Some(hedge) = &self.hedge {
            hedge.earn();
        }
        let began = Instant::now();
        let turn = match &self.line {
            // Requests that nobody has read wait as one tenant.
            Some(line) => Some(line.turn(call.map_or("", |call| call.tenant)).await?),
            None => None,
        };
        let waited = began.elapsed();
        let exchange = Exchange { path, began, call, budget: &self.budget };
        let mut outcome = self.ask_around(request, exchange).await;
        if let Ok(reply) = &mut outcome {
            reply.timing.queue += waited;
            reply.body.keep(turn);
        }
        outcome
    }

    /// One replica after the other.
    async fn ask_around(
        &self,
        mut request: Request<Upload>,
        exchange: Exchange<'_>,
    ) -> Result<Reply, Fault> {
        let prefix = exchange.call.and_then(|call| call.prefix);
        let mut tried = Vec::new();
        // What the client gets if nobody does better.
        let mut outcome = Err(Fault::new(Kind::Internal, "an upstream without replicas"));
        let mut now = Instant::now();
        while let Some(pick) = self.balance.pick(&self.replicas, &tried, prefix, now) {
            if outcome.is_ok() && pick.branch == Branch::NoHealthy {
                break;
            }
            tried.push(pick.index);
            let is_last = tried.len() == self.replicas.len();
            let spare = if is_last { None } else { copy(&request) };
            let again = match self.attempt(&exchange, pick, request, &spare, &mut tried).await {
                Ok(reply) => {
                    let declined = reply.declined;
                    outcome = Ok(reply);
                    if declined { self.within_budget(spare) } else { None }
                }
                Err(Failure { fault, request: unsent, .. }) => {
                    // A call does nothing twice: one that was lost may be asked again.
                    let lost = matches!(fault.kind, Kind::Reset | Kind::Cut);
                    let safe = fault.retry == Retry::Safe || (lost && exchange.call.is_some());
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
            now = Instant::now();
        }
        outcome
    }

    /// One attempt, with a second one beside it where that is wanted and the first is slow.
    async fn attempt(
        &self,
        exchange: &Exchange<'_>,
        pick: Pick<'_>,
        request: Request<Upload>,
        spare: &Option<Request<Upload>>,
        tried: &mut Vec<usize>,
    ) -> Result<Reply, Failure> {
        let hedge = self.hedge.as_ref().filter(|_| exchange.call.is_some());
        match hedge.zip(spare.as_ref()) {
            Some((hedge, spare)) => self.hedged(hedge, exchange, pick, request, spare, tried).await,
            None => exchange.with(pick, request).await,
        }
    }

    /// Boxed: two attempts at once are large, and rare.
    fn hedged<'a>(
        &'a self,
        hedge: &'a Hedge,
        exchange: &'a Exchange<'_>,
        pick: Pick<'a>,
        request: Request<Upload>,
        spare: &'a Request<Upload>,
        tried: &'a mut Vec<usize>,
    ) -> BoxFuture<'a, Result<Reply, Failure>> {
        let first = exchange.with(pick, request);
        let second = move || {
            let copied = copy(spare)?;
            let pick = self.balance.pick(&self.replicas, tried, None, Instant::now())?;
            if pick.branch == Branch::NoHealthy || !hedge.spend() {
                return None;
            }
            tried.push(pick.index);
            Some(exchange.with(pick, copied))
        };
        Box::pin(hedge.race(first, second))
    }

    fn within_budget(&self, spare: Option<Request<Upload>>) -> Option<Request<Upload>> {
        spare.filter(|_| self.budget.spend(Instant::now()))
    }
}

impl Exchange<'_> {
    /// Asks one replica, up to its head; of a call, up to its first event or byte.
    async fn with(&self, pick: Pick<'_>, request: Request<Upload>) -> Result<Reply, Failure> {
        let replica = pick.replica;
        let hears = self.call.is_some_and(|call| call.ears.is_some());
        let measure = if hears { Measure::Token } else { Measure::Head };
        let repeatable = self.call.is_some() || request.method().is_idempotent();
        let spare = if repeatable { copy(&request) } else { None };
        let terms = Terms { began: self.began, branch: pick.branch, measure, anew: false };
        let mut asked = replica.exchange(request, &self.path, terms).await;
        if let Err(Failure { fault, closing: true, .. }) = &asked
            && let Some(spare) = spare
            && self.budget.spend(Instant::now())
        {
            // The replica is well, as far as is known (RFC 9110, 9.2.2: what does nothing twice may
            // be sent again).
            let lost = fault.clone();
            tracing::debug!(fault = %lost, "asked again: lost with a kept connection");
            let again = replica.exchange(spare, &self.path, Terms { anew: true, ..terms }).await;
            asked = again.map_err(|second| match second.fault.retry {
                // A second request that was never sent does not make the first one unsent.
                Retry::Safe => Failure::of(lost),
                Retry::Unsafe => second,
            });
        }
        let reply = asked?;
        match self.call.filter(|_| reply.head.status.is_success()) {
            Some(Call { ears: Some((dialect, shape)), .. }) => {
                reply.heard(dialect.listener(shape)).await
            }
            Some(_) => reply.begun().await,
            None => Ok(reply),
        }
    }
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
