//! Answers larger than what a store takes.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use reprise::{
    embed::{Embedder as _, Vector},
    store::{
        EntryId, Holding, Neighbour, Record, Selector, StoreFault, StoreReport, VectorStore,
        embedded::{Embedded, EmbeddedOptions},
    },
};

use crate::{
    client::Ask,
    origin::{Origin, Reply},
    proxy::{Setup, eventually},
    talk,
    words::Words,
};

/// A store whose messages are small.
struct Narrow(Embedded);

impl VectorStore for Narrow {
    fn get(&self, id: EntryId) -> BoxFuture<'_, Result<Option<Record>, StoreFault>> {
        self.0.get(id)
    }

    fn nearest(
        &self,
        partition: Arc<str>,
        vector: Vector,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Neighbour>, StoreFault>> {
        self.0.nearest(partition, vector, limit)
    }

    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<(), StoreFault>> {
        self.0.put(records)
    }

    fn count(&self, selector: Selector) -> BoxFuture<'_, Result<u64, StoreFault>> {
        self.0.count(selector)
    }

    fn delete(&self, selector: Selector) -> BoxFuture<'_, Result<u64, StoreFault>> {
        self.0.delete(selector)
    }

    fn holdings(&self, selector: Selector) -> BoxFuture<'_, Result<Vec<Holding>, StoreFault>> {
        self.0.holdings(selector)
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), StoreFault>> {
        self.0.flush()
    }

    fn report(&self) -> StoreReport {
        self.0.report()
    }

    fn payload_max_bytes(&self) -> usize {
        1000
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_the_store_stays_in_memory_and_its_neighbours_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let words = Words::new();
    let options = EmbeddedOptions {
        path: folder.path().to_owned(),
        identity: words.identity().clone(),
        queue: 64,
        compact_after: 1000,
        max_bytes: 1 << 30,
        quantization: reprise::store::Quantization::None,
    };
    let store = tokio::task::spawn_blocking(|| Embedded::open(options)).await.unwrap().unwrap();
    // Does not compress below what the store takes.
    let noise = |n: u64| format!("{:x} ", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let long: String = (1..400).map(noise).collect();
    let origin = Origin::start(move |seen, call| match call {
        0 => Reply::json(talk::whole(&long, "stop")),
        _ => talk::model(seen, call),
    })
    .await;
    let proxy = Setup::new(&origin).keeping(Arc::new(Narrow(store)), &words).open().await;
    assert_eq!(proxy.send(&Ask::chat("long")).await.x_cache(), "MISS");
    assert_eq!(proxy.send(&Ask::chat("short")).await.x_cache(), "MISS");
    eventually("the short one is written", || proxy.house().cache.writes().written == 1).await;
    let writes = proxy.house().cache.writes();
    assert_eq!((writes.too_large, writes.failed, writes.dropped), (1, 0, 0), "{writes:?}");
    assert_eq!(proxy.house().cache.store().unwrap().report().records, 1);
    for question in ["long", "short"] {
        assert_eq!(proxy.send(&Ask::chat(question)).await.x_cache(), "HIT");
    }
    assert_eq!(origin.calls(), 2);
    proxy.stop().await;
}
