//! What every [`VectorStore`] must do, as one test that each implementation runs.

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{EntryId, Holding, Record, Selector, StoreFault, VectorStore};
use crate::embed::Vector;

/// Length of the vectors of this test: that of the default embedder.
pub(crate) const DIMENSION: usize = 384;

/// Cosines of float32 vectors agree to this across implementations.
const CLOSE: f32 = 1e-5;

/// Runs the whole contract. `open` opens one collection of [`DIMENSION`]: empty at first, and later,
/// after the store before it was dropped, with what that one had.
pub(crate) async fn check<S: VectorStore>(open: impl AsyncFn() -> S) {
    let store = open().await;
    an_empty_store_has_nothing(&store).await;
    records_come_back_whole(&store).await;
    the_last_put_of_an_id_counts(&store).await;
    records_without_vector_are_only_found_by_id(&store).await;
    neighbours_come_in_order(&store).await;
    partitions_never_mix(&store).await;
    aliases_lead_to_their_answer(&store).await;
    each_selector_means_its_records(&store).await;
    store.flush().await.unwrap();
    drop(store);

    let store = open().await;
    what_was_put_is_still_there(&store).await;
    everything_can_be_deleted(&store).await;
}

/// A record whose fields all differ from those of other seeds.
pub(crate) fn record(seed: u64) -> Record {
    let id = EntryId((u128::from(seed) << 64) | 0x5eed);
    Record {
        id,
        answer: id,
        partition: format!("{seed:064x}").into(),
        tenant: format!("{seed:032x}").into(),
        model: format!("model-{seed}").into(),
        route: format!("route-{seed}").into(),
        tags: vec![format!("tag-{seed}"), "every".to_owned()],
        question: format!("question {seed}?").into(),
        vector: Some(unit_vector(seed)),
        generated_ms: 1_700_000_000_000 + seed,
        expires_ms: 1_800_000_000_000 + seed,
        payload: Bytes::from(format!("answer {seed}")),
    }
}

/// A direction that depends on nothing but `seed`: SplitMix64, made normal by summing twelve uniforms
/// (Irwin and Hall), so that all directions are about equally likely.
pub(crate) fn unit_vector(seed: u64) -> Vector {
    let mut state = seed.wrapping_mul(0xd134_2543_de82_ef95);
    let mut uniform = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1_u64 << 24) as f32
    };
    let normal = |_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0;
    normalized((0..DIMENSION).map(normal).collect())
}

/// `to` turned towards `from` until their cosine is `cosine`.
pub(crate) fn at_cosine(from: &[f32], towards: &[f32], cosine: f32) -> Vector {
    let along = dot(from, towards);
    let across: Vec<f32> = towards.iter().zip(from).map(|(t, f)| t - along * f).collect();
    let across = normalized(across);
    let sine = (1.0 - cosine * cosine).sqrt();
    normalized(from.iter().zip(across.iter()).map(|(f, a)| cosine * f + sine * a).collect())
}

pub(crate) fn normalized(vector: Vec<f32>) -> Vector {
    let norm = dot(&vector, &vector).sqrt();
    vector.into_iter().map(|number| number / norm).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

async fn an_empty_store_has_nothing(store: &impl VectorStore) {
    assert_eq!(store.count(Selector::All).await, Ok(0));
    assert_eq!(store.get(EntryId(1)).await, Ok(None));
    assert_eq!(store.nearest("p".into(), unit_vector(1), 5).await, Ok(vec![]));
    assert_eq!(store.delete(Selector::All).await, Ok(0));
    assert_eq!(store.answers(Selector::All).await, Ok(vec![]));
    assert_eq!(store.holdings(Selector::All).await, Ok(vec![]));
}

async fn records_come_back_whole(store: &impl VectorStore) {
    let plain = record(1);
    let odd = Record {
        id: EntryId(u128::MAX),
        answer: EntryId(0),
        question: "Wie heißt 東京? \u{1f980}\u{0}\"\\\u{7f} \u{202e}".into(),
        model: "модель/ünï:latest".into(),
        route: "".into(),
        tags: vec![],
        expires_ms: u64::MAX >> 11,
        payload: (0..=255).collect(),
        ..record(2)
    };
    let mut noise = 1_u32;
    let large: Bytes = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    })
    .take(2 << 20)
    .collect();
    let large = Record { payload: large, ..record(3) };
    let all = [plain, odd, large];
    store.put(all.to_vec()).await.unwrap();
    for record in all {
        assert_stored(store, &record).await;
    }
}

async fn the_last_put_of_an_id_counts(store: &impl VectorStore) {
    let old = record(10);
    let new = Record { id: old.id, answer: old.answer, ..record(11) };
    store.put(vec![old.clone()]).await.unwrap();
    store.put(vec![new.clone()]).await.unwrap();
    assert_stored(store, &new).await;
    let vector = old.vector.clone().unwrap();
    assert_eq!(store.nearest(old.partition, vector.clone(), 5).await, Ok(vec![]));
    assert_eq!(store.count(Selector::Model("model-10".into())).await, Ok(0));

    let bare = Record { vector: None, ..new.clone() };
    store.put(vec![bare.clone()]).await.unwrap();
    assert_stored(store, &bare).await;
    assert_eq!(store.nearest(new.partition.clone(), vector, 5).await, Ok(vec![]));
    store.put(vec![bare, new.clone()]).await.unwrap();
    assert_stored(store, &new).await;
}

async fn records_without_vector_are_only_found_by_id(store: &impl VectorStore) {
    let bare = Record { vector: None, question: "".into(), ..record(20) };
    let near = Record { partition: bare.partition.clone(), ..record(21) };
    store.put(vec![bare.clone(), near.clone()]).await.unwrap();
    assert_stored(store, &bare).await;
    eventually(|| found(store, &bare.partition, unit_vector(20), 5), vec![near.id]).await;
}

async fn neighbours_come_in_order(store: &impl VectorStore) {
    let (centre, partition) = (unit_vector(30), Arc::<str>::from("30".repeat(32)));
    let cosines = [0.2, 0.999, 0.5, -0.4, 0.95];
    let records = cosines.iter().enumerate().map(|(index, cosine)| Record {
        vector: Some(at_cosine(&centre, &unit_vector(31), *cosine)),
        partition: Arc::clone(&partition),
        ..record(40 + index as u64)
    });
    let records: Vec<_> = records.collect();
    store.put(records.clone()).await.unwrap();

    let order = [1, 4, 2, 0, 3].map(|index: usize| records[index].id).to_vec();
    eventually(|| found(store, &partition, centre.clone(), 9), order.clone()).await;
    eventually(|| found(store, &partition, centre.clone(), 2), order[..2].to_vec()).await;
    let nearest = store.nearest(partition, centre, 9).await.unwrap();
    for neighbour in nearest {
        let index = records.iter().position(|record| record.id == neighbour.id).unwrap();
        assert!((neighbour.similarity - cosines[index]).abs() < CLOSE, "{neighbour:?}");
        assert_eq!(neighbour.answer, records[index].answer);
        assert_eq!(neighbour.partition, records[index].partition);
        assert_eq!(neighbour.question, records[index].question);
        assert_eq!(neighbour.expires_ms, records[index].expires_ms);
    }
}

/// The same vector in 200 partitions: each sees its own and nothing else.
async fn partitions_never_mix(store: &impl VectorStore) {
    let vector = unit_vector(100);
    let records = (100..300).map(|seed| Record { vector: Some(vector.clone()), ..record(seed) });
    let records: Vec<_> = records.collect();
    store.put(records.clone()).await.unwrap();
    for record in &records {
        eventually(|| found(store, &record.partition, vector.clone(), 10), vec![record.id]).await;
    }
    assert_eq!(store.nearest("elsewhere".into(), vector, 10).await, Ok(vec![]));
}

async fn aliases_lead_to_their_answer(store: &impl VectorStore) {
    let own = record(400);
    let alias = Record {
        answer: own.answer,
        partition: own.partition.clone(),
        payload: Bytes::new(),
        ..record(401)
    };
    store.put(vec![own.clone(), alias.clone()]).await.unwrap();
    let vector = alias.vector.clone().unwrap();
    eventually(|| found(store, &own.partition, vector.clone(), 1), vec![alias.id]).await;
    let nearest = store.nearest(own.partition.clone(), vector, 1).await.unwrap();
    assert_eq!(nearest[0].answer, own.id);
    let selector = Selector::Answer(own.id);
    eventually(|| store.count(selector.clone()), 2).await;
    eventually(|| store.answers(selector.clone()), vec![own.id]).await;
    let listed = async || {
        let mut held = store.holdings(selector.clone()).await?;
        held.sort_by_key(|one| one.id);
        Ok(held)
    };
    let expected = [&own, &alias].map(|record| Holding {
        id: record.id,
        answer: own.id,
        bytes: Some(store.weight(record)),
        generated_ms: record.generated_ms,
        expires_ms: record.expires_ms,
    });
    let exact = listed().await.unwrap().iter().any(|one| one.bytes.is_some());
    let expected = expected.map(|one| Holding { bytes: one.bytes.filter(|_| exact), ..one });
    eventually(listed, expected.to_vec()).await;
    assert_eq!(store.delete(selector).await, Ok(2));
    eventually(|| store.get(own.id), None).await;
    eventually(|| store.get(alias.id), None).await;
}

async fn each_selector_means_its_records(store: &impl VectorStore) {
    let group = |seed: u64| Record {
        model: "the/model".into(),
        route: "the route".into(),
        tenant: "ab".repeat(16).into(),
        tags: vec!["a".into(), "группа \"x\"".into()],
        generated_ms: 1_000,
        expires_ms: 2_000,
        ..record(seed)
    };
    let selectors = [
        Selector::Model("the/model".into()),
        Selector::Route("the route".into()),
        Selector::Tenant("ab".repeat(16)),
        Selector::Tag("группа \"x\"".into()),
        Selector::Before(1_001),
        Selector::Both(Box::new((Selector::Model("the/model".into()), Selector::Before(1_001)))),
        Selector::ExpiredAt(2_000),
    ];
    let mut bare = group(502);
    bare.vector = None;
    let members = [group(500), group(501), bare];
    for selector in selectors {
        let before = store.count(Selector::All).await.unwrap();
        store.put(members.to_vec()).await.unwrap();
        eventually(|| store.count(selector.clone()), 3).await;
        let ids = async || {
            let ids = store.answers(selector.clone()).await?;
            Ok(ids.into_iter().collect::<BTreeSet<_>>())
        };
        eventually(ids, members.iter().map(|record| record.id).collect()).await;
        assert_eq!(store.delete(selector.clone()).await, Ok(3), "{selector:?}");
        eventually(|| store.count(selector.clone()), 0).await;
        eventually(|| store.count(Selector::All), before).await;
    }
    store.put(members.to_vec()).await.unwrap();
    let model = || Selector::Model("the/model".into());
    let neither = Selector::Both(Box::new((model(), Selector::Before(1_000))));
    for selector in
        [Selector::Before(1_000), Selector::ExpiredAt(1_999), Selector::Tag("b".into()), neither]
    {
        assert_eq!(store.count(selector).await, Ok(0));
    }
    assert_eq!(store.delete(Selector::Tag("a".into())).await, Ok(3));
}

async fn what_was_put_is_still_there(store: &impl VectorStore) {
    for seed in [1, 20, 21, 42, 100, 299] {
        let stored = store.get(record(seed).id).await.unwrap().unwrap();
        assert_eq!(stored.payload, record(seed).payload);
        assert_eq!(stored.vector.is_some(), seed != 20);
    }
    let large = store.get(record(3).id).await.unwrap().unwrap();
    assert_eq!(large.payload.len(), 2 << 20);
    let partition = record(150).partition;
    eventually(|| found(store, &partition, unit_vector(100), 10), vec![record(150).id]).await;
    assert_eq!(store.get(record(400).id).await, Ok(None));
}

async fn everything_can_be_deleted(store: &impl VectorStore) {
    let all = store.count(Selector::All).await.unwrap();
    assert!(all > 200);
    assert_eq!(store.delete(Selector::All).await, Ok(all));
    eventually(|| store.count(Selector::All), 0).await;
    let partition = record(150).partition;
    eventually(|| found(store, &partition, unit_vector(100), 10), vec![]).await;
    assert_eq!(store.get(record(1).id).await, Ok(None));
}

/// Equal in every field; the vector up to rounding, for a store may normalize it again.
pub(crate) async fn assert_stored(store: &impl VectorStore, expected: &Record) {
    let bare = |record: &Record| Record { vector: None, ..record.clone() };
    let stored = async || {
        let stored = store.get(expected.id).await?;
        Ok(stored.map(|stored| (bare(&stored), stored.vector.is_some())))
    };
    eventually(stored, Some((bare(expected), expected.vector.is_some()))).await;
    let stored = store.get(expected.id).await.unwrap().unwrap();
    if let (Some(stored), Some(expected)) = (stored.vector, &expected.vector) {
        let furthest = stored.iter().zip(expected.iter()).map(|(a, b)| (a - b).abs());
        assert_eq!(stored.len(), expected.len());
        assert!(furthest.fold(0.0, f32::max) < CLOSE);
    }
}

async fn found(
    store: &impl VectorStore,
    partition: &Arc<str>,
    vector: Vector,
    limit: usize,
) -> Result<Vec<EntryId>, StoreFault> {
    let nearest = store.nearest(Arc::clone(partition), vector, limit).await?;
    Ok(nearest.iter().map(|neighbour| neighbour.id).collect())
}

/// Asks until the answer is as expected: a remote store may show a change some time after it has
/// acknowledged it. A store that is consistent passes at the first try, without a wait.
async fn eventually<T, F>(ask: impl Fn() -> F, expected: T)
where
    T: PartialEq + std::fmt::Debug,
    F: Future<Output = Result<T, StoreFault>>,
{
    const TRIES: u32 = 50;
    for _ in 0..TRIES {
        if ask().await.as_ref() == Ok(&expected) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(ask().await.unwrap(), expected);
}
