//! Against a real server: `scripts/test-milvus` starts one and names it in `REPRISE_TEST_MILVUS`.

use std::time::Duration;

use prost::Message;

use super::{
    calls::{BATCH_BYTES, PAGE},
    client::Told,
    proto::Status,
    *,
};
use crate::{
    embed::Identity,
    store::{
        contract::{self, DIMENSION, record},
        meta::{Meta, Shared},
        remote::{Limits, Shield, batches, latest},
    },
};

/// A server under a test suite on two cores is in no hurry.
const LIMITS: Limits = Limits { lookup: Duration::from_secs(20), in_flight: 64 };

fn server() -> Option<Address> {
    let url = std::env::var("REPRISE_TEST_MILVUS").ok().filter(|url| !url.is_empty())?;
    Some(Address { url, api_key: None, connect_timeout: Duration::from_secs(20) })
}

/// A prefix that no other run uses.
fn prefix(test: &str) -> String {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).unwrap();
    format!("test {test} {:08x}", u32::from_le_bytes(bytes))
}

fn identity(name: &str, dimension: usize) -> Identity {
    Identity { name: name.into(), digest: "0".repeat(16), dimension, window_tokens: 256 }
}

const OPTIONS: MilvusOptions =
    MilvusOptions { replicas: 1, shards: 1, quantization: Quantization::None };

async fn open(address: &Address, collection: Collection) -> Shield<Milvus> {
    let store = Shield::new(Milvus::new(address, collection, OPTIONS).unwrap(), LIMITS, None);
    assert!(store.ready(Duration::from_secs(60)).await, "{:?}", store.report().trouble);
    store
}

async fn removed(address: &Address, collection: &Collection) {
    let client = Client::new(address).unwrap();
    let gone = OfCollection { collection_name: collection.with_underscores(), replica_number: 0 };
    let path = "/milvus.proto.milvus.MilvusService/DropCollection";
    let _: Status = client.call(path, gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn milvus_keeps_the_contract() {
    let Some(address) = server() else { return };
    let collection = Collection::of(&prefix("contract"), &identity("m", DIMENSION));
    contract::check(async || open(&address, collection.clone()).await).await;
    removed(&address, &collection).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes two minutes with Milvus 2.3"]
async fn quantized_milvus_keeps_the_contract() {
    let Some(address) = server() else { return };
    let collection = Collection::of(&prefix("int8"), &identity("m", DIMENSION));
    let options = MilvusOptions { quantization: Quantization::Int8, ..OPTIONS };
    let open = async || {
        let store = Milvus::new(&address, collection.clone(), options).unwrap();
        let store = Shield::new(store, LIMITS, None);
        assert!(store.ready(Duration::from_secs(60)).await, "{:?}", store.report().trouble);
        store
    };
    contract::check(open).await;
    removed(&address, &collection).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_of_another_schema_is_never_asked_and_never_touched() {
    let Some(address) = server() else { return };
    let ours = Collection::of(&prefix("schema"), &identity("m", 8));
    let store = open(&address, ours.clone()).await;
    store.put(vec![Record { vector: None, ..record(1) }]).await.unwrap();
    let mut misled = ours.clone();
    misled.dimension = 16;
    let other = Shield::new(Milvus::new(&address, misled, OPTIONS).unwrap(), LIMITS, None);
    assert!(!other.ready(Duration::from_secs(3)).await);
    let trouble = other.report().trouble.unwrap();
    assert!(trouble.contains("8 numbers, not 16"), "{trouble}");
    assert_eq!(other.get(record(1).id).await, Err(StoreFault::Busy));
    assert_eq!(store.count(Selector::All).await, Ok(1));
    removed(&address, &ours).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_answers_than_a_page_are_all_named_and_all_deleted() {
    let Some(address) = server() else { return };
    let collection = Collection::of(&prefix("pages"), &identity("m", 2));
    let store = open(&address, collection.clone()).await;
    let many = (PAGE + PAGE / 2) as u128;
    let spread = |number: u128| EntryId(number.wrapping_mul(u128::MAX / many));
    let records = (0..many).map(|number| {
        let id = spread(number);
        Record { id, answer: id, vector: None, payload: bytes::Bytes::new(), ..record(1) }
    });
    for batch in records.collect::<Vec<_>>().chunks(2048) {
        store.put(batch.to_vec()).await.unwrap();
    }
    let named = store.answers(Selector::Model("model-1".into())).await.unwrap();
    assert_eq!(named.len() as u128, many);
    assert_eq!(store.delete(Selector::All).await.map(u128::from), Ok(many));
    assert_eq!(store.count(Selector::All).await, Ok(0));
    removed(&address, &collection).await;
}

/// `FlushRequest`.
#[derive(Clone, PartialEq, Message)]
struct Flush {
    #[prost(string, repeated, tag = "3")]
    collection_names: Vec<String>,
}

/// `FlushResponse`.
#[derive(Clone, PartialEq, Message)]
struct Flushed {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
}

/// `GetIndexBuildProgressRequest`.
#[derive(Clone, PartialEq, Message)]
struct OfIndex {
    #[prost(string, tag = "3")]
    collection_name: String,
    #[prost(string, tag = "5")]
    index_name: String,
}

/// `GetIndexBuildProgressResponse`.
#[derive(Clone, PartialEq, Message)]
struct Progress {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(int64, tag = "2")]
    indexed_rows: i64,
}

impl Told for Flushed {
    fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }
}

impl Told for Progress {
    fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }
}

/// Rows of a closed segment lie in lists until their graph is built, where they are more than 4,992: here
/// about 6,000 in each of sixteen, for 2.3 files upserted rows under the partition keys in turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_partition_is_found_while_its_segment_gets_a_graph() {
    const ROWS: u64 = 96 * 1024;
    let Some(address) = server() else { return };
    let collection = Collection::of(&prefix("small"), &identity("m", 16));
    let store = open(&address, collection.clone()).await;
    let vector = |number: u64| {
        let angle = |turn| ((number + 1) * turn) as f32;
        contract::normalized((1..17).map(angle).map(f32::sin).collect())
    };
    let one = record(1);
    let rows = (0..ROWS).map(|number| Record {
        id: EntryId(u128::from(number)),
        partition: if number % 1024 == 0 { "small" } else { "large" }.into(),
        vector: Some(vector(number)),
        ..one.clone()
    });
    for batch in rows.collect::<Vec<_>>().chunks(8192) {
        store.put(batch.to_vec()).await.unwrap();
    }
    let client = Client::new(&address).unwrap();
    let name = collection.with_underscores();
    let flush = Flush { collection_names: vec![name.clone()] };
    let _: Flushed = client.call(method!("Flush"), flush).await.unwrap();
    let progress = async || {
        let asked =
            OfIndex { collection_name: name.clone(), index_name: "vector_index".to_owned() };
        let progress: Progress =
            client.call(method!("GetIndexBuildProgress"), asked).await.unwrap();
        progress.indexed_rows
    };
    let all_found = async || {
        for number in (0..ROWS).step_by(1024) {
            let near = loop {
                match store.nearest("small".into(), vector(number), 16).await {
                    Ok(near) => break near,
                    // It may be away for a moment while a segment changes hands.
                    Err(_) => assert!(store.ready(Duration::from_secs(60)).await),
                }
            };
            assert_eq!(near.len(), 16);
            assert_eq!(near[0].id, EntryId(u128::from(number)));
        }
    };
    let mut without_graph = 0;
    let built = async {
        while progress().await < ROWS as i64 {
            all_found().await;
            without_graph += 1;
        }
    };
    tokio::time::timeout(Duration::from_secs(300), built).await.unwrap();
    println!("asked {without_graph} times before the graphs were built");
    all_found().await;
    removed(&address, &collection).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_records_are_shared() {
    let Some(address) = server() else { return };
    let collection = Collection::meta(&prefix("meta"));
    let one = Meta::new(Arc::new(open(&address, collection.clone()).await));
    let other = Meta::new(Arc::new(open(&address, collection.clone()).await));
    let shared = |value: &'static [u8]| Shared {
        name: "n".into(),
        written_ms: 5,
        value: bytes::Bytes::from_static(value),
    };
    one.set("a", shared(b"first"), 10).await.unwrap();
    let id = one.set("a", shared(b"second"), 10).await.unwrap();
    one.set("b", shared(b"elsewhere"), 11).await.unwrap();
    assert_eq!(other.ids("a").await, Ok(vec![id]));
    assert_eq!(other.by_id(id).await, Ok(Some(shared(b"second"))));
    assert_eq!(other.get("b", "n").await, Ok(Some(shared(b"elsewhere"))));
    assert_eq!(one.sweep(10).await, Ok(1));
    assert_eq!(other.ids("a").await, Ok(vec![]));
    assert_eq!(other.get("a", "n").await, Ok(None));
    removed(&address, &collection).await;
}

#[test]
fn a_batch_is_never_too_large_for_one_message() {
    let records: Vec<_> =
        (0..20).map(|seed| Record { payload: vec![0; 3 << 20].into(), ..record(seed) }).collect();
    let batches = batches(latest(records), BATCH_BYTES);
    assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), 20);
    assert!(batches.iter().all(|batch| (1..=4).contains(&batch.len())));
}
