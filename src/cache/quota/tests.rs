//! Accounts over a real store.

use proptest::prelude::*;

use super::*;
use crate::{
    cache::entry::{Entry, now_ms, tests::entry},
    embed::Identity,
    store::{
        contract::record,
        embedded::{Embedded, EmbeddedOptions},
    },
};

fn open(folder: &tempfile::TempDir) -> Arc<dyn VectorStore> {
    let identity = Identity {
        name: "quota".into(),
        digest: "0123456789abcdef".into(),
        dimension: 384,
        window_tokens: 1,
    };
    let options = EmbeddedOptions {
        path: folder.path().to_owned(),
        identity,
        queue: 64,
        compact_after: usize::MAX,
        max_bytes: u64::MAX,
        quantization: crate::store::Quantization::None,
    };
    Arc::new(Embedded::open(options).unwrap())
}

/// A record of one tenant, with a payload of so many bytes.
fn of(tenant: &str, seed: u64, bytes: usize) -> Record {
    Record {
        tenant: tenant.into(),
        vector: None,
        generated_ms: seed,
        expires_ms: now_ms() + 1_000_000,
        payload: vec![7; bytes].into(),
        ..record(seed)
    }
}

/// As the writer does it.
async fn write(accounts: &mut Accounts, records: Vec<Record>) -> Room {
    let room = accounts.make_room(&records.iter().collect::<Vec<_>>()).await.unwrap();
    for (answer, _) in &room.evicted {
        accounts.store.delete(Selector::Answer(*answer)).await.unwrap();
    }
    let kept = records
        .into_iter()
        .filter(|one| !room.refused.contains(&one.id) && !room.replaced.contains(&one.id));
    accounts.store.put(kept.collect()).await.unwrap();
    room
}

async fn held(store: &Arc<dyn VectorStore>, tenant: &str) -> (u64, u64) {
    let held = store.holdings(Selector::Tenant(tenant.into())).await.unwrap();
    let answers: HashSet<_> = held.iter().map(|one| one.answer).collect();
    (answers.len() as u64, held.iter().map(|one| one.bytes.unwrap()).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_valuable_goes_first_and_other_tenants_are_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let (store, worth) = (open(&folder), Arc::new(Worth::open(None)));
    let quota = Quota { entries: 3, bytes: 0 };
    let mut accounts = Accounts::new(store.clone(), worth.clone(), quota);
    write(&mut accounts, vec![of("b", 90, 10), of("b", 91, 10)]).await;
    write(&mut accounts, (1..=3).map(|seed| of("a", seed, 100)).collect()).await;
    let served = |seed, ms| Entry { upstream_ms: ms, ..entry(record(seed).id.0) };
    // The oldest saved most; the youngest nothing.
    worth.hit(&served(1, 500), 1.0);
    worth.hit(&served(2, 500), 0.1);
    let room = write(&mut accounts, vec![of("a", 4, 100)]).await;
    assert_eq!(room.evicted, [(record(3).id, Exceeded::Entries)]);
    let room = write(&mut accounts, vec![of("a", 5, 100)]).await;
    assert_eq!(room.evicted, [(record(4).id, Exceeded::Entries)], "never hit, older than 5");
    worth.hit(&served(5, 500), 1.0);
    let room = write(&mut accounts, vec![of("a", 6, 100)]).await;
    assert_eq!(room.evicted, [(record(2).id, Exceeded::Entries)], "the least likely to be right");
    assert_eq!((held(&store, "a").await.0, held(&store, "b").await.0), (3, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_count_against_a_large_answer_and_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let quota = Quota { entries: 0, bytes: 1000 };
    let worth = Arc::new(Worth::open(None));
    let store = open(&folder);
    let mut accounts = Accounts::new(store.clone(), worth.clone(), quota);
    write(&mut accounts, vec![of("a", 1, 600), of("a", 2, 100), of("a", 3, 100)]).await;
    for seed in 1..=3 {
        worth.hit(&entry(record(seed).id.0), 1.0);
    }
    store.flush().await.unwrap();
    drop((accounts, store));

    let store = open(&folder);
    let mut accounts = Accounts::new(store.clone(), worth, quota);
    let room = write(&mut accounts, vec![of("a", 4, 300)]).await;
    assert_eq!(room.evicted, [(record(1).id, Exceeded::Bytes)], "the same worth on more bytes");
    assert_eq!(held(&store, "a").await, (3, 500));
    let room = write(&mut accounts, vec![of("a", 5, 1001)]).await;
    assert_eq!(room.refused, HashSet::from([record(5).id]));
    // Written again it replaces itself and pushes nobody out.
    assert_eq!(write(&mut accounts, vec![of("a", 4, 700)]).await, Room::default());
    assert_eq!(held(&store, "a").await, (3, 900));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_written_twice_at_once_counts_as_it_was_last() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let quota = Quota { entries: 2, bytes: 100 };
    let mut accounts = Accounts::new(store.clone(), Arc::new(Worth::open(None)), quota);
    write(&mut accounts, vec![of("a", 1, 60), of("a", 1, 20)]).await;
    assert_eq!(held(&store, "a").await, (1, 20));
    assert_eq!(accounts.accounts["a"].bytes, 20);
    // The last one cannot be kept, so what was there before stays.
    let room = write(&mut accounts, vec![of("a", 1, 30), of("a", 1, 101)]).await;
    assert_eq!(room.refused, HashSet::from([record(1).id]));
    assert_eq!(held(&store, "a").await, (1, 20));
    assert_eq!(accounts.accounts["a"].bytes, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_or_past_its_life_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let quota = Quota { entries: 2, bytes: 0 };
    let mut accounts = Accounts::new(store.clone(), Arc::new(Worth::open(None)), quota);
    let short = Record { expires_ms: 1000, ..of("a", 1, 10) };
    write(&mut accounts, vec![short, of("a", 2, 10)]).await;
    for selector in [Selector::ExpiredAt(1000), Selector::Answer(record(2).id)] {
        store.delete(selector.clone()).await.unwrap();
        accounts.deleted(&selector);
    }
    let two = write(&mut accounts, vec![of("a", 3, 10), of("a", 4, 10)]).await;
    assert_eq!(two, Room::default());
    store.delete(Selector::Model("model-3".into())).await.unwrap();
    accounts.deleted(&Selector::Model("model-3".into()));
    assert_eq!(write(&mut accounts, vec![of("a", 5, 10)]).await, Room::default());
    assert_eq!(held(&store, "a").await.0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_with_its_alternative_keys_and_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let quota = Quota { entries: 2, bytes: 0 };
    let mut accounts = Accounts::new(store.clone(), Arc::new(Worth::open(None)), quota);
    let alias = Record { answer: record(1).id, ..of("a", 2, 10) };
    write(&mut accounts, vec![of("a", 1, 10), alias, of("a", 3, 10)]).await;
    assert_eq!(held(&store, "a").await.0, 2);
    let room = write(&mut accounts, vec![of("a", 4, 10)]).await;
    assert_eq!(room.evicted, [(record(1).id, Exceeded::Entries)]);
    assert_eq!(store.count(Selector::Tenant("a".into())).await, Ok(2), "3 and 4");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    /// Whatever is written in whatever order and batches, no tenant has more than its quota, and what
    /// the account says is what the store has.
    #[test]
    fn no_quota_is_ever_passed(
        writes in prop::collection::vec(prop::collection::vec((0_u64..20, 1_usize..400, any::<bool>()), 1..6), 1..12),
        entries in 1_u64..6,
        bytes in 100_u64..1500,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let store = open(&folder);
            let quota = Quota { entries, bytes };
            let mut accounts = Accounts::new(store.clone(), Arc::new(Worth::open(None)), quota);
            for batch in writes {
                let records = batch.into_iter().map(|(seed, size, alias)| {
                    let own = of("a", seed, size);
                    let answer = if alias { record(seed / 2).id } else { own.id };
                    Record { answer, ..own }
                });
                write(&mut accounts, records.collect()).await;
                let (answers, size) = held(&store, "a").await;
                assert!(answers <= entries && size <= bytes, "{answers} {size}");
                let account = &accounts.accounts["a"];
                assert_eq!((account.answers.len() as u64, account.bytes), (answers, size));
            }
            drop((accounts, store));
        });
    }
}
