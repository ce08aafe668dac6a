//! Opening the rooms. A part of the cache that cannot be opened is said once and done without.

use std::{sync::Arc, time::Instant};

use tokio_util::task::TaskTracker;

use super::{StartFault, embedder, store};
use crate::{
    admin::{Health, Part},
    cache::{
        Cache, Parts, Prompts as Kept, flight::Flights, guards::Veil, quota::Quota, reason::Reason,
        verdict::Ruling,
    },
    config::{Config, Policy, StoreKind},
    embed::{
        Embedder, Identity,
        counted::Counted,
        local::{Local, LocalOptions},
    },
    exchange::{House, Readings},
    front::{
        admission::Admission,
        body::Room,
        quota::Quotas,
        tenant::{Tenants, tenant_key},
    },
    observe::{AccessLog, Observer, PriceTable, Promise, Prompts, Settings, trace::Exporter},
    store::VectorStore,
    upstream::Upstreams,
};

/// The rooms, open.
pub(super) struct Opened {
    pub(super) house: Arc<House>,
    pub(super) embedder: Option<Arc<dyn Embedder>>,
    pub(super) counted: Option<Arc<Counted>>,
    pub(super) observer: Arc<Observer>,
    pub(super) exporter: Option<Exporter>,
}

pub(super) async fn house(
    config: &Config,
    health: &Arc<Health>,
    tasks: &TaskTracker,
) -> Result<Opened, StartFault> {
    let observer = Observer::new(Settings {
        prompts: if config.log.prompts { Prompts::Shown } else { Prompts::Withheld },
        access: if config.log.access { AccessLog::Written } else { AccessLog::Silent },
        reasons: &Reason::NAMES,
        verdicts: &Ruling::NAMES,
        prices: PriceTable::new(&config.prices),
    })
    .map_err(|error| StartFault::Process(error.to_string()))?;
    let exporter = exporter(config, &observer);
    let upstreams = Upstreams::open(config)?;
    promises(config, &upstreams, &observer);
    let key = tenant_key_of(config)?;
    let (embedder, store) = tiers(config, health).await;
    let counted = embedder.clone().map(|local| counted(local, health));
    let parts = Parts {
        embedder: counted.clone().map(|counted| counted as Arc<dyn Embedder>),
        store,
        queue: config.store.queue,
        quota: Quota { entries: config.store.tenant_entries, bytes: config.store.tenant_bytes.0 },
        prompts: if config.store.prompts { Kept::Kept } else { Kept::Covered },
        veil: Arc::new(Veil::new(&key)),
        learned: (config.store.kind != StoreKind::Off).then(|| config.store.path.clone()),
    };
    let cache = Cache::new(config.cache.clone(), parts, tasks);
    let flight_bytes = config.cache.flight_bytes.bytes();
    let house = House {
        tenants: Tenants::new(config.cache.scope.clone(), key),
        admission: Admission::new(config.limits.requests),
        quotas: Quotas::default(),
        bodies: Room::new(config.limits.bodies_bytes.bytes()),
        cache: Arc::new(cache),
        flights: Flights::new(flight_bytes, config.cache.flights_bytes.bytes()),
        upstreams,
        observer: observer.clone(),
        tasks: TaskTracker::new(),
        readings: Readings::default(),
        config: config.clone(),
    };
    Ok(Opened { house: Arc::new(house), embedder, counted, observer, exporter })
}

/// Keeps count of what the embedder does, and says when it has stopped to answer.
fn counted(embedder: Arc<dyn Embedder>, health: &Health) -> Arc<Counted> {
    let counted = Arc::new(Counted::new(embedder));
    let watched = counted.clone();
    health.watch("embedder", move || match watched.trouble() {
        None => Part::Ok,
        Some(trouble) => Part::Degraded(trouble),
    });
    counted
}

/// The metrics of each upstream, and what is promised of it. Requests in its first dialect count
/// from zero, those of its others from their first.
pub(super) fn promises(config: &Config, upstreams: &Upstreams, observer: &Observer) {
    for (settings, upstream) in config.upstream.iter().zip(upstreams.all()) {
        let first = upstream.dialects().first().map_or("none", |dialect| dialect.name());
        let route = observer.route(&settings.name, first);
        if let Some(budget) = settings.budget {
            let promise = Promise { budget: budget.get(), share: settings.budget_share };
            observer.promise(&route, promise);
        }
    }
}

/// Traces that cannot be sent are no reason not to serve.
fn exporter(config: &Config, observer: &Observer) -> Option<Exporter> {
    let endpoint = config.telemetry.otlp_endpoint.as_ref()?;
    match observer.start_traces(&config.telemetry) {
        Ok(exporter) => {
            tracing::info!(endpoint, "sending traces");
            Some(exporter)
        }
        Err(fault) => {
            tracing::error!(%fault, "no traces");
            None
        }
    }
}

/// The key lives beside the store, whose entries it scopes; without a store it lives as long as the
/// process. Proxies on one server must be told the same one.
pub(super) fn tenant_key_of(config: &Config) -> Result<[u8; 32], StartFault> {
    if let Some(key) = &config.store.tenant_key {
        return Ok(*key.reveal());
    }
    if config.store.kind.is_remote() {
        tracing::warn!(
            "store.tenant_key is not set: this proxy finds its own answers on the server, but no \
             other proxy's"
        );
    }
    match config.store.kind {
        StoreKind::Embedded | StoreKind::Milvus | StoreKind::Qdrant | StoreKind::Pinecone => {
            tenant_key(&config.store.path.join("tenant.key")).map_err(StartFault::TenantKey)
        }
        StoreKind::Off => {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(|error| StartFault::Process(error.to_string()))?;
            Ok(key)
        }
    }
}

type Tiers = (Option<Arc<dyn Embedder>>, Option<Arc<dyn VectorStore>>);

/// The embedder and the store, which load side by side where the model's files tell what the store's
/// collection is named by.
async fn tiers(config: &Config, health: &Arc<Health>) -> Tiers {
    let wanted = config.cache.enabled && config.store.kind != StoreKind::Off;
    if !wanted {
        return (None, None);
    }
    health.set("embedder", Part::Starting);
    health.set("store", Part::Starting);
    let begun = Instant::now();
    let (embedder, ahead) = tokio::join!(embedder::open(&config.embed), opened_ahead(config));
    let embedder = match embedder {
        Ok(embedder) => embedder,
        Err(reason) => {
            // Without a model's identity a collection has no name: the store stays closed too.
            tracing::error!(%reason, "no embedder: serving from memory, exact repeats only");
            health.set("embedder", Part::Degraded(reason));
            health.set("store", Part::Degraded("needs the embedder's identity".into()));
            close(ahead).await;
            return (None, None);
        }
    };
    let identity = embedder.identity().clone();
    tracing::info!(
        model = identity.name,
        dimension = identity.dimension,
        window = identity.window_tokens,
        semantic = config.cache.semantic.policy != Policy::Off,
        took = ?begun.elapsed(),
        "embedder warm"
    );
    let store = match ahead {
        Some((foreseen, store)) if foreseen == identity => store,
        other => {
            close(other).await;
            store::open(&config.store, identity).await
        }
    };
    match store {
        Ok(store) => {
            let report = store.report();
            let took = begun.elapsed();
            tracing::info!(
                collection = report.collection,
                records = report.records,
                ?took,
                "store open"
            );
            let watched = store.clone();
            health.watch("store", move || match watched.report().trouble {
                None => Part::Ok,
                Some(trouble) => Part::Degraded(trouble),
            });
            (Some(embedder), Some(store))
        }
        Err(reason) => {
            tracing::error!(%reason, "no store: serving from memory, exact repeats only");
            health.set("store", Part::Degraded(reason));
            (Some(embedder), None)
        }
    }
}

/// A store, and the identity that it was opened by before the embedder told its own.
type Ahead = Option<(Identity, Result<Arc<dyn VectorStore>, String>)>;

async fn opened_ahead(config: &Config) -> Ahead {
    let identity = embedder::foresee(&config.embed).await?;
    let store = store::open(&config.store, identity.clone()).await;
    Some((identity, store))
}

/// An embedded store's lock is free when this returns.
async fn close(ahead: Ahead) {
    // A store that cannot be closed has said so.
    let _ = tokio::task::spawn_blocking(move || drop(ahead)).await;
}

/// The model in this process. Loading it is blocking work.
pub(super) async fn local(config: &crate::config::Embed) -> Result<Arc<dyn Embedder>, String> {
    let options = LocalOptions {
        model: config.model.clone(),
        ort_dylib: config.ort_dylib.clone(),
        threads: config.threads,
        queue: config.queue,
        max_batch: config.max_batch,
        provider: config.provider,
    };
    let local = blocking(move || Local::open(options)).await?;
    Ok(Arc::new(local))
}

/// Runs blocking work; a panic in it is an error like any other.
pub(super) async fn blocking<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(panicked) => Err(panicked.to_string()),
    }
}
