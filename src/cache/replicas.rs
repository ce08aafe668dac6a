//! What replicas on one store tell each other of what they learned: which answers were marked as wrong,
//! within two seconds; each label, within ten; and all the rest to one that begins, so that it need not
//! begin at nothing.
//!
//! The store keeps what the most experienced of them knew of a namespace. Who begins takes that over and
//! hears what is taught from then on: a label is counted by everybody once, or, taught in the minute
//! before, by him not at all.

mod lessons;

use std::{collections::HashSet, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};

use self::lessons::Lessons;
use super::{entry::now_ms, namespaces::Namespaces, verdict::Lesson};
use crate::store::{
    EntryId, StoreFault,
    meta::{Meta, Shared},
};

const MARKS: &str = "mark";
const LEARNED: &str = "learned";
/// A mark holds as long as anybody remembers the answer.
const MARK_LIFE_MS: u64 = 10 * 365 * 24 * 3600 * 1000;
/// What nobody has renewed for so long is of a namespace that nobody asks in any more.
const LEARNED_LIFE_MS: u64 = 30 * 24 * 3600 * 1000;
/// A larger state is not shared: stores have limits to a record, and its namespace is well served by
/// what it knows already.
const LEARNED_BYTES_MAX: usize = 1 << 20;

/// Answers that were marked as wrong.
#[derive(Debug, Serialize, Deserialize)]
struct Marked {
    tenant: String,
    model: String,
    answers: Vec<EntryId>,
}

/// An answer that a mark took out, at a replica that heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Barred {
    pub answer: EntryId,
    /// The mark named it: whoever made the mark purges it everywhere.
    pub told: bool,
    /// Unix milliseconds of the mark: what was generated later is another answer.
    pub marked_ms: u64,
}

/// A namespace's state, and how many labels it rests on.
#[derive(Debug, Serialize, Deserialize)]
struct Learned {
    labels: f64,
    snapshot: String,
}

/// The other replicas, by way of the store.
pub(super) struct Replicas {
    meta: Meta,
    namespaces: Arc<Namespaces>,
    heard: Mutex<HashSet<EntryId>>,
    lessons: Lessons,
    begun: watch::Sender<Begun>,
}

/// How far a replica is that begins: until it heard what others marked, it could serve that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    /// The first look is under way.
    Not,
    /// It failed, and will be tried again.
    Failed,
    Yes,
}

impl Replicas {
    pub(super) fn new(meta: Meta, namespaces: Arc<Namespaces>) -> Self {
        let (heard, lessons) = (Mutex::default(), Lessons::default());
        Self { meta, namespaces, heard, lessons, begun: watch::Sender::new(Begun::Not) }
    }

    /// Tells all others that these answers are wrong.
    ///
    /// # Errors
    /// The store's: then nobody was told.
    pub(super) async fn tell(
        &self,
        tenant: &str,
        model: &str,
        answers: &[EntryId],
    ) -> Result<(), StoreFault> {
        let Some(first) = answers.first() else { return Ok(()) };
        let marked =
            Marked { tenant: tenant.into(), model: model.into(), answers: answers.to_vec() };
        let id = write(&self.meta, MARKS, &first.to_string(), &marked, MARK_LIFE_MS).await?;
        self.heard.lock().await.insert(id);
        Ok(())
    }

    /// Takes over the marks of others since the last look, and says which answers and keys of theirs
    /// this replica knows to say what was marked: none of them may be served any more.
    ///
    /// # Errors
    /// The store's; what was taken over before it stays so.
    pub(super) async fn hear(&self) -> Result<Vec<Barred>, StoreFault> {
        let barred = self.marks().await;
        self.begun.send_if_modified(|begun| {
            let before = *begun;
            match (&barred, before) {
                (Ok(_), _) => *begun = Begun::Yes,
                (Err(_), Begun::Not) => *begun = Begun::Failed,
                (Err(_), Begun::Failed | Begun::Yes) => {}
            }
            *begun != before
        });
        barred
    }

    /// Waits for the first look at the marks of others, without which nothing may be served by
    /// meaning.
    ///
    /// # Errors
    /// It failed.
    pub(super) async fn begun(&self) -> Result<(), StoreFault> {
        let mut begun = self.begun.subscribe();
        match begun.wait_for(|begun| *begun != Begun::Not).await.map(|begun| *begun) {
            Ok(Begun::Yes) => Ok(()),
            Ok(Begun::Not | Begun::Failed) | Err(_) => {
                Err(StoreFault::Unavailable("the marks of others are not known yet".into()))
            }
        }
    }

    async fn marks(&self) -> Result<Vec<Barred>, StoreFault> {
        let mut heard = self.heard.lock().await;
        let mut barred = Vec::new();
        for id in self.meta.ids(MARKS).await? {
            if heard.contains(&id) {
                continue;
            }
            // Named but not readable yet: the next look will find it.
            let Some(shared) = self.meta.by_id(id).await? else { continue };
            heard.insert(id);
            let Some(marked) = read::<Marked>(&shared) else { continue };
            let namespace = self.namespaces.of(&marked.tenant, &marked.model);
            let mut space = namespace.lock();
            let kin = super::feedback::barred(&mut space, &marked.answers);
            barred.extend(kin.into_iter().map(|answer| Barred {
                answer,
                told: marked.answers.contains(&answer),
                marked_ms: shared.written_ms,
            }));
        }
        Ok(barred)
    }

    /// Takes over what others know of namespaces that are unknown here.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn begin(&self) -> Result<(), StoreFault> {
        for id in self.meta.ids(LEARNED).await? {
            let Some(shared) = self.meta.by_id(id).await? else { continue };
            let Some(learned) = read::<Learned>(&shared) else { continue };
            self.namespaces.adopt(&shared.name, &learned.snapshot);
        }
        Ok(())
    }

    /// Leaves what is known here for those that begin later, where it rests on no fewer labels than
    /// what the store has.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn publish(&self) -> Result<(), StoreFault> {
        for (name, labels, snapshot) in self.namespaces.snapshots() {
            if labels == 0.0 || snapshot.len() > LEARNED_BYTES_MAX {
                continue;
            }
            let known = self.meta.get(LEARNED, &name).await?;
            let known = known.as_ref().and_then(read::<Learned>);
            if known.is_none_or(|known| known.labels <= labels) {
                write(&self.meta, LEARNED, &name, &Learned { labels, snapshot }, LEARNED_LIFE_MS)
                    .await?;
            }
        }
        Ok(())
    }

    /// Others are to hear soon what was taught here.
    pub(super) fn teach(&self, tenant: &str, model: &str, lessons: Vec<Lesson>) {
        self.lessons.note(tenant, model, lessons);
    }

    /// Tells others what was taught here since the last time, and takes over what they were taught.
    ///
    /// # Errors
    /// The store's; what was not told is told the next time.
    pub(super) async fn exchange(&self) -> Result<(), StoreFault> {
        self.lessons.hear(&self.meta, &self.namespaces).await?;
        self.tell_lessons().await
    }

    /// Tells others what was taught here since the last time.
    ///
    /// # Errors
    /// The store's; what was not told is told the next time.
    pub(super) async fn tell_lessons(&self) -> Result<(), StoreFault> {
        self.lessons.tell(&self.meta).await
    }
}

async fn write<T: Serialize>(
    meta: &Meta,
    kind: &str,
    name: &str,
    value: &T,
    life_ms: u64,
) -> Result<EntryId, StoreFault> {
    let value = serde_json::to_vec(value)
        .map_err(|error| StoreFault::Failed(format!("cannot be shared: {error}")))?;
    let now = now_ms();
    let shared = Shared { name: name.into(), written_ms: now, value: value.into() };
    meta.set(kind, shared, now + life_ms).await
}

/// What a later version wrote may not be understood, and is left alone.
fn read<'a, T: Deserialize<'a>>(shared: &'a Shared) -> Option<T> {
    let read = serde_json::from_slice(&shared.value);
    read.inspect_err(|error| tracing::debug!(%error, name = %shared.name, "not understood")).ok()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use futures_util::FutureExt as _;

    use super::*;
    use crate::{
        cache::verdict::{AnswerId, Label},
        config::{self, Overrides},
        embed::Identity,
        store::{
            collection::Collection,
            embedded::{Embedded, EmbeddedOptions},
            qdrant::{Qdrant, QdrantOptions},
            remote::{Address, Limits, Shield},
        },
    };

    fn meta(folder: &tempfile::TempDir) -> Meta {
        let identity = Identity {
            name: "meta".into(),
            digest: "0123456789abcdef".into(),
            dimension: 4,
            window_tokens: 1,
        };
        let options = EmbeddedOptions {
            path: folder.path().to_owned(),
            identity,
            queue: 16,
            compact_after: 1000,
            max_bytes: 1 << 30,
            quantization: crate::store::Quantization::None,
        };
        Meta::new(Arc::new(Embedded::open(options).unwrap()))
    }

    fn unreachable() -> Meta {
        let address = Address {
            url: "http://127.0.0.1:1".into(),
            api_key: None,
            connect_timeout: Duration::from_secs(1),
        };
        let options = QdrantOptions {
            shards: 1,
            replicas: 1,
            write_consistency: 1,
            quantization: crate::store::Quantization::None,
        };
        let table = Qdrant::new(&address, Collection::meta("reprise"), options).unwrap();
        let limits = Limits { lookup: Duration::from_secs(1), in_flight: 4 };
        Meta::new(Arc::new(Shield::new(table, limits, None)))
    }

    fn replica(meta: &Meta) -> Replicas {
        let overrides =
            Overrides { upstream: Some("http://127.0.0.1:1".into()), ..Default::default() };
        let config = config::load(None, &BTreeMap::new(), &overrides).unwrap();
        let namespaces = Namespaces::open(&config.cache.semantic, "all-MiniLM-L6-v2", 0, None);
        Replicas::new(meta.clone(), Arc::new(namespaces))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_mark_is_heard_by_all_and_by_who_comes_later() {
        let folder = tempfile::tempdir().unwrap();
        let meta = meta(&folder);
        let (one, two) = (replica(&meta), replica(&meta));
        two.hear().await.unwrap();
        one.tell("t", "m", &[EntryId(7), EntryId(8)]).await.unwrap();
        let later = replica(&meta);
        for other in [&two, &later] {
            other.hear().await.unwrap();
            let barred = |tenant: &str, answer| {
                other.namespaces.of(tenant, "m").lock().is_quarantined(AnswerId(answer))
            };
            assert!(barred("t", 7) && barred("t", 8));
            assert!(!barred("t", 9) && !barred("u", 7));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_begins_waits_for_the_marks_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let meta = meta(&folder);
        let one = replica(&meta);
        assert!(one.begun().now_or_never().is_none(), "the first look is not over");
        one.hear().await.unwrap();
        assert_eq!(one.begun().now_or_never(), Some(Ok(())));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_begins_knows_what_the_others_learned_and_who_knows_less_does_not_overwrite() {
        let folder = tempfile::tempdir().unwrap();
        let meta = meta(&folder);
        let teach = |replica: &Replicas, labels: u128| {
            let namespace = replica.namespaces.of("t", "m");
            let mut space = namespace.lock();
            (0..labels).for_each(|answer| space.reject(AnswerId(answer)));
        };
        let level = |replica: &Replicas| replica.namespaces.snapshots()[0].1;
        let (one, two) = (replica(&meta), replica(&meta));
        teach(&one, 20);
        one.publish().await.unwrap();
        teach(&two, 3);
        two.publish().await.unwrap();
        two.begin().await.unwrap();
        assert_eq!(level(&two), 3.0, "what is known here stays");
        let three = replica(&meta);
        three.begin().await.unwrap();
        assert_eq!(level(&three), 20.0);
        assert!(three.namespaces.of("t", "m").lock().is_quarantined(AnswerId(19)));
    }

    /// Teaches a replica that its answers are right, as often as said, and has it tell the others.
    async fn lesson(replica: &Replicas, labels: u128) {
        let label = |answer| {
            Lesson::Label(Label {
                family: AnswerId(answer),
                feature: 1.2,
                similarity: 0.95,
                alpha: 0.99,
                unbiased: true,
                teaches: true,
                right: true,
            })
        };
        let lessons: Vec<_> = (0..labels).map(label).collect();
        let namespace = replica.namespaces.of("t", "m");
        lessons.iter().for_each(|lesson| namespace.lock().take_over(lesson));
        replica.teach("t", "m", lessons);
        replica.exchange().await.unwrap();
    }

    fn labels(replica: &Replicas) -> f64 {
        replica.namespaces.of("t", "m").lock().labels()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_label_counts_once_at_every_replica() {
        let folder = tempfile::tempdir().unwrap();
        let meta = meta(&folder);
        let (one, two) = (replica(&meta), replica(&meta));
        for replica in [&one, &two] {
            replica.exchange().await.unwrap();
        }
        lesson(&one, 5).await;
        lesson(&two, 3).await;
        for replica in [&one, &two, &one, &two] {
            replica.exchange().await.unwrap();
        }
        assert_eq!((labels(&one), labels(&two)), (8.0, 8.0));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_begins_counts_no_label_twice_that_is_in_what_it_takes_over() {
        let folder = tempfile::tempdir().unwrap();
        let meta = meta(&folder);
        let one = replica(&meta);
        one.exchange().await.unwrap();
        lesson(&one, 5).await;
        one.publish().await.unwrap();
        let two = replica(&meta);
        two.begin().await.unwrap();
        two.exchange().await.unwrap();
        lesson(&one, 2).await;
        two.exchange().await.unwrap();
        assert_eq!((labels(&one), labels(&two)), (7.0, 7.0));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_could_not_be_told_is_told_once_the_store_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let meta = meta(&folder);
        let (one, two) = (replica(&meta), replica(&meta));
        two.exchange().await.unwrap();
        let lessons = vec![Lesson::Kin { elder: AnswerId(1), younger: AnswerId(2) }];
        one.teach("t", "m", lessons);
        one.lessons.tell(&unreachable()).await.unwrap_err();
        one.exchange().await.unwrap();
        two.exchange().await.unwrap();
        assert_eq!(two.namespaces.of("t", "m").lock().kin(AnswerId(1)).len(), 2);
    }
}
