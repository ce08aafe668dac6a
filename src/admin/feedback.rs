//! What users say of entries: `{"entry": "32 hex digits", "correct": false}`.

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, authority::Writer, entries::parse, refusal::Refusal};
use crate::cache::Mark;

/// A mark on the entry that `x-reprise-entry` named.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Feedback {
    entry: String,
    correct: bool,
}

pub(super) async fn feedback(
    writer: Writer,
    State(admin): State<Admin>,
    said: Result<Json<Feedback>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let Json(said) = said.map_err(|rejection| Refusal::bad_request(rejection.body_text()))?;
    let id = parse(&said.entry)?;
    let mark = if said.correct { Mark::Right } else { Mark::Wrong };
    let removed = admin.entries.mark(id, mark).await?.ok_or(Refusal::NO_ENTRY)?;
    let action = match mark {
        Mark::Right => "feedback_right",
        Mark::Wrong => {
            admin.observer.wrong(id);
            "feedback_wrong"
        }
    };
    writer.audit(action, &id.to_string(), removed);
    Ok(Json(json!({"entry": id.to_string(), "correct": said.correct, "removed": removed})))
}
