//! The embedded store against real files, real threads and real deaths.

use std::{
    io::{BufRead, BufReader, Write as _},
    path::Path,
    pin::Pin,
    process::{Child, Command, Stdio},
    task::{Context, Poll, Waker},
};

use super::*;
use crate::store::contract::{self, DIMENSION, assert_stored, at_cosine, record, unit_vector};

fn options(path: &Path) -> EmbeddedOptions {
    let identity = Identity {
        name: "test".into(),
        digest: "0123456789abcdef".into(),
        dimension: DIMENSION,
        window_tokens: 256,
    };
    EmbeddedOptions {
        path: path.to_owned(),
        identity,
        queue: 1024,
        compact_after: 10_000,
        max_bytes: 1 << 40,
        quantization: Quantization::None,
    }
}

fn open(path: &Path) -> Embedded {
    Embedded::open(options(path)).unwrap()
}

/// Flushes all the time and builds graphs over a few dozen vectors.
fn open_restless(path: &Path, compact_after: usize) -> Embedded {
    open_restless_with(path, compact_after, Quantization::None)
}

fn open_restless_with(path: &Path, compact_after: usize, quantization: Quantization) -> Embedded {
    let habits = Habits {
        flush_every: Duration::from_millis(5),
        journal_max_bytes: 64 << 10,
        compact_after,
        max_bytes: u64::MAX,
    };
    let layout = Layout { dimension: DIMENSION, index_above_kib: 100, quantization };
    loop {
        match Embedded::open_with(&options(path), layout, habits) {
            // The one before was dropped in the middle of an optimization, which holds on to it.
            Err(OpenError::Locked(_)) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

fn collection(path: &Path) -> PathBuf {
    path.join("v1-test-0123456789abcdef-384")
}

/// Starts `future` without waiting for it.
fn start<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Poll<T> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract::check(async || open(dir.path())).await;
}

#[tokio::test]
async fn it_keeps_the_contract_while_it_flushes_and_optimizes_all_the_time() {
    let dir = tempfile::tempdir().unwrap();
    contract::check(async || open_restless(dir.path(), 50)).await;
}

#[tokio::test]
async fn it_keeps_the_contract_with_quantized_candidates() {
    for quantization in [Quantization::Int8, Quantization::Binary] {
        let dir = tempfile::tempdir().unwrap();
        contract::check(async || open_restless_with(dir.path(), 50, quantization)).await;
    }
}

#[tokio::test]
async fn int8_candidates_lead_to_the_neighbours_of_an_exact_search() {
    let recall = recall_at_8(Quantization::Int8).await;
    assert!(recall >= 0.98, "{recall}");
}

/// 384 numbers without any pattern are the worst that signs can be asked to tell apart.
#[tokio::test]
async fn binary_candidates_lead_to_most_neighbours_of_an_exact_search() {
    let recall = recall_at_8(Quantization::Binary).await;
    assert!(recall >= 0.9, "{recall}");
}

/// Also over a store that was kept in full until now; similarities stay those of the full vectors.
async fn recall_at_8(quantization: Quantization) -> f64 {
    const ENTRIES: u64 = 1_500;
    const QUESTIONS: u64 = 60;
    const WANTED: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let partition: Arc<str> = "one".into();
    let in_one = |seed| Record { partition: Arc::clone(&partition), ..record(seed) };
    let store = open_restless(dir.path(), usize::MAX);
    store.put((0..ENTRIES).map(in_one).collect()).await.unwrap();
    drop(store);
    let store = open_restless_with(dir.path(), usize::MAX, quantization);
    {
        let _alone = store.shared.maintenance.lock();
        store.shared.read(shards::Shards::optimize).unwrap();
    }
    store.shared.count_unindexed();
    assert!(store.report().unindexed < ENTRIES / 2);

    let mut found = 0;
    for question in 0..QUESTIONS {
        let vector = at_cosine(&unit_vector(question), &unit_vector(!question), 0.8);
        let mut exact: Vec<_> = (0..ENTRIES)
            .map(|seed| (crate::embed::cosine(&vector, &unit_vector(seed)), record(seed).id))
            .collect();
        exact.sort_by(|a, b| b.0.total_cmp(&a.0));
        let near = store.nearest(Arc::clone(&partition), vector, WANTED).await.unwrap();
        for neighbour in near {
            let (cosine, _) = exact.iter().find(|(_, id)| *id == neighbour.id).unwrap();
            assert!((neighbour.similarity - cosine).abs() < 1e-5, "{neighbour:?}");
            found += usize::from(exact[..WANTED].iter().any(|(_, id)| *id == neighbour.id));
        }
    }
    found as f64 / (QUESTIONS as usize * WANTED) as f64
}

#[tokio::test]
async fn another_embedder_gets_a_collection_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put(vec![record(1)]).await.unwrap();
    let mut other = options(dir.path());
    other.identity.digest = "fedcba9876543210".into();
    let other = Embedded::open(other).unwrap();
    assert_eq!(other.get(record(1).id).await, Ok(None));
    drop((store, other));
    assert!(open(dir.path()).get(record(1).id).await.unwrap().is_some());
}

#[tokio::test]
async fn two_cannot_have_one_store_and_closing_hands_it_on() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let second = Embedded::open(options(dir.path()));
    assert!(matches!(second, Err(OpenError::Locked(_))));
    drop(first);
    open(dir.path());
}

#[tokio::test]
async fn a_corrupt_segment_is_set_aside_and_a_fresh_store_serves() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put(vec![record(1)]).await.unwrap();
    assert_eq!(store.report().trouble, None);
    drop(store);
    let segments = std::fs::read_dir(collection(dir.path()).join("near/segments")).unwrap();
    for segment in segments {
        std::fs::write(segment.unwrap().path().join("segment.json"), b"{ not a segment").unwrap();
    }

    let store = open(dir.path());
    assert_eq!(store.get(record(1).id).await, Ok(None));
    store.put(vec![record(2)]).await.unwrap();
    assert_stored(&store, &record(2)).await;
    let trouble = store.report().trouble.unwrap();
    assert!(trouble.contains("set aside"), "{trouble}");
    let names = std::fs::read_dir(dir.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.contains(".corrupt-")).count(), 1);
}

#[tokio::test]
async fn bytes_behind_the_journals_last_frame_cost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put(vec![record(1)]).await.unwrap();
    drop(store);
    std::fs::write(collection(dir.path()).join("journal"), b"half a frame").unwrap();
    let store = open(dir.path());
    assert_stored(&store, &record(1)).await;
    assert_eq!(store.report().trouble, None);
}

#[tokio::test]
async fn a_full_queue_is_busy_at_once_and_what_was_accepted_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(EmbeddedOptions { queue: 1, ..options(dir.path()) }).unwrap();
    let held = store.shared.shards.write();
    let (mut puts, mut gets) = (Vec::new(), Vec::new());
    for seed in 0.. {
        let mut put = store.put(vec![record(seed)]);
        match start(&mut put) {
            Poll::Pending => puts.push(put),
            Poll::Ready(result) => {
                assert_eq!(result, Err(StoreFault::Busy));
                break;
            }
        }
    }
    loop {
        let mut get = store.get(EntryId(7));
        match start(&mut get) {
            Poll::Pending => gets.push(get),
            Poll::Ready(result) => {
                assert_eq!(result, Err(StoreFault::Busy));
                break;
            }
        }
    }
    drop(held);
    let written = puts.len() as u64;
    for put in puts {
        assert_eq!(put.await, Ok(()));
    }
    for get in gets {
        assert_eq!(get.await, Ok(None));
    }
    assert_eq!(store.count(Selector::All).await, Ok(written));
}

#[tokio::test]
async fn waiting_records_may_take_only_so_much_memory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let held = store.shared.shards.write();
    let large = |seed| Record { payload: vec![0; 30 << 20].into(), ..record(seed) };
    // A deletion does not collect puts behind it: they stay in the queue.
    let mut first = store.delete(Selector::All);
    assert!(start(&mut first).is_pending());
    let mut puts: Vec<_> = (0..3).map(|seed| store.put(vec![large(seed)])).collect();
    assert!(start(&mut puts[0]).is_pending());
    assert!(start(&mut puts[1]).is_pending());
    assert_eq!(start(&mut puts[2]), Poll::Ready(Err(StoreFault::Busy)));
    // Given up while it waits: neither written nor counted any more.
    drop(puts);
    drop(held);
    assert_eq!(first.await, Ok(0));
    assert_eq!(store.flush().await, Ok(()));
    assert_eq!(store.count(Selector::All).await, Ok(0));
    store.put(vec![large(4)]).await.unwrap();
}

#[tokio::test]
async fn wrong_vectors_are_refused_before_they_touch_anything() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let short = Record { vector: Some([1.0; 3].into()), ..record(1) };
    let mut infinite = unit_vector(1).to_vec();
    infinite[5] = f32::NAN;
    let infinite = Record { vector: Some(infinite.into()), ..record(1) };
    for wrong in [short, infinite] {
        let vector = wrong.vector.clone().unwrap();
        assert!(matches!(store.put(vec![wrong]).await, Err(StoreFault::Failed(_))));
        let nearest = store.nearest("p".into(), vector, 1).await;
        assert!(matches!(nearest, Err(StoreFault::Failed(_))));
    }
    assert_eq!(store.put(vec![record(1)]).await, Ok(()));
}

#[tokio::test]
async fn shards_that_keep_failing_are_opened_again_with_all_that_was_put() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_restless(dir.path(), usize::MAX);
    store.put((0..50).map(record).collect()).await.unwrap();
    let lost = store.shared.shards.write().take().unwrap();
    lost.close();
    let mut failures = 0;
    let recovered = loop {
        match store.get(record(7).id).await {
            Ok(found) => break found,
            Err(fault) => {
                assert!(matches!(fault, StoreFault::Unavailable(_)), "{fault}");
                failures += 1;
                // Lets the writer look around.
                store.flush().await.ok();
            }
        }
    };
    assert!(failures >= 1);
    assert!(recovered.is_some());
    for seed in 0..50 {
        assert_stored(&store, &record(seed)).await;
    }
    assert_eq!(store.put(vec![record(60)]).await, Ok(()));
    assert_eq!(store.count(Selector::All).await, Ok(51));
}

#[tokio::test]
async fn lookups_are_right_while_the_store_is_optimized() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_restless(dir.path(), 500);
    let partition: Arc<str> = "one".into();
    let in_one = |seed| Record {
        partition: Arc::clone(&partition),
        // Each hundredth is only found by id.
        vector: (seed % 100 != 99).then(|| unit_vector(seed)),
        ..record(seed)
    };
    let finds = async |seed: u64, limit| {
        let nearest =
            store.nearest(Arc::clone(&partition), unit_vector(seed), limit).await.unwrap();
        assert_eq!(nearest.len(), limit);
        assert_eq!(nearest[0].id == record(seed).id, seed % 100 != 99, "{seed}");
    };
    let compactions = || store.shared.compactions.load(std::sync::atomic::Ordering::Relaxed);
    let (mut next, mut during) = (0, 0);
    while compactions() < 2 || during == 0 {
        // More would only make the optimizations longer.
        if next < 2_000 {
            store.put((next..next + 50).map(in_one).collect()).await.unwrap();
            next += 50;
        }
        during += usize::from(store.shared.maintenance.is_locked());
        for seed in [next - 1, next - 2, next / 2, 0] {
            finds(seed, 3).await;
        }
        assert_eq!(store.count(Selector::All).await, Ok(next));
    }
    assert!(store.shared.shards.read().as_ref().unwrap().unindexed() < next);
    for seed in (0..next).step_by(11) {
        finds(seed, 1).await;
    }
    let elsewhere = store.nearest("two".into(), unit_vector(0), 5).await;
    assert_eq!(elsewhere, Ok(vec![]));
}

#[tokio::test]
async fn over_the_quota_the_oldest_go_and_writing_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let habits = Habits {
        flush_every: Duration::from_millis(100),
        journal_max_bytes: 8 << 20,
        compact_after: usize::MAX,
        max_bytes: 64 << 20,
    };
    let layout = Layout::new(DIMENSION, Quantization::None);
    let store = Embedded::open_with(&options(dir.path()), layout, habits).unwrap();
    let large = |seed: u64| {
        let noise = unit_vector(seed);
        let noise = noise.iter().flat_map(|number| number.to_le_bytes());
        let payload = noise.cycle().take(128 << 10).collect::<Vec<_>>();
        // No two bytes in a row repeat at a distance that LZ4 sees.
        let payload = payload.iter().enumerate().map(|(index, byte)| byte ^ (index >> 7) as u8);
        Record { payload: payload.collect::<Vec<_>>().into(), ..record(seed) }
    };
    let (mut seed, mut full, mut after) = (0, 0, 0);
    while after < 20 {
        match store.put(vec![large(seed)]).await {
            Ok(()) => {
                seed += 1;
                after += u64::from(full > 0);
            }
            Err(fault) => {
                assert!(matches!(fault, StoreFault::Full(_)), "{fault}");
                assert!(store.report().trouble.is_some());
                assert!(store.get(large(seed - 1).id).await.unwrap().is_some());
                full += 1;
                // Not to be right, but to leave the processor to the vacuum.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    assert_eq!(store.report().trouble, None);
    assert_eq!(store.get(large(0).id).await, Ok(None));
    assert_stored(&store, &large(seed - 1)).await;
}

/// The child of the next test: writes and deletes until it is killed, and says what was acknowledged.
#[tokio::test]
async fn writer_that_gets_killed() {
    let (Ok(path), Ok(round)) = (std::env::var(CHILD_PATH), std::env::var(CHILD_ROUND)) else {
        return;
    };
    let round: u64 = round.parse().unwrap();
    let store = open_restless(Path::new(&path), 60);
    let mut said = std::io::stdout().lock();
    for index in 0.. {
        let seed = round * 1_000_000 + index * 2;
        store.put(vec![record(seed), record(seed + 1)]).await.unwrap();
        writeln!(said, "\nput {seed}").unwrap();
        if index % 7 == 6 {
            store.delete(Selector::Answer(record(seed - 4).id)).await.unwrap();
            writeln!(said, "\ngone {}", seed - 4).unwrap();
        }
    }
}

const CHILD_PATH: &str = "REPRISE_TEST_STORE_PATH";
const CHILD_ROUND: &str = "REPRISE_TEST_STORE_ROUND";

#[tokio::test]
async fn what_was_acknowledged_survives_being_killed_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let (mut put, mut gone) = (Vec::new(), Vec::new());
    // How many acknowledgements the killer waits for: short and long lives, over the same files.
    for (round, acknowledged) in lives().into_iter().enumerate() {
        let mut child = spawn_writer(dir.path(), round);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut heard = 0;
        while let Some(Ok(line)) = lines.next() {
            match line.split_once(' ').map(|(what, seed)| (what, seed.parse::<u64>())) {
                Some(("put", Ok(seed))) => put.extend([seed, seed + 1]),
                Some(("gone", Ok(seed))) => gone.push(seed),
                _ => continue,
            }
            heard += 1;
            if heard == acknowledged {
                // SIGKILL; what it had still said by then is read on.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(heard >= acknowledged, "the writer ended by itself after {heard}");
        check_survivors(dir.path(), &put, &gone).await;
    }
}

/// `REPRISE_TEST_KILLS=50` for more of them.
fn lives() -> Vec<usize> {
    match std::env::var("REPRISE_TEST_KILLS") {
        Ok(kills) => {
            (0..kills.parse().unwrap()).map(|kill: usize| 1 + kill * 7_919 % 400).collect()
        }
        Err(_) => vec![3, 40, 1, 250, 17, 400, 90],
    }
}

fn spawn_writer(path: &Path, round: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["store::embedded::tests::writer_that_gets_killed", "--exact", "--nocapture"])
        .env(CHILD_PATH, path)
        .env(CHILD_ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

async fn check_survivors(path: &Path, put: &[u64], gone: &[u64]) {
    let store = open_restless(path, usize::MAX);
    assert_eq!(store.report().trouble, None);
    for seed in put {
        let stored = store.get(record(*seed).id).await.unwrap();
        let nearest = store.nearest(record(*seed).partition, unit_vector(*seed), 2).await.unwrap();
        let nearest: Vec<_> = nearest.iter().map(|near| near.id).collect();
        if gone.contains(seed) {
            assert_eq!((stored, nearest), (None, vec![]), "{seed} came back");
        } else {
            // A deletion may have been done but not acknowledged: only the last even seed of a life.
            let Some(stored) = stored else {
                assert!(unacknowledged_deletion(*seed, put, gone), "{seed} is lost");
                continue;
            };
            assert_eq!(nearest, [stored.id]);
            assert_stored(&store, &record(*seed)).await;
        }
    }
}

/// Whether the child may have died between deleting `seed` and saying so.
fn unacknowledged_deletion(seed: u64, put: &[u64], gone: &[u64]) -> bool {
    let index = (seed % 1_000_000) / 2 + 2;
    let deletes = seed.is_multiple_of(2) && index % 7 == 6;
    deletes && !gone.contains(&seed) && put.contains(&(seed + 5)) && !put.contains(&(seed + 6))
}
