use futures_util::FutureExt as _;
use parking_lot::Mutex;

use super::*;

/// How a scripted store answers.
#[derive(Clone, Debug, PartialEq)]
enum Mood {
    Well,
    Silent,
    /// After half of what a lookup may take.
    Slow,
    Fails(StoreFault),
    /// Reads only.
    Full,
}

struct Scripted {
    mood: Arc<Mutex<Mood>>,
    asked: Arc<AtomicUsize>,
}

impl Scripted {
    async fn answer<T: Default>(&self) -> Result<T, StoreFault> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mood = self.mood.lock().clone();
        match mood {
            Mood::Well | Mood::Full => Ok(T::default()),
            Mood::Silent => std::future::pending().await,
            Mood::Slow => {
                tokio::time::sleep(LOOKUP / 2).await;
                Ok(T::default())
            }
            Mood::Fails(fault) => Err(fault),
        }
    }
}

impl Remote for Scripted {
    fn prepare(&self) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(self.answer())
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(self.answer())
    }
}

impl VectorStore for Scripted {
    fn get(&self, _: EntryId) -> BoxFuture<'_, Result<Option<Record>, StoreFault>> {
        Box::pin(self.answer())
    }

    fn nearest(
        &self,
        _: Arc<str>,
        _: Vector,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<Neighbour>, StoreFault>> {
        Box::pin(self.answer())
    }

    fn put(&self, _: Vec<Record>) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(async move {
            if *self.mood.lock() == Mood::Full {
                return Err(StoreFault::Full("disk".into()));
            }
            self.answer().await
        })
    }

    fn count(&self, _: Selector) -> BoxFuture<'_, Result<u64, StoreFault>> {
        Box::pin(self.answer())
    }

    fn delete(&self, _: Selector) -> BoxFuture<'_, Result<u64, StoreFault>> {
        Box::pin(self.answer())
    }

    fn holdings(&self, _: Selector) -> BoxFuture<'_, Result<Vec<Holding>, StoreFault>> {
        Box::pin(self.answer())
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(self.answer())
    }

    fn report(&self) -> StoreReport {
        StoreReport::default()
    }
}

const LOOKUP: Duration = Duration::from_millis(200);

struct Rig {
    shield: Shield<Scripted>,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<AtomicUsize>,
}

fn rig(mood: Mood) -> Rig {
    let (mood, asked) = (Arc::new(Mutex::new(mood)), Arc::new(AtomicUsize::new(0)));
    let inner = Scripted { mood: mood.clone(), asked: asked.clone() };
    let limits = Limits { lookup: LOOKUP, in_flight: 2 };
    Rig { shield: Shield::new(inner, limits, None), mood, asked }
}

async fn get(shield: &Shield<Scripted>) -> Result<Option<Record>, StoreFault> {
    shield.get(EntryId(1)).await
}

#[tokio::test(start_paused = true)]
async fn a_silent_store_costs_one_deadline_then_nothing_and_comes_back() {
    let rig = rig(Mood::Well);
    assert!(rig.shield.ready(Duration::from_secs(1)).await);
    assert_eq!(get(&rig.shield).await, Ok(None));

    *rig.mood.lock() = Mood::Silent;
    let begun = tokio::time::Instant::now();
    assert!(matches!(get(&rig.shield).await, Err(StoreFault::Unavailable(_))));
    assert_eq!(begun.elapsed(), LOOKUP);
    for _ in 0..1_000 {
        assert_eq!(get(&rig.shield).await, Err(StoreFault::Busy));
    }
    assert_eq!(begun.elapsed(), LOOKUP);
    assert!(rig.shield.report().trouble.is_some());

    *rig.mood.lock() = Mood::Well;
    assert!(rig.shield.ready(Duration::from_secs(5)).await);
    assert_eq!(get(&rig.shield).await, Ok(None));
    assert_eq!(rig.shield.report().trouble, None);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_given_up_by_its_caller_closes_the_store_too() {
    let rig = rig(Mood::Well);
    assert!(rig.shield.ready(Duration::from_secs(1)).await);
    *rig.mood.lock() = Mood::Silent;
    assert!(timeout(Duration::from_millis(50), get(&rig.shield)).await.is_err());
    assert_eq!(get(&rig.shield).await, Err(StoreFault::Busy));
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_hardly_began_says_nothing_of_the_store() {
    let rig = rig(Mood::Well);
    assert!(rig.shield.ready(Duration::from_secs(1)).await);
    *rig.mood.lock() = Mood::Silent;
    assert!(timeout(Duration::from_millis(5), get(&rig.shield)).await.is_err());
    *rig.mood.lock() = Mood::Well;
    assert_eq!(get(&rig.shield).await, Ok(None));
}

/// Slower than requests wait, faster than its own probe: it would be asked again at once, for ever.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_always_too_slow_for_requests_costs_ever_fewer_of_them() {
    let rig = rig(Mood::Slow);
    assert!(rig.shield.ready(Duration::from_secs(1)).await);
    let (begun, mut paid) = (tokio::time::Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(60) {
        let asked = timeout(Duration::from_millis(50), get(&rig.shield)).await;
        paid += usize::from(asked.is_err());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!((20..40).contains(&paid), "{paid}");

    *rig.mood.lock() = Mood::Well;
    assert!(rig.shield.ready(Duration::from_secs(3)).await);
    assert_eq!(get(&rig.shield).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answered_is_never_a_request_s_trouble() {
    let rig = rig(Mood::Fails(StoreFault::Failed("schema".into())));
    assert!(!rig.shield.ready(Duration::from_secs(10)).await);
    let asked = rig.asked.load(Ordering::Relaxed);
    // Asked by its watch alone, ever more rarely.
    assert!((4..20).contains(&asked), "{asked}");
    assert_eq!(get(&rig.shield).await, Err(StoreFault::Busy));
    assert_eq!(rig.asked.load(Ordering::Relaxed), asked);
    assert!(rig.shield.report().trouble.unwrap().contains("schema"));
}

#[tokio::test(start_paused = true)]
async fn a_full_store_is_still_read() {
    let rig = rig(Mood::Full);
    assert!(rig.shield.ready(Duration::from_secs(1)).await);
    assert!(matches!(rig.shield.put(vec![]).await, Err(StoreFault::Full(_))));
    assert!(rig.shield.report().trouble.unwrap().contains("full"));
    assert_eq!(get(&rig.shield).await, Ok(None));
    *rig.mood.lock() = Mood::Well;
    assert_eq!(rig.shield.put(vec![]).await, Ok(()));
    assert_eq!(rig.shield.report().trouble, None);
}

#[tokio::test(start_paused = true)]
async fn no_more_lookups_at_a_time_than_allowed() {
    let rig = rig(Mood::Well);
    assert!(rig.shield.ready(Duration::from_secs(1)).await);
    *rig.mood.lock() = Mood::Silent;
    let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(get(&rig.shield))).collect();
    for one in &mut waiting {
        assert!(one.as_mut().now_or_never().is_none());
    }
    assert_eq!(get(&rig.shield).await, Err(StoreFault::Busy));
    waiting.clear();
    *rig.mood.lock() = Mood::Well;
    assert_eq!(get(&rig.shield).await, Ok(None));
}
