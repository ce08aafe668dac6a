//! The vector tier at a size of your choice: `make bench-store ARGS="--entries 1000000 --int8"`.
//!
//! Vectors are made up: points of a random subspace of 32 dimensions with a little noise in all of
//! them, which is about the intrinsic dimension of sentence embeddings. A question is a stored vector
//! turned away to a cosine of 0.9, as a paraphrase would be. Half of the entries share one partition
//! (a busy assistant), the others have one of 4,096 (conversations). Recall is against all vectors of
//! the partition, compared one by one. Searches are timed one at a time while a writer keeps writing.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers")]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use reprise::{
    embed::{Identity, Vector},
    store::{
        EntryId, Quantization, Record, VectorStore,
        collection::Collection,
        embedded::{Embedded, EmbeddedOptions},
        milvus::{Milvus, MilvusOptions},
        qdrant::{Qdrant, QdrantOptions},
        remote::{Address, Limits, Remote, Shield},
    },
};

const DIMENSION: usize = 384;
const SUBSPACE: usize = 32;
const NEIGHBOURS: usize = 8;
const PARTITIONS: u64 = 4096;
/// Seeds of entries that the concurrent writer adds; no question is near them.
const WRITTEN: u64 = 1 << 40;

#[derive(Parser)]
struct Args {
    #[arg(long, default_value_t = 20_000)]
    entries: u64,
    /// Bytes of noise as each entry's answer.
    #[arg(long, default_value_t = 1024)]
    payload: usize,
    /// int8 candidates instead of full vectors.
    #[arg(long)]
    int8: bool,
    /// One bit a number instead.
    #[arg(long, conflicts_with = "int8")]
    binary: bool,
    #[arg(long, default_value_t = 2_000)]
    searches: u64,
    /// Of them compared with an exact search.
    #[arg(long, default_value_t = 200)]
    compared: u64,
    /// Records a second that are written while searches are timed.
    #[arg(long, default_value_t = 200)]
    writes: u32,
    /// `http://...` of a Milvus instead of the embedded store.
    #[arg(long)]
    milvus: Option<String>,
    /// `http://...:6334` of a Qdrant instead of the embedded store.
    #[arg(long)]
    qdrant: Option<String>,
    /// Where the embedded store is made and left; a folder that is removed again by default.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Changes between two optimizations of the embedded store; by default one, when all is there.
    #[arg(long)]
    compact_after: Option<usize>,
    /// Entries below this number are there already: an earlier run was interrupted.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Measure what an earlier run has written.
    #[arg(long)]
    filled: bool,
    /// A server is left alone for so long after writing, to build its graphs.
    #[arg(long, default_value = "0s")]
    settle: humantime::Duration,
    /// The optimization may take so long.
    #[arg(long, default_value = "2h")]
    patience: humantime::Duration,
    /// cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let space = Arc::new(Space::new());
    let temporary = tempfile::tempdir().unwrap();
    let dir = args.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    if !args.filled {
        filled(&args, &space, &dir).await;
        // In a process of its own, as a restart finds it: this one's allocator keeps what writing took.
        let mut measured = std::process::Command::new(std::env::current_exe().unwrap());
        measured.args(std::env::args().skip(1)).arg("--filled");
        if args.dir.is_none() {
            measured.arg("--dir").arg(&dir);
        }
        assert!(measured.status().unwrap().success());
        return;
    }
    let (before, started) = (memory(), Instant::now());
    let store = open(&args, &dir).await;
    if is_embedded(&args) {
        println!("opened in {:.1?}", started.elapsed());
        println!("memory an entry, opened: {}", grown(&args, before));
    }
    recall(&args, &space, store.as_ref()).await;
    searches(&args, &space, &store, "quiet", 0).await;
    searches(&args, &space, &store, "while writing", args.writes).await;
    if is_embedded(&args) {
        println!("memory an entry, searched: {}", grown(&args, before));
    }
}

/// Everything is written and has its place in the graphs.
async fn filled(args: &Args, space: &Space, dir: &std::path::Path) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "{} entries, candidates {:?}, payload {} bytes, load {load}",
        args.entries,
        quantization(args),
        args.payload
    );
    let store = open(args, dir).await;
    let started = Instant::now();
    fill(args, space, store.as_ref()).await;
    println!("written in {:.1?}", started.elapsed());
    if !is_embedded(args) {
        return tokio::time::sleep(*args.settle).await;
    }
    optimized(args, store.as_ref()).await;
    println!("written and indexed in {:.1?}", started.elapsed());
    println!("disk {} bytes an entry", store.report().disk_bytes / args.entries);
}

const fn quantization(args: &Args) -> Quantization {
    match (args.int8, args.binary) {
        (true, _) => Quantization::Int8,
        (_, true) => Quantization::Binary,
        _ => Quantization::None,
    }
}

fn compact_after(args: &Args) -> usize {
    args.compact_after.unwrap_or_else(|| usize::try_from(args.entries).unwrap())
}

const fn is_embedded(args: &Args) -> bool {
    args.milvus.is_none() && args.qdrant.is_none()
}

async fn open(args: &Args, dir: &std::path::Path) -> Arc<dyn VectorStore> {
    let identity = Identity {
        name: "bench".into(),
        digest: "0".repeat(16),
        dimension: DIMENSION,
        window_tokens: 256,
    };
    let quantization = quantization(args);
    let at = |url: &str| Address {
        url: url.to_owned(),
        api_key: None,
        connect_timeout: Duration::from_secs(2),
    };
    let collection = Collection::of(&format!("bench {} {quantization:?}", args.entries), &identity);
    match (&args.milvus, &args.qdrant) {
        (Some(url), _) => {
            let options = MilvusOptions { replicas: 1, shards: 1, quantization };
            shielded(Milvus::new(&at(url), collection, options).unwrap()).await
        }
        (_, Some(url)) => {
            let options =
                QdrantOptions { shards: 1, replicas: 1, write_consistency: 1, quantization };
            shielded(Qdrant::new(&at(url), collection, options).unwrap()).await
        }
        _ => {
            let options = EmbeddedOptions {
                path: dir.to_owned(),
                identity,
                queue: 1024,
                compact_after: compact_after(args),
                max_bytes: u64::MAX,
                quantization,
            };
            let opened = tokio::task::spawn_blocking(|| Embedded::open(options).unwrap()).await;
            Arc::new(opened.unwrap())
        }
    }
}

async fn shielded<R: Remote>(store: R) -> Arc<dyn VectorStore> {
    let limits = Limits { lookup: Duration::from_secs(20), in_flight: 64 };
    let store = Shield::new(store, limits, None);
    assert!(store.ready(Duration::from_secs(120)).await, "{:?}", store.report().trouble);
    Arc::new(store)
}

async fn fill(args: &Args, space: &Space, store: &dyn VectorStore) {
    // A server is waited for at each put.
    let together = if is_embedded(args) { 256 } else { 4096 };
    for from in (args.from..args.entries).step_by(together) {
        let until = (from + together as u64).min(args.entries);
        let records = (from..until).map(|seed| record(space, seed, args.payload)).collect();
        store.put(records).await.unwrap();
    }
    store.flush().await.unwrap();
}

/// Waits for the background's graphs.
async fn optimized(args: &Args, store: &dyn VectorStore) {
    let deadline = Instant::now() + *args.patience;
    // Fewer changes than that do not start another one.
    while store.report().unindexed >= compact_after(args) as u64 {
        assert!(Instant::now() < deadline, "{} are not indexed yet", store.report().unindexed);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn recall(args: &Args, space: &Space, store: &dyn VectorStore) {
    let questions: Vec<_> = (0..args.compared).map(|n| question(space, n, args.entries)).collect();
    let exact = exact(args, space, &questions);
    // Of the large partition, of small ones.
    let (mut found, mut wanted) = ([0; 2], [0; 2]);
    for (question, exact) in questions.iter().zip(exact) {
        let near = store
            .nearest(partition(question.of), question.vector.clone(), NEIGHBOURS)
            .await
            .unwrap();
        let kind = usize::from(partition_number(question.of) != 0);
        wanted[kind] += exact.len();
        found[kind] += near.iter().filter(|near| exact.contains(&near.id)).count();
    }
    let share = |found: usize, wanted: usize| found as f64 / wanted as f64;
    println!(
        "recall@{NEIGHBOURS} {:.4} of {} questions: large partition {:.4}, small ones {:.4}",
        share(found.iter().sum(), wanted.iter().sum()),
        args.compared,
        share(found[0], wanted[0]),
        share(found[1], wanted[1]),
    );
}

/// The true neighbours of each question, by comparing all of its partition.
fn exact(args: &Args, space: &Space, questions: &[Question]) -> Vec<Vec<EntryId>> {
    let mut best = vec![Vec::<(f32, u64)>::new(); questions.len()];
    for seed in 0..args.entries {
        let vector = space.vector(seed);
        for (question, best) in questions.iter().zip(&mut best) {
            if partition_number(question.of) == partition_number(seed) {
                let cosine = reprise::embed::cosine(&question.vector, &vector);
                if best.len() < NEIGHBOURS || cosine > best[NEIGHBOURS - 1].0 {
                    let at = best.partition_point(|(other, _)| *other > cosine);
                    best.insert(at, (cosine, seed));
                    best.truncate(NEIGHBOURS);
                }
            }
        }
    }
    best.iter().map(|best| best.iter().map(|(_, seed)| id(*seed)).collect()).collect()
}

async fn searches(
    args: &Args,
    space: &Arc<Space>,
    store: &Arc<dyn VectorStore>,
    when: &str,
    writes: u32,
) {
    let done = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (space, store, done) = (space.clone(), store.clone(), done.clone());
        let payload = args.payload;
        async move {
            let mut written = 0_u64;
            while writes > 0 && !done.load(Ordering::Relaxed) {
                let next = WRITTEN + written;
                let records = (next..next + 10).map(|seed| record(&space, seed, payload)).collect();
                store.put(records).await.unwrap();
                written += 10;
                tokio::time::sleep(Duration::from_secs(10) / writes).await;
            }
            written
        }
    });
    for (kind, parity) in [("large partition", 0), ("small partitions", 1)] {
        let mut times = Vec::new();
        for number in 0..args.searches {
            let question = question(space, 1_000_000 + number * 2 + parity, args.entries);
            let started = Instant::now();
            store.nearest(partition(question.of), question.vector, NEIGHBOURS).await.unwrap();
            times.push(started.elapsed());
        }
        times.sort_unstable();
        let at = |share: usize| times[times.len() * share / 100];
        println!("search, {when}, {kind}: p50 {:.2?}, p99 {:.2?}", at(50), at(99));
    }
    done.store(true, Ordering::Relaxed);
    let written = writer.await.unwrap();
    if written > 0 {
        println!("  {written} written meanwhile");
    }
}

struct Question {
    of: u64,
    vector: Vector,
}

/// Even numbers ask in the large partition, odd ones in small ones.
fn question(space: &Space, number: u64, entries: u64) -> Question {
    let of = mixed(number) % (entries / 2) * 2 + number % 2;
    let (from, towards) = (space.vector(of), space.vector(!number));
    let along = reprise::embed::cosine(&from, &towards);
    let across: Vec<f32> = towards.iter().zip(from.iter()).map(|(t, f)| t - along * f).collect();
    let across = normalized(across);
    let sine = (1.0_f32 - 0.9 * 0.9).sqrt();
    let vector = from.iter().zip(across.iter()).map(|(f, a)| 0.9 * f + sine * a).collect();
    Question { of, vector: normalized(vector) }
}

fn record(space: &Space, seed: u64, payload: usize) -> Record {
    let mut state = seed;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_add(1);
        mixed(state).to_le_bytes()
    });
    Record {
        id: id(seed),
        answer: id(seed),
        partition: partition(seed),
        tenant: "ab".repeat(16).into(),
        model: "model".into(),
        route: "route".into(),
        tags: vec![],
        question: format!("What would the user with the number {seed} like to know today?").into(),
        vector: Some(space.vector(seed)),
        generated_ms: 1_700_000_000_000 + seed % WRITTEN,
        expires_ms: 4_000_000_000_000,
        payload: noise.flatten().take(payload).collect(),
    }
}

const fn partition_number(seed: u64) -> u64 {
    if seed.is_multiple_of(2) { 0 } else { 1 + seed / 2 % PARTITIONS }
}

fn partition(seed: u64) -> Arc<str> {
    format!("{:064x}", partition_number(seed)).into()
}

/// Spread over all ids, as hashes are.
fn id(seed: u64) -> EntryId {
    EntryId((u128::from(mixed(seed)) << 64) | u128::from(mixed(!seed)))
}

/// The directions that vectors are made of.
struct Space(Vec<[f32; DIMENSION]>);

impl Space {
    fn new() -> Self {
        Self((0..SUBSPACE as u64).map(|axis| normals(u64::MAX / 3 + axis * 7_919)).collect())
    }

    fn vector(&self, seed: u64) -> Vector {
        let weights = normals::<SUBSPACE>(seed);
        let mut vector = normals::<DIMENSION>(seed ^ 0x5eed).map(|number| number * 0.7);
        for (axis, weight) in self.0.iter().zip(weights) {
            for (number, part) in vector.iter_mut().zip(axis) {
                *number += weight * part;
            }
        }
        normalized(vector.to_vec())
    }
}

/// Numbers that are about normal: sums of four uniforms.
fn normals<const N: usize>(seed: u64) -> [f32; N] {
    let mut state = mixed(seed);
    std::array::from_fn(|_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = mixed(state);
        let part = |at: u32| ((bits >> at) & 0xffff) as f32 / 65_536.0;
        (part(0) + part(16) + part(32) + part(48) - 2.0) * 1.732
    })
}

/// SplitMix64's finish.
const fn mixed(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn normalized(vector: Vec<f32>) -> Vector {
    let norm = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    vector.into_iter().map(|number| number / norm).collect()
}

/// What this process has grown by since then, for each entry.
fn grown(args: &Args, (own_before, mapped_before): (u64, u64)) -> String {
    let (own, mapped) = memory();
    let each = |now: u64, before: u64| now.saturating_sub(before) / args.entries;
    let (own, mapped) = (each(own, own_before), each(mapped, mapped_before));
    format!("{own} bytes of its own, {mapped} of mapped files that are resident")
}

/// Bytes of this process: its own and those of mapped files that are in memory.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.unwrap_or(0) << 10
    };
    (of("RssAnon"), of("RssFile"))
}
