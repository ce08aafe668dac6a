//! Pinecone, over its REST API of 2025-10: one index, a namespace a collection.
//!
//! Metadata of a record may have 40 KB there, so an answer lies in pieces in a second namespace. All
//! reads are eventually consistent: a write is visible some seconds after it was acknowledged, and a
//! count may miss it. Purges are exact all the same for what is served, by the fences of the cache.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use self::rows::Metadata;
use super::{
    EntryId, Holding, Neighbour, Record, Selector, StoreFault, StoreReport, VectorStore,
    collection::Collection,
    remote::{Address, Remote},
};
use crate::embed::Vector;

mod rows;

const API_VERSION: &str = "2025-10";

/// Ids of one fetch, which stand in its URL; records of one page.
const FETCH_PAGE: usize = 100;

/// Ids of one deletion.
const DELETE_PAGE: usize = 1000;

/// Bytes of one upsert: the API takes 2 MB.
const UPSERT_BYTES: usize = 1_500_000;

/// One request of several that a write makes.
const CALL_TIME: Duration = Duration::from_secs(30);

/// One namespace of one index.
pub struct Pinecone {
    client: reqwest::Client,
    host: String,
    key: String,
    collection: Collection,
    /// Of the index: every record needs a vector of it, in whatever namespace.
    dimension: usize,
    /// As of the last count.
    records: Mutex<u64>,
}

/// A record or a piece of one, as the API gives it.
#[derive(Deserialize)]
struct Found {
    id: String,
    #[serde(default)]
    values: Vec<f32>,
    #[serde(default)]
    score: f32,
    #[serde(default)]
    metadata: Value,
}

#[derive(Deserialize)]
struct Fetched {
    #[serde(default)]
    vectors: std::collections::HashMap<String, Found>,
    pagination: Option<Pagination>,
}

#[derive(Deserialize)]
struct Pagination {
    next: Option<String>,
}

#[derive(Deserialize)]
struct Matches {
    #[serde(default)]
    matches: Vec<Found>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    dimension: Option<usize>,
    metric: Option<String>,
}

impl Pinecone {
    /// A namespace of the index at `address.url`, whose vectors have `dimension` numbers.
    ///
    /// # Errors
    /// Where no client can be built, or the key is missing.
    pub fn new(
        address: &Address,
        collection: Collection,
        dimension: usize,
    ) -> Result<Self, StoreFault> {
        let client = reqwest::Client::builder()
            .connect_timeout(address.connect_timeout)
            .timeout(CALL_TIME)
            .build()
            .map_err(|error| StoreFault::Failed(error.to_string()))?;
        let key = address.api_key.clone();
        let key = key.ok_or_else(|| StoreFault::Failed("store.api_key is missing".to_owned()))?;
        let host = address.url.trim_end_matches('/').to_owned();
        Ok(Self { client, host, key, collection, dimension, records: Mutex::new(0) })
    }

    fn namespace(&self) -> &str {
        &self.collection.name
    }

    fn pieces(&self) -> String {
        format!("{}-pieces", self.collection.name)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, StoreFault> {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.host))
            .header("Api-Key", &self.key)
            .header("X-Pinecone-Api-Version", API_VERSION);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let gone = |error: reqwest::Error| StoreFault::Unavailable(error.without_url().to_string());
        let answer = request.send().await.map_err(gone)?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(gone)?;
        if status.is_success() {
            let parsed = serde_json::from_slice(&bytes);
            return parsed.map_err(|error| StoreFault::Failed(format!("its answer: {error}")));
        }
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS => StoreFault::Busy,
            StatusCode::INSUFFICIENT_STORAGE | StatusCode::PAYMENT_REQUIRED => {
                StoreFault::Full(text)
            }
            status if status.is_server_error() => {
                StoreFault::Unavailable(format!("{status} {text}"))
            }
            status => StoreFault::Failed(format!("{status} {text}")),
        })
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: Value) -> Result<T, StoreFault> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// The records of these ids in one namespace, in no order.
    async fn fetch(&self, namespace: &str, ids: &[String]) -> Result<Vec<Found>, StoreFault> {
        let mut found = Vec::new();
        for ids in ids.chunks(FETCH_PAGE) {
            let mut path = format!("/vectors/fetch?namespace={namespace}");
            for id in ids {
                // `#` would begin a fragment.
                path.push_str(&format!("&ids={}", id.replace('#', "%23")));
            }
            let fetched: Fetched = self.call(Method::GET, &path, None).await?;
            found.extend(fetched.vectors.into_values());
        }
        Ok(found)
    }

    async fn get_one(&self, id: EntryId) -> Result<Option<Record>, StoreFault> {
        let Some(found) = self.fetch(self.namespace(), &[id.to_string()]).await?.pop() else {
            return Ok(None);
        };
        let Some(metadata) = told(Metadata::read(&found.metadata)) else { return Ok(None) };
        let names = rows::piece_ids(id, 0..metadata.pieces);
        let pieces = self.fetch(&self.pieces(), &names).await?;
        let payload = rows::joined(&names, pieces.into_iter().map(|one| (one.id, one.metadata)));
        // Without all of its pieces it is as good as none: the next put writes over it.
        Ok(told(payload).and_then(|payload| told(metadata.record(id, found.values, payload))))
    }

    async fn nearest_in(
        &self,
        partition: Arc<str>,
        vector: Vector,
        limit: usize,
    ) -> Result<Vec<Neighbour>, StoreFault> {
        let query = json!({
            "namespace": self.namespace(),
            "vector": &*vector,
            "topK": limit,
            "filter": {"partition": {"$eq": &*partition}, "near": {"$eq": true}},
            "includeMetadata": true,
            "includeValues": false,
        });
        let Matches { matches } = self.post("/query", query).await?;
        let near = matches.iter().filter_map(|found| {
            let metadata = told(Metadata::read(&found.metadata))?;
            told(metadata.neighbour(&found.id, found.score))
        });
        Ok(near.filter(|one| one.partition == partition).collect())
    }

    async fn put_all(&self, records: Vec<Record>) -> Result<(), StoreFault> {
        for record in &records {
            rows::check_size(record)?;
        }
        let ids: Vec<_> = records.iter().map(|record| record.id.to_string()).collect();
        let before = self.fetch(self.namespace(), &ids).await?;
        let pieces = records.iter().flat_map(|record| rows::pieces(record, self.dimension));
        self.upsert(&self.pieces(), pieces.collect()).await?;
        let whole = records.iter().map(|record| rows::row(record, self.dimension));
        self.upsert(self.namespace(), whole.collect()).await?;
        // What the records before them had more of.
        let mut surplus = Vec::new();
        for found in &before {
            let Ok(metadata) = Metadata::read(&found.metadata) else { continue };
            let new = records.iter().rfind(|record| record.id.to_string() == found.id);
            if let Some(new) = new {
                surplus.extend(rows::piece_ids(new.id, rows::pieces_of(new)..metadata.pieces));
            }
        }
        self.remove(&self.pieces(), &surplus).await
    }

    async fn upsert(&self, namespace: &str, rows: Vec<Value>) -> Result<(), StoreFault> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for row in rows {
            let size = row.to_string().len();
            if bytes + size > UPSERT_BYTES && !batch.is_empty() {
                let vectors = std::mem::take(&mut batch);
                let body = json!({"namespace": namespace, "vectors": vectors});
                let _: Value = self.post("/vectors/upsert", body).await?;
                bytes = 0;
            }
            bytes += size;
            batch.push(row);
        }
        if !batch.is_empty() {
            let body = json!({"namespace": namespace, "vectors": batch});
            let _: Value = self.post("/vectors/upsert", body).await?;
        }
        Ok(())
    }

    async fn remove(&self, namespace: &str, ids: &[String]) -> Result<(), StoreFault> {
        for ids in ids.chunks(DELETE_PAGE) {
            let body = json!({"namespace": namespace, "ids": ids});
            let _: Value = self.post("/vectors/delete", body).await?;
        }
        Ok(())
    }

    /// Each record that a selector means, with its pieces.
    async fn meant(&self, selector: &Selector) -> Result<Vec<(Holding, usize)>, StoreFault> {
        let mut meant = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut body = json!({
                "namespace": self.namespace(),
                "filter": rows::filter(selector),
                "limit": FETCH_PAGE,
            });
            if let Some(token) = next.take() {
                body["paginationToken"] = token.into();
            }
            let page: Fetched = self.post("/vectors/fetch_by_metadata", body).await?;
            for found in page.vectors.into_values() {
                if let Some(metadata) = told(Metadata::read(&found.metadata))
                    && let Some(holding) = told(metadata.holding(&found.id))
                {
                    meant.push((holding, metadata.pieces));
                }
            }
            next = page.pagination.and_then(|pagination| pagination.next);
            if next.is_none() {
                return Ok(meant);
            }
        }
    }

    async fn count_all(&self, selector: Selector) -> Result<u64, StoreFault> {
        let count = self.meant(&selector).await?.len() as u64;
        if selector == Selector::All {
            *self.records.lock() = count;
        }
        Ok(count)
    }

    async fn delete_all(&self, selector: Selector) -> Result<u64, StoreFault> {
        let meant = self.meant(&selector).await?;
        let ids: Vec<_> = meant.iter().map(|(holding, _)| holding.id.to_string()).collect();
        let pieces: Vec<_> = meant
            .iter()
            .flat_map(|(holding, pieces)| rows::piece_ids(holding.id, 0..*pieces))
            .collect();
        self.remove(self.namespace(), &ids).await?;
        self.remove(&self.pieces(), &pieces).await?;
        Ok(ids.len() as u64)
    }
}

impl Remote for Pinecone {
    fn prepare(&self) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(async move {
            let stats: Stats = self.post("/describe_index_stats", json!({})).await?;
            let (found, wanted) = (stats.dimension.unwrap_or(self.dimension), self.dimension);
            if found != wanted {
                return Err(StoreFault::Failed(format!(
                    "the index has vectors of {found} numbers, not {wanted}: make another index"
                )));
            }
            if stats.metric.is_some_and(|metric| metric != "cosine") {
                return Err(StoreFault::Failed("the index's metric is not cosine".to_owned()));
            }
            Ok(())
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(async move {
            self.fetch(self.namespace(), &[EntryId(0).to_string()]).await.map(|_| ())
        })
    }
}

impl VectorStore for Pinecone {
    fn get(&self, id: EntryId) -> BoxFuture<'_, Result<Option<Record>, StoreFault>> {
        Box::pin(self.get_one(id))
    }

    fn nearest(
        &self,
        partition: Arc<str>,
        vector: Vector,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Neighbour>, StoreFault>> {
        Box::pin(self.nearest_in(partition, vector, limit))
    }

    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(self.put_all(super::remote::latest(records)))
    }

    fn count(&self, selector: Selector) -> BoxFuture<'_, Result<u64, StoreFault>> {
        Box::pin(self.count_all(selector))
    }

    fn delete(&self, selector: Selector) -> BoxFuture<'_, Result<u64, StoreFault>> {
        Box::pin(self.delete_all(selector))
    }

    fn holdings(&self, selector: Selector) -> BoxFuture<'_, Result<Vec<Holding>, StoreFault>> {
        Box::pin(async move {
            let meant = self.meant(&selector).await?;
            Ok(meant.into_iter().map(|(holding, _)| holding).collect())
        })
    }

    /// An acknowledged write is durable there.
    fn flush(&self) -> BoxFuture<'_, Result<(), StoreFault>> {
        Box::pin(async { Ok(()) })
    }

    fn report(&self) -> StoreReport {
        StoreReport {
            kind: "pinecone",
            collection: self.collection.name.clone(),
            records: *self.records.lock(),
            ..StoreReport::default()
        }
    }

    fn payload_max_bytes(&self) -> usize {
        rows::PAYLOAD_MAX_BYTES
    }
}

/// One damaged record must not fail a whole lookup, nor look like a failing service.
fn told<T>(row: Result<T, StoreFault>) -> Option<T> {
    row.inspect_err(|fault| tracing::warn!(%fault, "a stored record is skipped")).ok()
}

#[cfg(test)]
mod tests;
