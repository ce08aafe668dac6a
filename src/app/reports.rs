//! The rooms' own reports in the words of [`observe`](crate::observe) and [`admin`](crate::admin).

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use super::{explain::explain, reload::Reloader};
use crate::{
    admin::{Entries, EntryView, Explained, PurgeMode, Question},
    cache::{Mark, Tier, entry::Entry, reason::Reason},
    config::Mode,
    embed::{Embedder, counted::Counted},
    exchange::House,
    fault::Fault,
    front::{Tally, lanes::Lanes, tls::ServerTls},
    observe::{
        EmbedReport, FlightReport, FrontReport, MemoryReport, ReplicaReport, SemanticReport,
        Sources, UpstreamReport, WritesReport, log::Dropped,
    },
    store::{EntryId, Selector, StoreFault, StoreReport},
    upstream::sight::Sight,
};

/// Where reports come from.
pub(super) struct Reports {
    pub(super) current: Arc<ArcSwap<House>>,
    pub(super) embedder: Option<Arc<dyn Embedder>>,
    pub(super) counted: Option<Arc<Counted>>,
    pub(super) sight: Arc<Sight>,
    pub(super) dropped: Dropped,
    pub(super) tally: Arc<Tally>,
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) reloader: Arc<Reloader>,
    pub(super) lanes: Arc<Lanes>,
    /// The runtime of everything that no lane does.
    pub(super) runtime: Handle,
}

impl Reports {
    /// The house as it stands now.
    fn house(&self) -> Guard<Arc<House>> {
        self.current.load()
    }
}

impl Sources for Reports {
    fn memory(&self) -> MemoryReport {
        let (entries, bytes) = self.house().cache.memory();
        MemoryReport { entries, bytes, max_bytes: self.house().config.cache.max_bytes.0 }
    }

    fn store(&self) -> Option<StoreReport> {
        self.house().cache.store().map(|store| store.report())
    }

    fn writes(&self) -> WritesReport {
        let report = self.house().cache.writes();
        let disk = self.store().map_or(0, |store| store.evicted_total);
        WritesReport {
            queued: report.queued,
            written_total: report.written,
            dropped_total: report.dropped,
            failed_total: report.failed,
            too_large_total: report.too_large,
            purged_total: report.purged,
            over_quota_total: report.over_quota,
            evicted_total: BTreeMap::from([
                ("tenant_entries", report.evicted_entries),
                ("tenant_bytes", report.evicted_bytes),
                ("disk", disk),
                ("expired", report.expired),
            ]),
        }
    }

    fn embed(&self) -> Option<EmbedReport> {
        let (embedder, counted) = (self.embedder.as_ref()?, self.counted.as_ref()?);
        let (identity, workload) = (embedder.identity(), embedder.workload());
        Some(EmbedReport {
            model: identity.name.clone(),
            dimension: identity.dimension as u64,
            threads: workload.threads as u64,
            queued: workload.queued as u64,
            queue_max: self.house().config.embed.queue as u64,
            texts: counted.results().into_iter().collect(),
            remembered_total: self.house().cache.vectors_found(),
            seconds_total: counted.seconds(),
            trouble: counted.trouble(),
        })
    }

    fn upstreams(&self) -> Vec<UpstreamReport> {
        let replica = |report: crate::upstream::ReplicaReport| ReplicaReport {
            server: self.sight.of(&report.url),
            url: report.url.to_string(),
            in_flight: report.in_flight as u64,
            idle_connections: report.idle_connections as u64,
            shared_connections: report.shared_connections as u64,
            connections_total: report.connections_opened,
            state: report.standing.name(),
            exchanges_total: report.exchanges_total,
            failures_total: report.failures_total,
            first_byte_us: report
                .first_byte
                .map_or(0, |span| u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
        };
        let upstream = |upstream: &Arc<crate::upstream::Upstream>| UpstreamReport {
            name: upstream.name().to_owned(),
            replicas: upstream.report().into_iter().map(replica).collect(),
            failovers_total: upstream.failovers_total(),
            hedges_total: upstream.hedges_total(),
            speculated_total: upstream.speculated().0,
            speculated_in_vain_total: upstream.speculated().1,
            waiting: upstream.waiting().0 as u64,
            refused_total: upstream.waiting().1,
        };
        self.house().upstreams.all().iter().map(upstream).collect()
    }

    fn flights(&self) -> FlightReport {
        let report = self.house().flights.report();
        FlightReport {
            running: report.running,
            bytes: report.log_bytes,
            max_bytes: self.house().config.cache.flights_bytes.0,
            joined_total: report.joined,
        }
    }

    fn semantic(&self) -> SemanticReport {
        let semantic = &self.house().config.cache.semantic;
        SemanticReport {
            policy: semantic.policy.name(),
            mode: match semantic.mode {
                Mode::Serve => "serve",
                Mode::Shadow => "shadow",
            },
            min_similarity: semantic.min_similarity,
            verdict: self.house().cache.verdict_report(),
        }
    }

    fn front(&self) -> FrontReport {
        let (reloads, reloads_refused) = self.reloader.counts();
        let tls = self.tls.as_ref().map(|tls| tls.reloads());
        FrontReport {
            connections: self.tally.open() as u64,
            accepted_total: self.tally.accepted(),
            handshake_failures_total: self.tally.handshake_failures(),
            stalls_total: self.tally.stalls(),
            requests: self.house().admission.in_flight() as u64,
            bodies_bytes: self.house().bodies.taken() as u64,
            tasks: (self.lanes.tasks() + self.runtime.metrics().num_alive_tasks()) as u64,
            certificates: tls.map_or([0; 2], |tls| [tls.done(), tls.failed()]),
            configurations: [reloads, reloads_refused],
        }
    }

    fn dropped_log_lines(&self) -> u64 {
        self.dropped.total()
    }
}

impl Entries for Reports {
    fn get(&self, id: EntryId) -> BoxFuture<'_, Result<Option<EntryView>, StoreFault>> {
        Box::pin(async move {
            let cache = self.house().cache.clone();
            let entry = cache.entry(id).await.map_err(fault)?;
            Ok(entry.map(|(entry, tier)| view(&entry, tier)))
        })
    }

    fn delete(&self, id: EntryId) -> BoxFuture<'_, Result<u64, StoreFault>> {
        let cache = self.house().cache.clone();
        Box::pin(async move { cache.delete(id).await })
    }

    fn mark(&self, id: EntryId, mark: Mark) -> BoxFuture<'_, Result<Option<u64>, StoreFault>> {
        let cache = self.house().cache.clone();
        Box::pin(async move { cache.mark(id, mark).await })
    }

    fn purge(&self, selector: Selector, mode: PurgeMode) -> BoxFuture<'_, Result<u64, StoreFault>> {
        Box::pin(async move {
            let cache = self.house().cache.clone();
            match mode {
                PurgeMode::Count => cache.count(selector).await,
                PurgeMode::Delete => cache.purge(selector).await,
            }
        })
    }

    fn explain(
        &self,
        peer: SocketAddr,
        question: Question,
    ) -> BoxFuture<'_, Result<Explained, Fault>> {
        let house = self.current.load_full();
        Box::pin(async move { explain(&house, peer, question).await })
    }
}

fn fault(reason: Reason) -> StoreFault {
    StoreFault::Unavailable(reason.name().into())
}

fn view(entry: &Entry, tier: Tier) -> EntryView {
    EntryView {
        id: entry.id.to_string(),
        tier: tier.name(),
        model: entry.model.to_string(),
        route: entry.route.to_string(),
        tenant: entry.tenant.to_string(),
        tags: entry.tags.clone(),
        generated_ms: entry.generated_ms,
        expires_ms: entry.expires_ms,
        bytes: entry.body.len() as u64,
        question: entry.question.as_deref().and_then(super::explain::readable),
    }
}
