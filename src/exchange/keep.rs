//! Answers that are there before anybody asks: for `reprise warm`.
//!
//! A request is walked up to its key as if a client had sent it, so what is kept under that key is
//! what the client's own request finds.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::request::Parts;

use super::{
    Asked, House, Keying,
    batch::Item,
    cacheable,
    drain::Complete,
    hygiene,
    journey::{self, EMBED_PATIENCE, Provenance},
    reading, renamed, routing,
};
use crate::{
    cache::{
        guards::{Alone, Reading},
        pace::Pace,
        policy::{self, Control, Plan},
        reason::Reason,
        verdict::Placement,
    },
    fault::Fault,
    front::Peer,
    store::EntryId,
    upstream::Upstream,
    wire::{Dialect, NotStorable},
};

/// Why an answer cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum Unkept {
    /// It is no request.
    #[error("{0}")]
    Fault(Fault),
    /// The cache has no part in such a request.
    #[error("such a request is not cached ({})", .0.name())]
    Reason(Reason),
    /// Nobody could be served such an answer.
    #[error("such an answer is not kept ({})", .0.name())]
    Answer(NotStorable),
    /// A given answer is whole, and its request wants events.
    #[error("the request asks for a stream, the answer is none: remove its `stream`")]
    Stream,
}

impl From<Fault> for Unkept {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Reason> for Unkept {
    fn from(reason: Reason) -> Self {
        Self::Reason(reason)
    }
}

/// A request that came as far as its key.
pub struct Addressed {
    house: Arc<House>,
    upstream: Arc<Upstream>,
    dialect: Arc<dyn Dialect>,
    item: Item,
    plan: Plan,
    tags: Vec<String>,
}

impl House {
    /// Walks a request's way up to its key.
    ///
    /// # Errors
    /// Why it does not come so far.
    pub async fn address(self: &Arc<Self>, peer: Peer, asked: Asked) -> Result<Addressed, Unkept> {
        let (mut parts, body): (Parts, Bytes) = asked.parts();
        hygiene::request(&mut parts, &peer, &self.config.listen.trusted)?;
        let upstream = routing::route(self, &parts, None)?;
        let (scope, dialect) = cacheable(self, &upstream, &parts)?;
        let control = Control::read(&parts.headers)?;
        let prompt = reading::read(self, &dialect, &parts, &body).await.map_err(Reason::from)?;
        let upstream = routing::route(self, &parts, Some(&prompt.model))?;
        let (_, prompt) = renamed(self, &upstream, &*dialect, &parts, (body, prompt));
        let plan = policy::decide(&self.config.cache, self.ttl(&upstream), &control, &prompt)?;
        let keying = Keying {
            house: self,
            scope,
            control: &control,
            upstream: &upstream,
            dialect: &*dialect,
            parts: &parts,
            peer: &peer,
        };
        let item = Item { key: keying.key(&prompt), prompt };
        let house = self.clone();
        Ok(Addressed { house, upstream, dialect, item, plan, tags: control.tags })
    }
}

impl Addressed {
    /// Its answer's public name.
    pub fn id(&self) -> EntryId {
        self.item.key.id
    }

    /// Is a fresh answer to exactly this request there already?
    pub async fn is_known(&self) -> bool {
        let found = self.house.cache.entry(self.item.key.id).await;
        let entry = found.ok().flatten().map(|(entry, _)| entry);
        let now = crate::cache::entry::now_ms();
        entry.is_some_and(|entry| entry.answers(&self.item.key) && entry.is_fresh(now))
    }

    /// Keeps `body` as if its upstream had given it: the same checks, the same key, the same tiers.
    ///
    /// # Errors
    /// Why it is none that would have been kept.
    pub async fn keep(&self, body: Bytes) -> Result<(), Unkept> {
        let Item { prompt, .. } = &self.item;
        if prompt.shape.is_events() {
            return Err(Unkept::Stream);
        }
        let cache = &self.house.cache;
        if body.len() > cache.config().max_entry.bytes() {
            return Err(Unkept::Answer(NotStorable::TooLarge));
        }
        let mut ears = self.dialect.listener(prompt.shape);
        ears.hear(&body);
        let heard = ears.finish(&body).map_err(Unkept::Answer)?;
        let answer = Complete { body, text: heard.text, usage: heard.usage, pace: Pace::default() };
        let provenance =
            Provenance { route: self.upstream.name(), ttl: self.plan.ttl, tags: &self.tags };
        // What it would have cost to ask is not known.
        let (json, took) = ("application/json".to_owned(), Duration::ZERO);
        let mut entry = journey::entry(provenance, &self.item, answer, json, took);
        let question = prompt.question.as_ref().ok();
        let alone = question.and_then(|question| cache.class(&Reading::of(question)));
        if alone == Some(Alone::Volatile) {
            journey::shorten(&mut entry, cache.config().semantic.volatile_ttl.get());
        }
        let entry = Arc::new(entry);
        cache.remember(entry.clone());
        let vector = cache.embedding(&self.item.key, question, alone).settle(EMBED_PATIENCE).await;
        cache.write(entry, vector, Placement::Own);
        Ok(())
    }
}
