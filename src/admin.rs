//! Room 10: the second listener, for those who run Reprise: metrics, health, statistics, entries.
//!
//! It never shares a port with traffic, so a scrape works while the front is full, and a client
//! cannot reach it by a path. Whoever can connect may read; who writes must prove it
//! ([`authority::Writer`]). Prompt text is shown only where the configuration says so, and then
//! only to those who may write.

mod authority;
mod dashboard;
mod entries;
mod events;
mod explain;
mod feedback;
mod health;
mod listener;
mod purge;
mod refusal;
mod reload;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, RawQuery, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};

use self::{authority::Token, events::Watchers, refusal::Refusal};
pub use self::{
    entries::{Entries, EntryView},
    explain::{CLIENT, ExactAnswer, Explained, Judged, Nearest, Question, Took},
    health::{Health, Part, Phase},
    listener::{serve, starting},
    purge::PurgeMode,
    reload::Reload,
};
use crate::observe::{Observer, Sources, Stats};

/// Requests to the admin API are small; a larger one is a mistake.
const MAX_BODY: usize = 64 * 1024;

/// How long any answer may take to begin: a scrape, a purge of a large store.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// What the admin listener shows and moves.
#[derive(Clone)]
pub struct Admin {
    /// The metrics.
    pub observer: Arc<Observer>,
    /// The other rooms' reports.
    pub sources: Arc<dyn Sources>,
    /// Who is ready.
    pub health: Arc<Health>,
    /// The cache's entries.
    pub entries: Arc<dyn Entries>,
    reloader: Option<Arc<dyn Reload>>,
    token: Option<Token>,
    watchers: Watchers,
}

impl Admin {
    /// `token` is `admin.token`: without one only this machine may write.
    pub fn new(
        observer: Arc<Observer>,
        sources: Arc<dyn Sources>,
        health: Arc<Health>,
        entries: Arc<dyn Entries>,
        token: Option<&str>,
    ) -> Self {
        Self {
            observer,
            sources,
            health,
            entries,
            reloader: None,
            token: token.map(Token::new),
            watchers: Watchers::new(),
        }
    }

    /// The same, where the configuration can be reloaded.
    #[must_use]
    pub fn reloading(mut self, reloader: Arc<dyn Reload>) -> Self {
        self.reloader = Some(reloader);
        self
    }

    /// Everything that the listener answers.
    fn router(self) -> Router {
        Router::new()
            .route("/", get(dashboard::page))
            .route("/metrics", get(metrics))
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/api/v1/stats", get(stats))
            .route("/api/v1/entries/{id}", get(entries::show).delete(entries::delete))
            .route("/api/v1/purge", post(purge::purge))
            .route("/api/v1/feedback", post(feedback::feedback))
            .route("/api/v1/reload", post(reload::reload))
            .route("/api/v1/events", get(events::events))
            .route(
                "/api/v1/explain",
                post(explain::explain).layer(DefaultBodyLimit::max(explain::MAX_BODY)),
            )
            .fallback(async || Refusal::NOT_FOUND)
            .method_not_allowed_fallback(async || Refusal::METHOD_NOT_ALLOWED)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .layer(middleware::from_fn(bounded))
            .with_state(self)
    }
}

/// No answer takes for ever to begin, and none is kept by a browser or a proxy.
async fn bounded(request: Request, next: Next) -> Response {
    let mut response = match tokio::time::timeout(MAX_WAIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refusal::TOO_SLOW.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// In OpenMetrics' format for who names it in `Accept`, as Prometheus does; else in Prometheus' own.
async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> Result<Response, Refusal> {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let open = accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
    let scraped = match open {
        true => admin.observer.scrape_open(&*admin.sources),
        false => {
            let text = admin.observer.scrape(&*admin.sources);
            text.map(|text| ("text/plain; version=0.0.4; charset=utf-8", text))
        }
    };
    let (kind, text) = scraped.map_err(|error| {
        tracing::error!(%error, "metrics cannot be shown");
        Refusal::broken(error.to_string())
    })?;
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// The process answers: that is all it says. A failure here means "restart me".
async fn livez() -> &'static str {
    "ok\n"
}

/// Whether traffic should come here. Upstreams play no part: a dead one is no reason to take the
/// proxy out that still answers from its cache.
async fn readyz(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    readiness(&admin.health, query.as_deref())
}

fn readiness(health: &Health, query: Option<&str>) -> Response {
    let readiness = health.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose = query.is_some_and(|query| {
        query.split('&').any(|pair| pair.split('=').next() == Some("verbose"))
    });
    let text = if verbose { readiness.verbose() } else { readiness.brief() };
    (status, text).into_response()
}

/// What is answered before the rooms are open: that we live, and what is waited for.
fn starting_router(health: Arc<Health>) -> Router {
    let ready = {
        let health = health.clone();
        get(async move |RawQuery(query): RawQuery| readiness(&health, query.as_deref()))
    };
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", ready)
        .fallback(async || Refusal::STARTING)
        .layer(middleware::from_fn(bounded))
}

async fn stats(State(admin): State<Admin>) -> Json<Stats> {
    Json(admin.observer.stats(&*admin.sources))
}

#[cfg(test)]
mod tests;
