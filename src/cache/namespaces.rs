//! What was learned about near questions, kept apart by tenant and model: one tenant's labels never
//! decide for another.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use serde_json::value::RawValue;

use super::{
    guards::{Guard, GuardSet, Reading},
    reason::Reason,
    verdict::{
        Decision, Namespace, NamespaceReport, Neighbour, Principal, Ruling, Settings,
        first_prior::first_prior,
        posterior::{self, Belief},
    },
};
use crate::{config, store};

/// The most namespaces that learn; a tenant beyond them is decided for by the first prior alone.
const NAMESPACES_MAX: usize = 10_000;

/// A namespace that is held for the moment.
pub(super) type Shared<'a> = MutexGuard<'a, Namespace>;

/// Learned state by tenant and model.
pub struct Namespaces {
    settings: Settings,
    /// What is believed of the embedding model before anything was heard.
    prior: Belief,
    learned: Mutex<HashMap<String, Arc<Mutex<Namespace>>>>,
    path: Option<PathBuf>,
}

impl Namespaces {
    /// Reads what was learned before from `path`; a file that cannot be read is set aside, never
    /// deleted, and learning begins anew. `confirmations` is 0 where nobody shares a scope.
    pub fn open(
        config: &config::Semantic,
        model: &str,
        confirmations: usize,
        path: Option<PathBuf>,
    ) -> Self {
        if config.policy == config::Policy::Verified {
            posterior::warm();
        }
        let guards = config.guards.iter().filter_map(|name| Guard::from_name(name));
        let settings = Settings {
            policy: config.policy,
            min_similarity: match config.policy {
                config::Policy::Threshold => config.min_similarity,
                config::Policy::Verified | config::Policy::Vcache | config::Policy::Off => 0.0,
            },
            max_wrong_hits: config.max_wrong_hits,
            // A fixed threshold promises nothing that an audit could check: it would only cost hits.
            audit: match config.policy {
                config::Policy::Verified | config::Policy::Vcache => config.audit,
                config::Policy::Threshold | config::Policy::Off => 0.0,
            },
            guards: GuardSet::of(&guards.collect::<Vec<_>>()),
            confirmations,
        };
        let namespaces =
            Self { settings, prior: first_prior(model), learned: Mutex::new(HashMap::new()), path };
        namespaces.restore();
        namespaces
    }

    fn restore(&self) {
        let Some(path) = &self.path else { return };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return set_aside(path, &error.to_string()),
        };
        match serde_json::from_str::<HashMap<String, Box<RawValue>>>(&text) {
            Ok(stored) => {
                let mut learned = self.learned.lock();
                for (name, snapshot) in stored {
                    let prior = self.prior.clone();
                    let restored = Namespace::restore(self.settings.clone(), prior, snapshot.get());
                    if let Ok(namespace) = restored {
                        learned.insert(name, Arc::new(Mutex::new(namespace)));
                    }
                }
            }
            Err(error) => set_aside(path, &error.to_string()),
        }
    }

    /// Writes down what was learned, whole or not at all.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let all: Vec<_> = {
            let learned = self.learned.lock();
            learned.iter().map(|(name, one)| (name.clone(), one.clone())).collect()
        };
        if all.is_empty() {
            return Ok(());
        }
        let mut stored = HashMap::with_capacity(all.len());
        for (name, namespace) in all {
            let snapshot = namespace.lock().snapshot()?;
            stored.insert(name, RawValue::from_string(snapshot)?);
        }
        // With a store on a server nothing else may have made this folder.
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let draft = path.with_extension("draft");
        std::fs::write(&draft, serde_json::to_vec(&stored)?)?;
        std::fs::rename(draft, path)
    }

    /// The namespace of this tenant and model.
    pub fn of(&self, tenant: &str, model: &str) -> Arc<Mutex<Namespace>> {
        let name = format!("{tenant} {model}");
        let mut learned = self.learned.lock();
        if let Some(known) = learned.get(&name) {
            return known.clone();
        }
        let prior = self.prior.clone();
        let fresh = Arc::new(Mutex::new(Namespace::new(self.settings.clone(), prior)));
        if learned.len() < NAMESPACES_MAX {
            learned.insert(name, fresh.clone());
        }
        fresh
    }

    /// The same for a look: a namespace that never decided is shown as it would begin, and does not
    /// begin by it.
    pub fn peek(&self, tenant: &str, model: &str) -> Arc<Mutex<Namespace>> {
        let known = self.learned.lock().get(&format!("{tenant} {model}")).cloned();
        known.unwrap_or_else(|| {
            Arc::new(Mutex::new(Namespace::new(self.settings.clone(), self.prior.clone())))
        })
    }

    /// Does the policy learn from answers?
    pub fn learns(&self) -> bool {
        matches!(self.settings.policy, config::Policy::Verified | config::Policy::Vcache)
    }

    /// Are fresh answers compared with stored ones at all?
    pub fn compares(&self) -> bool {
        self.learns() || self.settings.confirmations > 0
    }

    /// Name, labels and state of each namespace.
    pub fn snapshots(&self) -> Vec<(String, f64, String)> {
        let all: Vec<_> = {
            let learned = self.learned.lock();
            learned.iter().map(|(name, one)| (name.clone(), one.clone())).collect()
        };
        let stated = |(name, one): (String, Arc<Mutex<Namespace>>)| {
            let space = one.lock();
            Some((name, space.labels(), space.snapshot().ok()?))
        };
        all.into_iter().filter_map(stated).collect()
    }

    /// Takes over the state of a namespace that is not known here.
    pub fn adopt(&self, name: &str, snapshot: &str) {
        let mut learned = self.learned.lock();
        if learned.contains_key(name) || learned.len() >= NAMESPACES_MAX {
            return;
        }
        let (settings, prior) = (self.settings.clone(), self.prior.clone());
        if let Ok(namespace) = Namespace::restore(settings, prior, snapshot) {
            learned.insert(name.to_owned(), Arc::new(Mutex::new(namespace)));
        }
    }

    /// What each namespace says of itself: tenant, model, counts.
    pub fn reports(&self) -> Vec<(String, String, NamespaceReport)> {
        let all: Vec<_> = {
            let learned = self.learned.lock();
            learned.iter().map(|(name, one)| (name.clone(), one.clone())).collect()
        };
        let named = |(name, one): (String, Arc<Mutex<Namespace>>)| {
            let (tenant, model) = name.split_once(' ').unwrap_or((&name, ""));
            (tenant.to_owned(), model.to_owned(), one.lock().report())
        };
        all.into_iter().map(named).collect()
    }
}

/// What a namespace says of a question and its near ones; it is acted on.
pub fn decide(
    namespace: &Mutex<Namespace>,
    question: &Reading,
    near: &[Neighbour<'_>],
    asker: Principal,
) -> Decision {
    let mut space = namespace.lock();
    let mut decision = space.assess(question, near, draw());
    space.hold_back(&mut decision, asker);
    space.book(&decision);
    decision
}

/// The same for a look: nothing is booked, and nothing drawn to be checked.
pub fn assess(
    namespace: &Namespace,
    question: &Reading,
    near: &[Neighbour<'_>],
    asker: Principal,
) -> Decision {
    let mut decision = namespace.assess(question, near, NEVER_DRAWN);
    namespace.hold_back(&mut decision, asker);
    decision
}

/// The neighbour whose answer a decision allows, if the client wants none that is nearer.
///
/// # Errors
/// Why there is none.
pub fn ruled<'n>(
    policy: config::Policy,
    decision: &Decision,
    near: &'n [store::Neighbour],
    min_similarity: f32,
) -> Result<&'n store::Neighbour, Reason> {
    let guard = decision.guards.iter().next();
    let chosen = match decision.ruling {
        Ruling::Serve => decision.chosen.and_then(|at| near.get(at)).ok_or(Reason::NoNeighbour),
        Ruling::Audit => Err(Reason::Audit),
        Ruling::Explore => Err(Reason::Explore),
        Ruling::Suspended => Err(Reason::Suspended),
        Ruling::Unconfirmed => Err(Reason::Unconfirmed),
        Ruling::Doubtful if policy == config::Policy::Threshold => Err(Reason::BelowSimilarity),
        Ruling::Doubtful => Err(Reason::Doubtful),
        Ruling::Guarded => Err(guard.map_or(Reason::Doubtful, Reason::Guarded)),
        Ruling::NoNeighbour => Err(Reason::NoNeighbour),
        Ruling::Off => Err(Reason::SemanticOff),
    }?;
    let enough = chosen.similarity >= min_similarity;
    if enough { Ok(chosen) } else { Err(Reason::BelowSimilarity) }
}

/// A draw that is above every share.
const NEVER_DRAWN: f64 = 0.999_999;

/// A uniform number in 0..1. Where the system gives no randomness nothing is audited: better than
/// auditing everything.
fn draw() -> f64 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
        Err(_) => NEVER_DRAWN,
    }
}

fn set_aside(path: &Path, why: &str) {
    let aside = path.with_extension(format!("corrupt-{}", super::entry::now_ms() / 1000));
    let moved = std::fs::rename(path, &aside);
    tracing::error!(
        path = %path.display(), aside = %aside.display(), moved = moved.is_ok(), why,
        "what was learned about near questions cannot be read: set aside, learning begins anew"
    );
}

impl From<store::EntryId> for super::verdict::AnswerId {
    fn from(id: store::EntryId) -> Self {
        Self(id.0)
    }
}

impl From<super::verdict::AnswerId> for store::EntryId {
    fn from(id: super::verdict::AnswerId) -> Self {
        Self(id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn semantic() -> config::Semantic {
        let overrides = config::Overrides {
            upstream: Some("http://127.0.0.1:1".into()),
            ..config::Overrides::default()
        };
        let environment =
            [("REPRISE__CACHE__SEMANTIC__POLICY".to_owned(), "verified".to_owned())].into();
        config::load(None, &environment, &overrides).unwrap().cache.semantic
    }

    #[test]
    fn what_was_learned_survives_and_stays_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("verdict.json");
        let one = Namespaces::open(&semantic(), "all-MiniLM-L6-v2", 0, Some(path.clone()));
        one.of("t1", "m").lock().reject(super::super::verdict::AnswerId(7));
        one.save().unwrap();
        let two = Namespaces::open(&semantic(), "all-MiniLM-L6-v2", 0, Some(path));
        let quarantined = |tenant: &str| {
            two.of(tenant, "m").lock().is_quarantined(super::super::verdict::AnswerId(7))
        };
        assert!(quarantined("t1"));
        assert!(!quarantined("t2"));
    }

    #[test]
    fn a_broken_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("verdict.json");
        std::fs::write(&path, "{").unwrap();
        let _ = Namespaces::open(&semantic(), "x", 0, Some(path.clone()));
        assert!(!path.exists());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
