//! Labels on their way between replicas: gathered here, written to the store as short-lived records, each
//! heard once by everybody else.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as AsyncMutex;

use super::{read, write};
use crate::{
    cache::{entry::now_ms, namespaces::Namespaces, verdict::Lesson},
    store::{EntryId, StoreFault, meta::Meta},
};

const LESSONS: &str = "lessons";
/// Who cannot reach the store for longer misses what was told meanwhile.
const LIFE_MS: u64 = 120_000;
/// Lessons that wait while the store cannot be reached, and as many as one record holds (some 200 bytes
/// each); further ones stay with who was taught.
const MOST_WAITING: usize = 2_000;

/// Both directions.
#[derive(Debug)]
pub(super) struct Lessons {
    /// This replica's name in the store, another after each start.
    name: String,
    waiting: Mutex<Waiting>,
    telling: AsyncMutex<Telling>,
    /// The records that were heard, with the Unix milliseconds of it. `None` before the first look.
    heard: AsyncMutex<Option<HashMap<EntryId, u64>>>,
}

#[derive(Debug, Default)]
struct Waiting {
    by_namespace: BTreeMap<(String, String), Vec<Lesson>>,
    count: usize,
}

#[derive(Debug, Default)]
struct Telling {
    told: u64,
    /// Of which it is not known whether it was written: it keeps its name, so that nobody hears it twice.
    undecided: Option<Told>,
}

/// What one replica was taught within a few seconds.
#[derive(Debug, Deserialize, Serialize)]
struct Told(Vec<Of>);

#[derive(Debug, Deserialize, Serialize)]
struct Of {
    tenant: String,
    model: String,
    lessons: Vec<Lesson>,
}

impl Default for Lessons {
    fn default() -> Self {
        let mut name = [0; 16];
        // Where the system gives no randomness, two replicas might not hear each other.
        let _ = getrandom::fill(&mut name);
        Self {
            name: format!("{:032x}", u128::from_ne_bytes(name)),
            waiting: Mutex::default(),
            telling: AsyncMutex::default(),
            heard: AsyncMutex::default(),
        }
    }
}

impl Lessons {
    /// To be told the next time.
    pub(super) fn note(&self, tenant: &str, model: &str, lessons: Vec<Lesson>) {
        if lessons.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock();
        if waiting.count + lessons.len() > MOST_WAITING {
            return;
        }
        waiting.count += lessons.len();
        let namespace = (tenant.to_owned(), model.to_owned());
        waiting.by_namespace.entry(namespace).or_default().extend(lessons);
    }

    /// Writes what waits.
    pub(super) async fn tell(&self, meta: &Meta) -> Result<(), StoreFault> {
        let mut telling = self.telling.lock().await;
        loop {
            if telling.undecided.is_none() {
                telling.undecided = self.gathered();
            }
            let Some(told) = &telling.undecided else { return Ok(()) };
            let name = format!("{} {}", self.name, telling.told);
            write(meta, LESSONS, &name, told, LIFE_MS).await?;
            telling.told += 1;
            telling.undecided = None;
        }
    }

    fn gathered(&self) -> Option<Told> {
        let Waiting { by_namespace, count } = std::mem::take(&mut *self.waiting.lock());
        let of = |((tenant, model), lessons)| Of { tenant, model, lessons };
        (count > 0).then(|| Told(by_namespace.into_iter().map(of).collect()))
    }

    /// Takes over what others were taught since the last look. What is there at the first is in the state
    /// that this replica began with.
    pub(super) async fn hear(
        &self,
        meta: &Meta,
        namespaces: &Namespaces,
    ) -> Result<(), StoreFault> {
        let mut heard = self.heard.lock().await;
        let now = now_ms();
        let ids = meta.ids(LESSONS).await?;
        let Some(heard) = &mut *heard else {
            *heard = Some(ids.into_iter().map(|id| (id, now)).collect());
            return Ok(());
        };
        for id in ids {
            if heard.contains_key(&id) {
                continue;
            }
            // Named but not readable yet: the next look will find it.
            let Some(shared) = meta.by_id(id).await? else { continue };
            heard.insert(id, now);
            if shared.name.starts_with(&self.name) {
                continue;
            }
            for Of { tenant, model, lessons } in read::<Told>(&shared).map_or(vec![], |told| told.0)
            {
                let namespace = namespaces.of(&tenant, &model);
                let mut space = namespace.lock();
                lessons.iter().for_each(|lesson| space.take_over(lesson));
            }
        }
        // Past their life records may be listed for some minutes, until they are swept.
        heard.retain(|_, at| now.saturating_sub(*at) < 10 * LIFE_MS);
        Ok(())
    }
}
