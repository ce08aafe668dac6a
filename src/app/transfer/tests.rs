//! Two stores and a file between them.

use std::{fs::OpenOptions, path::Path};

use futures_util::future::BoxFuture;

use super::*;
use crate::{
    cache::entry::now_ms,
    embed::{EmbedFault, Embedded, Identity, cosine},
    store::{
        Record, Selector,
        contract::{DIMENSION, record, unit_vector},
        embedded::{Embedded as Edge, EmbeddedOptions},
    },
};

struct Scripted(Identity);

impl Embedder for Scripted {
    fn identity(&self) -> &Identity {
        &self.0
    }

    fn embed(&self, text: Arc<str>) -> BoxFuture<'_, Result<Embedded, EmbedFault>> {
        Box::pin(async move { Ok(Embedded::Vector(unit_vector(text.len() as u64))) })
    }
}

fn depot(path: &Path, model: &str) -> Depot {
    let identity = Identity {
        name: model.into(),
        digest: "0".repeat(16),
        dimension: DIMENSION,
        window_tokens: 256,
    };
    let options = EmbeddedOptions {
        path: path.to_owned(),
        identity: identity.clone(),
        queue: 64,
        compact_after: usize::MAX,
        max_bytes: u64::MAX,
        quantization: crate::store::Quantization::None,
    };
    let store = Arc::new(Edge::open(options).unwrap());
    Depot::new(Arc::new(Scripted(identity)), store)
}

fn living(seed: u64) -> Record {
    Record { expires_ms: now_ms() + 3_600_000, ..record(seed) }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_move_whole_and_both_ways_can_be_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("answers.jsonl");
    let from = depot(&dir.path().join("from"), "m");
    let mut records: Vec<_> = (1..=150).map(living).collect();
    // A key that was learned for the answer before it.
    records[5].answer = records[4].id;
    from.store.put(records[..100].to_vec()).await.unwrap();
    from.store.put(vec![Record { expires_ms: 1, ..record(900) }]).await.unwrap();
    let moved = from.export(&file, |_, _| {}).await.unwrap();
    assert_eq!(moved, Moved { moved: 100, expired: 1, ..Moved::default() });

    // Cut inside a line, as by a full disk or a kill.
    let length = std::fs::metadata(&file).unwrap().len();
    OpenOptions::new().write(true).open(&file).unwrap().set_len(length - 7).unwrap();
    from.store.put(records[100..].to_vec()).await.unwrap();
    let moved = from.export(&file, |_, _| {}).await.unwrap();
    assert_eq!((moved.moved, moved.already), (51, 99));

    let to = depot(&dir.path().join("to"), "m");
    to.store.put(records[..10].to_vec()).await.unwrap();
    let moved = to.import(&file, |_, _| {}).await.unwrap();
    assert_eq!(moved, Moved { moved: 140, already: 10, ..Moved::default() });
    for record in &records {
        let there = to.store.get(record.id).await.unwrap().unwrap();
        let bare = |record: &Record| Record { vector: None, ..record.clone() };
        assert_eq!(bare(&there), bare(record));
        let cosine = cosine(&there.vector.unwrap(), record.vector.as_ref().unwrap());
        assert!(cosine > 0.9999, "{cosine}");
    }
    assert_eq!(to.store.delete(Selector::Answer(records[4].id)).await, Ok(2), "its alias is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_s_answers_are_embedded_again_and_its_files_are_not_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("answers.jsonl");
    let old = depot(&dir.path().join("store"), "old");
    old.store.put(vec![living(1), Record { vector: None, ..living(2) }]).await.unwrap();
    old.export(&file, |_, _| {}).await.unwrap();
    let new = depot(&dir.path().join("store"), "new");
    let error = new.export(&file, |_, _| {}).await.unwrap_err().to_string();
    assert!(error.contains("another file"), "{error}");
    assert_eq!(new.others().await.len(), 1);
    let moved = new.import(&file, |_, _| {}).await.unwrap();
    assert_eq!((moved.moved, moved.embedded), (2, 1));
    let found = new.store.get(record(1).id).await.unwrap().unwrap();
    let ours = unit_vector(record(1).question.len() as u64);
    assert!(cosine(&found.vector.unwrap(), &ours) > 0.999);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_export_says_which_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    let depot = depot(&dir.path().join("store"), "m");
    std::fs::write(&file, "{}\n").unwrap();
    let error = depot.import(&file, |_, _| {}).await.unwrap_err().to_string();
    assert!(error.contains("line 1"), "{error}");
    let head = serde_json::to_string(&depot.head()).unwrap();
    std::fs::write(&file, format!("{head}\n{{\"id\": 7}}\n")).unwrap();
    let error = depot.import(&file, |_, _| {}).await.unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");
}
