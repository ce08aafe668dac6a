//! What the store costs. Not a check, so it is ignored by default:
//! `REPRISE_MEASURE=10000,100000 cargo test --lib store::embedded::measure -- --ignored --nocapture`.
//!
//! Half of the records share one partition (a busy assistant), the others have one of 4,096
//! partitions (conversations). Payloads are 2 KiB of noise.

use std::time::Instant;

use super::*;
use crate::store::contract::{DIMENSION, record, unit_vector};

const SAMPLES: usize = 1_000;

#[tokio::test]
#[ignore = "takes minutes"]
async fn the_store_by_numbers() {
    let sizes = std::env::var("REPRISE_MEASURE").unwrap_or_else(|_| "10000".into());
    let mut sizes: Vec<u64> = sizes.split(',').map(|size| size.parse().unwrap()).collect();
    sizes.sort_unstable();
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut stored = 0;
    for size in sizes {
        println!("== {size} records");
        let records: Vec<_> = (stored..size).map(sample).collect();
        let started = Instant::now();
        for batch in records.chunks(64) {
            store.put(batch.to_vec()).await.unwrap();
        }
        let each = started.elapsed() / u32::try_from(size - stored).unwrap();
        println!("put, 64 at a time: {each:?} a record");
        drop(records);
        stored = size;
        each_of("put, one at a time", |index| store.put(vec![sample(index)])).await;
        lookups(&store, size, "before optimizing").await;
        store = reopened(store, dir.path(), size);

        let started = Instant::now();
        store.shared.shards.read().as_ref().unwrap().optimize().unwrap();
        println!("optimize: {:?}", started.elapsed());
        lookups(&store, size, "optimized").await;
        store = reopened(store, dir.path(), size);
    }
}

async fn lookups(store: &Embedded, size: u64, when: &str) {
    let name = |what| format!("{what}, {when}");
    let seed = |index: u64| index.wrapping_mul(7_919) % size;
    each_of(&name("get"), |index| store.get(record(seed(index)).id)).await;
    let near = |seed: u64, query: u64| store.nearest(sample(seed).partition, unit_vector(query), 8);
    each_of(&name("nearest, large partition"), |index| near(seed(index) & !1, index)).await;
    each_of(&name("nearest, small partition"), |index| near(seed(index) | 1, index)).await;
}

fn reopened(store: Embedded, path: &std::path::Path, size: u64) -> Embedded {
    let started = Instant::now();
    drop(store);
    let closed = started.elapsed();
    let store = open(path);
    let opened = started.elapsed() - closed;
    let report = store.report();
    let each = report.disk_bytes / size;
    println!("close {closed:?}, open {opened:?}, {} records, {each} bytes each", report.records);
    store
}

async fn each_of<T, F>(what: &str, work: impl Fn(u64) -> F)
where
    F: Future<Output = Result<T, StoreFault>>,
{
    let mut times = Vec::with_capacity(SAMPLES);
    for index in 0..SAMPLES as u64 {
        let job = work(index);
        let started = Instant::now();
        job.await.unwrap();
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let (half, most) = (times[SAMPLES / 2], times[SAMPLES * 99 / 100]);
    println!("{what}: p50 {half:?}, p99 {most:?}");
}

fn sample(seed: u64) -> Record {
    let partition = if seed.is_multiple_of(2) { 0 } else { 1 + seed % 4096 };
    let noise = unit_vector(seed ^ 0xffff);
    let payload: Vec<u8> = noise.iter().cycle().take(512).flat_map(|n| n.to_le_bytes()).collect();
    Record {
        partition: format!("{partition:064x}").into(),
        payload: payload.into(),
        ..record(seed)
    }
}

fn open(path: &std::path::Path) -> Embedded {
    let identity = Identity {
        name: "measured".into(),
        digest: "0".repeat(16),
        dimension: DIMENSION,
        window_tokens: 256,
    };
    Embedded::open(EmbeddedOptions {
        path: path.to_owned(),
        identity,
        queue: 1024,
        compact_after: usize::MAX,
        max_bytes: u64::MAX,
    })
    .unwrap()
}
