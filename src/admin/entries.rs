//! One entry of the cache, by its id: looking at it, and deleting it.

use std::net::SocketAddr;

use axum::{
    Json,
    extract::{Path, State},
};
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Admin, PurgeMode,
    authority::{MayWrite, Writer},
    explain::{Explained, Question},
    refusal::Refusal,
};
use crate::{
    cache::Mark,
    fault::Fault,
    observe::Prompts,
    store::{EntryId, Selector, StoreFault},
};

/// What the admin API needs of the cache.
pub trait Entries: Send + Sync + 'static {
    /// The entry of this id, from any tier.
    fn get(&self, id: EntryId) -> BoxFuture<'_, Result<Option<EntryView>, StoreFault>>;

    /// Deletes an answer with all of its keys from all tiers, and says how many records that were:
    /// none where there was no such entry.
    fn delete(&self, id: EntryId) -> BoxFuture<'_, Result<u64, StoreFault>>;

    /// Hears that an entry was right or wrong; a wrong one goes from all tiers with its keys and kin.
    /// Says how many records went, or `None` where there is no such entry.
    fn mark(&self, id: EntryId, mark: Mark) -> BoxFuture<'_, Result<Option<u64>, StoreFault>>;

    /// Counts or deletes, in all tiers, what a selector means: records of the store, or entries of
    /// memory where there is no store.
    fn purge(&self, selector: Selector, mode: PurgeMode) -> BoxFuture<'_, Result<u64, StoreFault>>;

    /// What would happen to a request that `peer` asks about, without letting it happen.
    fn explain(
        &self,
        peer: SocketAddr,
        question: Question,
    ) -> BoxFuture<'_, Result<Explained, Fault>>;
}

/// An entry without its answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EntryView {
    /// 32 hex digits.
    pub id: String,
    /// The tier that it was found in: `memory` or `store`.
    pub tier: &'static str,
    /// The model's name as the request gave it.
    pub model: String,
    /// The upstream that answered.
    pub route: String,
    /// Whose answer it is: the keyed hash.
    pub tenant: String,
    /// Free tags of the request.
    pub tags: Vec<String>,
    /// Unix milliseconds at which the answer was generated.
    pub generated_ms: u64,
    /// Unix milliseconds from which it is not served as fresh.
    pub expires_ms: u64,
    /// Size of the stored answer.
    pub bytes: u64,
    /// The last user turn; shown only with `log.prompts`, and only to who may write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
}

pub(super) async fn show(
    State(admin): State<Admin>,
    MayWrite(trusted): MayWrite,
    Path(id): Path<String>,
) -> Result<Json<EntryView>, Refusal> {
    let mut view = admin.entries.get(parse(&id)?).await?.ok_or(Refusal::NO_ENTRY)?;
    if !trusted || admin.observer.prompts() == Prompts::Withheld {
        view.question = None;
    }
    Ok(Json(view))
}

pub(super) async fn delete(
    writer: Writer,
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let id = parse(&id)?;
    let removed = admin.entries.delete(id).await?;
    writer.audit("delete", &id.to_string(), removed);
    match removed {
        0 => Err(Refusal::NO_ENTRY),
        _ => Ok(Json(json!({"id": id.to_string(), "removed": removed}))),
    }
}

pub(super) fn parse(id: &str) -> Result<EntryId, Refusal> {
    id.parse().map_err(Refusal::bad_request)
}
