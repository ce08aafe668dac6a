//! What a flight's leader does: look, ask the upstream, drain it into the log, keep the answer.
//!
//! It runs in a task of its own. The client that began it may leave; the upstream is drained at its
//! own speed whatever the clients do.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use parking_lot::Mutex;

use super::{
    House, ahead,
    batch::{self, Item},
    drain::{Complete, Drained, Recorder, drain, not_storable},
    refresh, routing,
};
use crate::{
    cache::{
        HitKind,
        entry::{Entry, now_ms},
        flight::{Course, Landing, Lead, log::Reader},
        key::Key,
        learn::{Heard, Occasion},
        policy::Plan,
        reason::Reason,
        semantic::{Search, Times},
        verdict::{Placement, Ruling},
    },
    fault::Fault,
    front::{body::Reserved, hygiene},
    observe::TraceContext,
    upstream::{Call, Prefix, Reply, Timing, Upstream},
    wire::{Dialect, NotStorable, Prompt, grpc},
};

/// How long a finished answer waits for its question's vector before it is stored without one.
pub(super) const EMBED_PATIENCE: Duration = Duration::from_secs(10);

/// Everything that a request's answer is made of.
#[derive(Clone)]
pub(super) struct Errand {
    pub(super) house: Arc<House>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) dialect: Arc<dyn Dialect>,
    pub(super) key: Key,
    pub(super) prompt: Prompt,
    pub(super) plan: Plan,
    pub(super) head: Parts,
    pub(super) body: Bytes,
    /// The body's part of the room for all of them.
    pub(super) _reserved: Arc<Reserved>,
    pub(super) tags: Vec<String>,
    /// The inputs of a batch, each as it would be asked alone.
    pub(super) items: Arc<[Item]>,
    /// What the memory tier said, where it said more than "nothing".
    pub(super) known: Option<Reason>,
    /// The place in a trace of the request that began it.
    pub(super) trace: Option<TraceContext>,
}

impl Errand {
    /// Where its answer comes from.
    pub(super) fn provenance(&self) -> Provenance<'_> {
        Provenance { route: self.upstream.name(), ttl: self.plan.ttl, tags: &self.tags }
    }

    /// The same errand, to be answered by the upstream whatever the cache holds.
    pub(super) fn fresh(&self, reason: Reason) -> Arc<Self> {
        let mut errand = self.clone();
        errand.plan.read = Err(reason);
        errand.known = Some(reason);
        Arc::new(errand)
    }

    /// Notes, of a stale answer's renewal, that it came to nothing.
    fn renewal_failed(&self) {
        if self.plan.read == Err(Reason::Stale) {
            self.house.cache.renewal_failed(self.key.id);
        }
    }
}

/// The head of a running answer, with what its leader knows of it.
pub struct AnswerHead {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) timing: Timing,
    pub(super) replica: Arc<str>,
    /// The place in a trace of the request that began it.
    pub(super) trace: Option<TraceContext>,
    /// Why the cache did not answer.
    pub(super) reason: Reason,
    pub(super) times: Times,
    /// Similarity of a hit that was only counted (shadow mode).
    pub(super) nearest: Option<f32>,
    /// Similarity of the nearest stored question, and the verdict on it.
    pub(super) judged: Option<(f32, &'static str)>,
    /// Why it is not kept, where its head says so.
    pub(super) not_kept: Option<NotStorable>,
    /// The leader's own place in the log: taken before the first byte, so that it cannot be missed.
    first: Mutex<Option<Reader>>,
}

impl AnswerHead {
    /// The announced length of the body; statuses without one announce nothing (RFC 9110, 6.4.1).
    pub(super) fn length(&self) -> Option<u64> {
        if matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Some(0);
        }
        self.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// Whether nothing follows: a call of gRPC that failed at once. Its clients insist on a stream
    /// that ends with this head.
    pub(super) fn is_all(&self) -> bool {
        self.headers.contains_key(grpc::STATUS)
    }

    /// The leader's own place in the log, once.
    pub(super) fn first_reader(&self, leads: bool) -> Option<Reader> {
        if leads { self.first.lock().take() } else { None }
    }
}

/// Makes the journey and announces it.
pub(super) async fn travel(errand: Arc<Errand>, lead: Lead<AnswerHead>) {
    let cache = errand.house.cache.clone();
    let looked = ahead::lookup_with_call(&errand, &lead).await;
    let Some((search, ahead)) = looked else { return };
    let Search { outcome, shadow, decision, retried, volatile, embedding, times } = search;
    if let Some(decision) = &decision {
        let served = decision.ruling == Ruling::Serve;
        errand.house.observer.believed(decision.alpha, served);
    }
    let reason = match outcome {
        Ok(hit) => {
            let renew = hit.kind == HitKind::Stale;
            lead.announce(Course::Hit(hit, times));
            drop(lead);
            if renew {
                refresh(&errand);
            }
            return;
        }
        Err(reason) => errand.known.unwrap_or(reason),
    };
    let nearest = shadow.and_then(|hit| hit.kind.similarity());
    let judged = decision.as_ref().map(|decision| (decision.similarity, decision.ruling.name()));
    let patient = errand.house.config.cache.finish_abandoned;
    let (reply, begun) = tokio::select! {
        biased;
        () = lead.deserted(), if !patient => return,
        reply = ahead::reply(&errand, ahead) => reply,
    };
    let Reply { head, body, timing, replica, .. } = match reply {
        Ok(reply) => reply,
        Err(fault) => {
            errand.renewal_failed();
            return lead.announce(Course::Fault(fault));
        }
    };
    let not_storable = not_storable(&errand, head.status, &head.headers);
    if let Some(why) = not_storable {
        cache.not_kept(errand.key.id, why);
    }
    let writer = lead.log();
    let answer = AnswerHead {
        status: head.status,
        headers: head.headers,
        timing,
        replica,
        trace: errand.trace,
        reason,
        times,
        nearest,
        judged,
        not_kept: not_storable,
        first: Mutex::new(writer.log().reader()),
    };
    let content_type = answer.headers.get(header::CONTENT_TYPE);
    let content_type =
        content_type.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    lead.announce(Course::Stream { head: Arc::new(answer), log: writer.log().clone() });

    let mut trailers = None;
    let recorder = Recorder::new(&errand, begun, not_storable);
    let drained = drain(&errand, &lead, &writer, (body, &mut trailers), recorder).await;
    let took = begun.elapsed();
    match drained {
        Drained::Kept(answer) => {
            if let Some(usage) = answer.usage {
                let limits = &errand.house.config.limits;
                let used = usage.prompt.saturating_add(usage.completion);
                errand.house.quotas.spend(&errand.key.tenant, used, limits);
            }
            let text = answer.text.clone();
            let item = Item { key: errand.key.clone(), prompt: errand.prompt.clone() };
            let mut entry = entry(errand.provenance(), &item, answer, content_type, took);
            if volatile {
                shorten(&mut entry, cache.config().semantic.volatile_ttl.get());
            }
            let entry = Arc::new(entry);
            // In this order: whoever sees the end of the stream finds the answer in the cache.
            cache.remember(entry.clone());
            if !errand.items.is_empty() {
                batch::learn(&errand, &entry);
            }
            lead.land(Landing::Kept(entry.clone()));
            writer.finish(Ok(trailers));
            let vector = embedding.settle(EMBED_PATIENCE).await;
            let lesson = match (&decision, &retried) {
                (Some(decision), _) => Some((decision, Occasion::Forwarded)),
                (None, Some(decision)) => Some((&**decision, Occasion::Retried)),
                (None, None) => None,
            };
            let placement = match &errand.prompt.question {
                Ok(question) => {
                    let (key, model) = (&errand.key, &*errand.prompt.model);
                    let heard = Heard { key, model, question, fresh: &text };
                    cache.learn(heard, lesson, |entry| text_of(&*errand.dialect, entry)).await
                }
                Err(_) => Placement::Own,
            };
            cache.write(entry, vector, placement);
        }
        Drained::Gone(why) => {
            tracing::debug!(reason = why.name(), entry = %errand.key.id, "answer not kept");
            cache.not_kept(errand.key.id, why);
            errand.renewal_failed();
            lead.land(Landing::Gone(why));
            writer.finish(Ok(trailers));
        }
        Drained::Failed(fault) => {
            tracing::warn!(upstream = errand.upstream.name(), %fault, "answer broke off");
            errand.renewal_failed();
            lead.land(Landing::Gone(NotStorable::Incomplete));
            writer.finish(Err(fault));
        }
    }
}

/// Sends the request as the client wrote it, without what was meant for us.
pub(super) async fn ask(errand: &Errand) -> Result<Reply, Fault> {
    let mut head = errand.head.clone();
    hygiene::strip_control(&mut head.headers);
    // A compressed answer could be neither checked nor reshaped.
    head.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if grpc::is_call(&head.headers) {
        head.headers.insert(grpc::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        // Others may join who have more time; a client without any leaves by itself.
        head.headers.remove(grpc::TIMEOUT);
    }
    let (dialect, shape) = (&*errand.dialect, errand.prompt.shape);
    let upstreams = &errand.house.upstreams;
    let all = std::iter::once(&errand.upstream).chain(upstreams.after(&errand.upstream));
    let prefix = all.into_iter().any(|upstream| upstream.uses_prefix());
    let call = Call {
        tenant: &errand.key.tenant,
        prefix: prefix.then(|| Prefix::of([&*errand.prompt.opening])),
        ears: shape.is_events().then_some((dialect, shape)),
    };
    let wanted = routing::Errand { head: &head, body: &errand.body, call: Some(call) };
    routing::ask(&errand.house, &errand.upstream, wanted).await
}

/// What a stored answer says.
fn text_of(dialect: &dyn Dialect, entry: &Entry) -> Option<String> {
    let mut ears = dialect.listener(entry.shape);
    ears.hear(&entry.body);
    ears.finish(&entry.body).ok().map(|answer| answer.text)
}

/// Where an answer comes from and how long it may stay.
#[derive(Clone, Copy)]
pub(super) struct Provenance<'a> {
    pub(super) route: &'a str,
    pub(super) ttl: Duration,
    pub(super) tags: &'a [String],
}

/// Gives an answer at most this life.
pub(super) fn shorten(entry: &mut Entry, most: Duration) {
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    entry.expires_ms = entry.expires_ms.min(entry.generated_ms.saturating_add(most));
}

pub(super) fn entry(
    provenance: Provenance<'_>,
    item: &Item,
    answer: Complete,
    content_type: String,
    took: Duration,
) -> Entry {
    let now = now_ms();
    let ttl = u64::try_from(provenance.ttl.as_millis()).unwrap_or(u64::MAX);
    Entry {
        id: item.key.id,
        fingerprint: item.key.fingerprint,
        partition: item.key.partition.clone(),
        tenant: item.key.tenant.clone(),
        model: item.prompt.model.clone(),
        route: Arc::from(provenance.route),
        tags: provenance.tags.to_vec(),
        question: item.prompt.question.as_ref().ok().cloned(),
        shape: item.prompt.shape,
        content_type,
        body: answer.body,
        usage: answer.usage,
        upstream_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        pace: answer.pace,
        generated_ms: now,
        expires_ms: now.saturating_add(ttl),
    }
}
