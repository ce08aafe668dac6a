//! Taking over a changed configuration file.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};

use super::{Admin, authority::Writer, refusal::Refusal};

/// Whoever can read the configuration again and put it in place.
pub trait Reload: Send + Sync + 'static {
    /// All of it or nothing: the names of what changed. It blocks for as long as reading files
    /// takes, and must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Why nothing was changed, for a person.
    fn reload(&self) -> Result<Vec<&'static str>, String>;
}

pub(super) async fn reload(
    State(admin): State<Admin>,
    writer: Writer,
) -> Result<Json<Value>, Refusal> {
    let reloader: Arc<dyn Reload> = admin.reloader.clone().ok_or(Refusal::NOT_FOUND)?;
    let changed = tokio::task::spawn_blocking(move || reloader.reload()).await;
    let changed = changed.map_err(|error| Refusal::broken(error.to_string()))?;
    let changed = changed.map_err(|message| Refusal {
        status: StatusCode::UNPROCESSABLE_ENTITY,
        code: "not_reloaded",
        message: message.into(),
    })?;
    writer.audit("reload", &changed.join(","), 0);
    Ok(Json(json!({ "changed": changed })))
}
