//! Answers and prompts at rest that only who has the key can read.
//!
//! Stands before any store. Sealed are a record's payload and its question; what is needed to find,
//! count and purge stays in clear: hashes, vectors, times, the names of model and route, tags. A
//! vector tells something of its text, so an encrypted store is still no place for strangers.
//!
//! XChaCha20-Poly1305 with random 192-bit nonces, which never repeat however many replicas write.
//! Each text is bound to its record's id: a store cannot swap two. The first key seals, all of them
//! open, so a new key is put before the old ones and those are removed a TTL later.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use futures_util::future::BoxFuture;

use super::{
    EntryId, Holding, Neighbour, Record, Selector, StoreFault, StoreReport, VectorStore, meta::Meta,
};
use crate::embed::Vector;

/// Begins what is sealed. A payload in clear begins with `{`, a question hardly ever with this.
const MARK: &[u8] = b"\x01rs1";
/// The same for a text, which must be printable everywhere.
const TEXT_MARK: &str = "\u{1}rs1:";
/// Which key, in the first bytes of its hash.
const KEY_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// What sealing adds to a payload.
const FRAME_BYTES: usize = MARK.len() + KEY_BYTES + NONCE_BYTES + TAG_BYTES;

/// A store whose answers and prompts are encrypted.
pub struct Sealed {
    inner: Arc<dyn VectorStore>,
    keys: Keys,
}

impl Sealed {
    /// Before `inner`; the first of `keys` seals. `None` without a key.
    pub fn new(inner: Arc<dyn VectorStore>, keys: &[[u8; 32]]) -> Option<Self> {
        Keys::new(keys).map(|keys| Self { inner, keys })
    }
}

struct Keys {
    first: Key,
    others: Vec<Key>,
}

struct Key {
    name: [u8; KEY_BYTES],
    cipher: XChaCha20Poly1305,
}

impl Key {
    fn new(key: &[u8; 32]) -> Self {
        let mut name = [0; KEY_BYTES];
        name.copy_from_slice(&blake3::hash(key).as_bytes()[..KEY_BYTES]);
        Self { name, cipher: XChaCha20Poly1305::new(&(*key).into()) }
    }
}

/// What of a record is sealed; part of what is authenticated.
#[derive(Clone, Copy)]
enum Part {
    Payload = 1,
    Question = 2,
}

fn bound_to(id: EntryId, part: Part) -> [u8; 17] {
    let mut bound = [part as u8; 17];
    bound[1..].copy_from_slice(&id.0.to_be_bytes());
    bound
}

impl Keys {
    fn new(keys: &[[u8; 32]]) -> Option<Self> {
        let mut keys = keys.iter().map(Key::new);
        Some(Self { first: keys.next()?, others: keys.collect() })
    }

    fn seal(&self, id: EntryId, part: Part, clear: &[u8]) -> Result<Vec<u8>, StoreFault> {
        let failed = || StoreFault::Failed("a record cannot be encrypted".to_owned());
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| failed())?;
        let text = Payload { msg: clear, aad: &bound_to(id, part) };
        let sealed = self.first.cipher.encrypt(&XNonce::from(nonce), text);
        let sealed = sealed.map_err(|_| failed())?;
        let mut all = Vec::with_capacity(KEY_BYTES + NONCE_BYTES + sealed.len());
        all.extend_from_slice(&self.first.name);
        all.extend_from_slice(&nonce);
        all.extend(sealed);
        Ok(all)
    }

    /// `None`: another key's, or not what was sealed.
    fn open(&self, id: EntryId, part: Part, sealed: &[u8]) -> Option<Vec<u8>> {
        let (name, sealed) = sealed.split_first_chunk::<KEY_BYTES>()?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let key = std::iter::once(&self.first).chain(&self.others).find(|key| key.name == *name)?;
        let text = Payload { msg: sealed, aad: &bound_to(id, part) };
        key.cipher.decrypt(&XNonce::from(*nonce), text).ok()
    }

    fn seal_record(&self, record: Record) -> Result<Record, StoreFault> {
        let mut payload = record.payload;
        if !payload.is_empty() {
            let sealed = self.seal(record.id, Part::Payload, &payload)?;
            payload = [MARK, &sealed].concat().into();
        }
        let mut question = record.question;
        if !question.is_empty() {
            let sealed = self.seal(record.id, Part::Question, question.as_bytes())?;
            question = format!("{TEXT_MARK}{}", BASE64_STANDARD_NO_PAD.encode(sealed)).into();
        }
        Ok(Record { payload, question, ..record })
    }

    /// Records from before encryption was turned on are in clear and stay readable.
    fn open_record(&self, record: Record) -> Option<Record> {
        let payload = match record.payload.strip_prefix(MARK) {
            None => record.payload,
            Some(sealed) => self.open(record.id, Part::Payload, sealed)?.into(),
        };
        let question = self.open_question(record.id, record.question)?;
        Some(Record { payload, question, ..record })
    }

    fn open_question(&self, id: EntryId, question: Arc<str>) -> Option<Arc<str>> {
        let Some(sealed) = question.strip_prefix(TEXT_MARK) else { return Some(question) };
        let sealed = BASE64_STANDARD_NO_PAD.decode(sealed).ok()?;
        let clear = self.open(id, Part::Question, &sealed)?;
        String::from_utf8(clear).ok().map(Arc::from)
    }
}

/// What cannot be opened is not there: the next answer is written over it.
fn told<T>(opened: Option<T>, id: EntryId) -> Option<T> {
    if opened.is_none() {
        tracing::warn!(%id, "a stored record is skipped: none of store.encryption_keys opens it");
    }
    opened
}

impl VectorStore for Sealed {
    fn get(&self, id: EntryId) -> BoxFuture<'_, Result<Option<Record>, StoreFault>> {
        Box::pin(async move {
            let record = self.inner.get(id).await?;
            Ok(record.and_then(|record| told(self.keys.open_record(record), id)))
        })
    }

    fn nearest(
        &self,
        partition: Arc<str>,
        vector: Vector,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Neighbour>, StoreFault>> {
        Box::pin(async move {
            let found = self.inner.nearest(partition, vector, limit).await?;
            let opened = found.into_iter().filter_map(|near| {
                let question = told(self.keys.open_question(near.id, near.question), near.id)?;
                Some(Neighbour { question, ..near })
            });
            Ok(opened.collect())
        })
    }

    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(async move {
            let sealed = records.into_iter().map(|record| self.keys.seal_record(record));
            self.inner.put(sealed.collect::<Result<_, _>>()?).await
        })
    }

    fn count(&self, selector: Selector) -> BoxFuture<'_, Result<u64, StoreFault>> {
        self.inner.count(selector)
    }

    fn delete(&self, selector: Selector) -> BoxFuture<'_, Result<u64, StoreFault>> {
        self.inner.delete(selector)
    }

    fn answers(&self, selector: Selector) -> BoxFuture<'_, Result<Vec<EntryId>, StoreFault>> {
        self.inner.answers(selector)
    }

    fn holdings(&self, selector: Selector) -> BoxFuture<'_, Result<Vec<Holding>, StoreFault>> {
        self.inner.holdings(selector)
    }

    fn weight(&self, record: &Record) -> u64 {
        let frame = if record.payload.is_empty() { 0 } else { FRAME_BYTES };
        self.inner.weight(record) + frame as u64
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), StoreFault>> {
        self.inner.flush()
    }

    fn report(&self) -> StoreReport {
        self.inner.report()
    }

    fn others(&self) -> BoxFuture<'_, Result<Vec<String>, StoreFault>> {
        self.inner.others()
    }

    fn payload_max_bytes(&self) -> usize {
        self.inner.payload_max_bytes().saturating_sub(FRAME_BYTES)
    }

    fn meta(&self) -> Option<&Meta> {
        self.inner.meta()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        embed::Identity,
        store::{
            contract::{self, DIMENSION, assert_stored, record},
            embedded::{Embedded, EmbeddedOptions},
        },
    };

    fn embedded(path: &std::path::Path) -> Arc<dyn VectorStore> {
        let identity = Identity {
            name: "m".into(),
            digest: "0".repeat(16),
            dimension: DIMENSION,
            window_tokens: 256,
        };
        let options = EmbeddedOptions {
            path: path.to_owned(),
            identity,
            queue: 1024,
            compact_after: usize::MAX,
            max_bytes: u64::MAX,
            quantization: crate::store::Quantization::None,
        };
        Arc::new(Embedded::open(options).unwrap())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_sealed_store_keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        contract::check(async || Sealed::new(embedded(dir.path()), &[[1; 32]]).unwrap()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_that_was_said_lies_in_clear_and_keys_can_be_changed() {
        let dir = tempfile::tempdir().unwrap();
        let inner = embedded(dir.path());
        let with = |keys: &[[u8; 32]]| Sealed::new(inner.clone(), keys).unwrap();
        inner.put(vec![record(1)]).await.unwrap();
        with(&[[1; 32]]).put(vec![record(2)]).await.unwrap();
        let raw = inner.get(record(2).id).await.unwrap().unwrap();
        assert!(!raw.question.contains("question"));
        assert!(!raw.payload.windows(6).any(|bytes| bytes == b"answer"));

        // What was in clear, and what the old key sealed, stays readable behind a new key.
        let changed = with(&[[9; 32], [1; 32]]);
        changed.put(vec![record(3)]).await.unwrap();
        for seed in 1..=3 {
            assert_stored(&changed, &record(seed)).await;
        }
        let only_old = with(&[[1; 32]]);
        assert_eq!(only_old.get(record(3).id).await, Ok(None));
        let near = only_old.nearest(record(3).partition, record(3).vector.unwrap(), 4).await;
        assert_eq!(near, Ok(vec![]));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn texts_cannot_be_swapped_nor_changed() {
        let dir = tempfile::tempdir().unwrap();
        let inner = embedded(dir.path());
        let sealed = Sealed::new(inner.clone(), &[[1; 32]]).unwrap();
        sealed.put(vec![record(1), record(2)]).await.unwrap();
        let (one, two) = (record(1).id, record(2).id);
        let stolen = inner.get(one).await.unwrap().unwrap();
        inner.put(vec![Record { id: two, ..stolen.clone() }]).await.unwrap();
        assert_eq!(sealed.get(two).await, Ok(None));
        let mut bytes = stolen.payload.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        inner.put(vec![Record { payload: bytes.into(), ..stolen }]).await.unwrap();
        assert_eq!(sealed.get(one).await, Ok(None));
    }

    #[test]
    fn no_key_no_sealing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Sealed::new(embedded(dir.path()), &[]).is_none());
    }
}
