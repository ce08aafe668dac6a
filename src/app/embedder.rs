//! Opening the configured embedder.

use std::sync::Arc;

use super::open;
use crate::{
    config::{Embed, EmbedKind},
    embed::{
        Embedder, Identity, local,
        remote::{Api, Remote, RemoteOptions},
    },
};

/// The embedder, warm.
///
/// # Errors
/// Why there is none, for people.
pub(super) async fn open(config: &Embed) -> Result<Arc<dyn Embedder>, String> {
    let api = match config.kind {
        EmbedKind::OpenAi => Api::OpenAi,
        EmbedKind::Tei => Api::Tei,
        EmbedKind::Local => return open::local(config).await,
    };
    let options = RemoteOptions {
        api,
        url: config.url.clone(),
        model: config.model.clone(),
        api_key: config.api_key.as_ref().map(|key| key.reveal().to_owned()),
        timeout: config.timeout.get(),
        in_flight: config.queue,
        window_tokens: config.window_tokens,
    };
    let remote = Remote::open(options).await.map_err(|error| error.to_string())?;
    Ok(Arc::new(remote))
}

/// What [`open`] will find the embedder's identity to be, where that is told by files here.
pub(super) async fn foresee(config: &Embed) -> Option<Identity> {
    if config.kind != EmbedKind::Local {
        return None;
    }
    let model = config.model.clone();
    tokio::task::spawn_blocking(move || local::foresee(&model)).await.ok().flatten()
}
