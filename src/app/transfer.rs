//! Answers on their way out of one store and into another: `reprise export` and `reprise import`.
//!
//! A file has a line for what the vectors mean, then a line an answer, all JSON. Both directions may
//! be interrupted and run again: what is there already is not done twice. Keys that were learned for an
//! answer (aliases) are not carried along: they are learned again.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Seek as _, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use super::{embedder, store};
use crate::{
    cache::entry::now_ms,
    config::{Config, StoreKind},
    embed::{Embedded, Embedder, Vector},
    store::{EntryId, Record, Selector, StoreFault, StoreReport, VectorStore},
};

/// Grows when lines change their shape.
const FORMAT: u32 = 1;

/// Answers of one write.
const BATCH: usize = 64;

/// Why answers cannot be moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferFault {
    /// No store, or no embedder whose vectors it holds.
    #[error("{0}")]
    Open(String),
    /// The store does not do what it is asked.
    #[error("the store: {0}")]
    Store(#[from] StoreFault),
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{path}, line {line}: {reason}")]
    Line {
        /// Which file.
        path: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// What became of the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Moved now.
    pub moved: u64,
    /// There already.
    pub already: u64,
    /// Past their life.
    pub expired: u64,
    /// Embedded again, for the file's vectors are another model's.
    pub embedded: u64,
    /// Too large for the store.
    pub refused: u64,
}

/// The first line of a file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    reprise_export: u32,
    model: String,
    digest: String,
    dimension: usize,
}

/// One answer.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    id: EntryId,
    answer: EntryId,
    partition: Arc<str>,
    tenant: Arc<str>,
    model: Arc<str>,
    route: Arc<str>,
    tags: Vec<String>,
    question: Arc<str>,
    /// Float32, little endian, Base64.
    vector: Option<String>,
    generated_ms: u64,
    expires_ms: u64,
    payload: String,
}

impl Line {
    fn of(record: Record) -> Self {
        let bytes = |vector: Vector| -> Vec<u8> {
            vector.iter().flat_map(|number| number.to_le_bytes()).collect()
        };
        Self {
            id: record.id,
            answer: record.answer,
            partition: record.partition,
            tenant: record.tenant,
            model: record.model,
            route: record.route,
            tags: record.tags,
            question: record.question,
            vector: record.vector.map(|vector| BASE64_STANDARD.encode(bytes(vector))),
            generated_ms: record.generated_ms,
            expires_ms: record.expires_ms,
            payload: BASE64_STANDARD.encode(record.payload),
        }
    }

    fn record(self, dimension: usize) -> Result<Record, String> {
        let wrong = |error: base64::DecodeError| error.to_string();
        let vector = match self.vector {
            None => None,
            Some(text) => {
                let bytes = BASE64_STANDARD.decode(text).map_err(wrong)?;
                let numbers = bytes.as_chunks::<4>().0.iter();
                let vector: Vector = numbers.map(|bytes| f32::from_le_bytes(*bytes)).collect();
                if vector.len() != dimension {
                    return Err(format!("a vector of {} numbers, not {dimension}", vector.len()));
                }
                Some(vector)
            }
        };
        Ok(Record {
            id: self.id,
            answer: self.answer,
            partition: self.partition,
            tenant: self.tenant,
            model: self.model,
            route: self.route,
            tags: self.tags,
            question: self.question,
            vector,
            generated_ms: self.generated_ms,
            expires_ms: self.expires_ms,
            payload: BASE64_STANDARD.decode(self.payload).map_err(wrong)?.into(),
        })
    }
}

/// The store of a configuration with the embedder that its collection is of.
pub struct Depot {
    embedder: Arc<dyn Embedder>,
    store: Arc<dyn VectorStore>,
}

impl Depot {
    /// Opens both.
    ///
    /// # Errors
    /// Why one of them cannot be opened.
    pub async fn open(config: &Config) -> Result<Self, TransferFault> {
        if config.store.kind == StoreKind::Off {
            return Err(TransferFault::Open("store.kind is \"off\": there are no answers".into()));
        }
        let embedder = embedder::open(&config.embed).await.map_err(TransferFault::Open)?;
        let opened = store::open(&config.store, embedder.identity().clone()).await;
        let store = opened.map_err(TransferFault::Open)?;
        Ok(Self { embedder, store })
    }

    /// How the store is.
    pub fn report(&self) -> StoreReport {
        self.store.report()
    }

    /// Collections of ours beside this one; empty too where the store cannot say.
    pub async fn others(&self) -> Vec<String> {
        self.store.others().await.unwrap_or_default()
    }

    /// Over these parts.
    pub fn new(embedder: Arc<dyn Embedder>, store: Arc<dyn VectorStore>) -> Self {
        Self { embedder, store }
    }

    fn head(&self) -> Head {
        let identity = self.embedder.identity();
        Head {
            reprise_export: FORMAT,
            model: identity.name.clone(),
            digest: identity.digest.clone(),
            dimension: identity.dimension,
        }
    }

    /// Writes every answer to `path` (`-`: stdout). A file that is there is gone on with. `tell` hears
    /// how many of how many are done.
    ///
    /// # Errors
    /// The store's, the file's.
    pub async fn export(
        &self,
        path: &Path,
        mut tell: impl FnMut(u64, u64),
    ) -> Result<Moved, TransferFault> {
        let failed = |source| TransferFault::File { path: path.display().to_string(), source };
        let (mut out, there) = self.begin(path)?;
        let ids = self.store.answers(Selector::All).await?;
        let (mut moved, now) = (Moved::default(), now_ms());
        for (done, id) in ids.iter().enumerate() {
            tell(done as u64, ids.len() as u64);
            if there.contains(id) {
                moved.already += 1;
                continue;
            }
            let Some(record) = self.store.get(*id).await? else { continue };
            if record.expires_ms <= now {
                moved.expired += 1;
                continue;
            }
            let mut line = serde_json::to_vec(&Line::of(record))
                .map_err(|error| failed(io::Error::other(error)))?;
            line.push(b'\n');
            out.write_all(&line).map_err(failed)?;
            moved.moved += 1;
        }
        out.flush().map_err(failed)?;
        Ok(moved)
    }

    /// The file behind its last whole line, and the answers in it.
    fn begin(&self, path: &Path) -> Result<(Box<dyn Write>, HashSet<EntryId>), TransferFault> {
        let failed = |source| TransferFault::File { path: path.display().to_string(), source };
        let head = self.head();
        let mut first = serde_json::to_vec(&head).map_err(|error| failed(error.into()))?;
        first.push(b'\n');
        if path == Path::new("-") {
            let mut out = io::stdout();
            out.write_all(&first).map_err(failed)?;
            return Ok((Box::new(out), HashSet::new()));
        }
        let opened =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
        let mut file = opened.map_err(failed)?;
        let (mut there, mut whole) = (HashSet::new(), 0);
        let mut lines = BufReader::new(&file);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).map_err(failed)? > 0 && line.ends_with(b"\n") {
            if whole == 0 {
                if serde_json::from_slice::<Head>(&line).ok().as_ref() != Some(&head) {
                    let reason = "is no export of this store's collection: name another file";
                    return Err(failed(io::Error::other(reason)));
                }
            } else if let Ok(line) = serde_json::from_slice::<Line>(&line) {
                there.insert(line.id);
            }
            whole += line.len() as u64;
            line.clear();
        }
        file.set_len(whole).and_then(|()| file.seek(SeekFrom::End(0))).map_err(failed)?;
        if whole == 0 {
            file.write_all(&first).map_err(failed)?;
        }
        Ok((Box::new(BufWriter::new(file)), there))
    }

    /// Reads the answers of `path` into the store. Those that are there already, and as new, are left
    /// alone, so that running it again goes on where it stopped.
    ///
    /// # Errors
    /// The store's, the file's.
    pub async fn import(
        &self,
        path: &Path,
        mut tell: impl FnMut(u64, u64),
    ) -> Result<Moved, TransferFault> {
        let name = path.display().to_string();
        let failed = |source| TransferFault::File { path: name.clone(), source };
        let wrong = |line, reason| TransferFault::Line { path: name.clone(), line, reason };
        let file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        let mut lines = BufReader::new(file).lines();
        let head = lines.next().transpose().map_err(failed)?.unwrap_or_default();
        let head: Head = serde_json::from_str(&head)
            .map_err(|error| wrong(1, format!("no export of reprise: {error}")))?;
        if head.reprise_export != FORMAT {
            return Err(wrong(1, format!("format {}, expected {FORMAT}", head.reprise_export)));
        }
        let same = head == self.head();
        let (mut moved, mut read, mut batch) = (Moved::default(), 0, Vec::new());
        for (index, line) in lines.enumerate() {
            let line = line.map_err(failed)?;
            read += line.len() as u64 + 1;
            tell(read, bytes);
            let parsed = serde_json::from_str::<Line>(&line).map_err(|error| error.to_string());
            let record = parsed.and_then(|line| line.record(head.dimension));
            let record = record.map_err(|reason| wrong(index + 2, reason))?;
            if let Some(record) = self.wanted(record, same, &mut moved).await? {
                batch.push(record);
            }
            if batch.len() >= BATCH {
                self.put(std::mem::take(&mut batch), &mut moved).await?;
            }
        }
        self.put(batch, &mut moved).await?;
        self.store.flush().await?;
        Ok(moved)
    }

    async fn wanted(
        &self,
        record: Record,
        same: bool,
        moved: &mut Moved,
    ) -> Result<Option<Record>, TransferFault> {
        if record.expires_ms <= now_ms() {
            moved.expired += 1;
            return Ok(None);
        }
        let there = self.store.get(record.id).await?;
        if there.is_some_and(|there| there.generated_ms >= record.generated_ms) {
            moved.already += 1;
            return Ok(None);
        }
        if same || record.vector.is_none() {
            return Ok(Some(record));
        }
        // Vectors of two models never meet: this one's text gets one of ours.
        let vector = match self.embedder.embed(record.question.clone()).await {
            Ok(Embedded::Vector(vector)) => {
                moved.embedded += 1;
                Some(vector)
            }
            // Then it is found by its exact request alone.
            Ok(Embedded::BeyondWindow { .. } | Embedded::UnknownWords { .. }) | Err(_) => None,
        };
        Ok(Some(Record { vector, ..record }))
    }

    async fn put(&self, mut batch: Vec<Record>, moved: &mut Moved) -> Result<(), TransferFault> {
        let limit = self.store.payload_max_bytes();
        let all = batch.len();
        batch.retain(|record| record.payload.len() <= limit);
        moved.refused += (all - batch.len()) as u64;
        let count = batch.len() as u64;
        if count > 0 {
            self.store.put(batch).await?;
        }
        moved.moved += count;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::{
        embed::{EmbedFault, Identity, cosine},
        store::{
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
        let records: Vec<_> = (1..=150).map(living).collect();
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
}
