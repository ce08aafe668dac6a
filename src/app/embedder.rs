//! Opening the configured embedder.

use std::sync::Arc;

use super::open::blocking;
use crate::{
    config::{Embed, EmbedKind},
    embed::{
        Embedder,
        local::{Local, LocalOptions},
        remote::{Api, Remote, RemoteOptions},
    },
};

/// The embedder, warm. Loading a model is blocking work of a quarter of a second.
///
/// # Errors
/// Why there is none, for people.
pub(super) async fn open(config: &Embed) -> Result<Arc<dyn Embedder>, String> {
    let api = match config.kind {
        EmbedKind::OpenAi => Api::OpenAi,
        EmbedKind::Tei => Api::Tei,
        EmbedKind::Local => return local(config).await,
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

async fn local(config: &Embed) -> Result<Arc<dyn Embedder>, String> {
    let options = LocalOptions {
        model: config.model.clone(),
        ort_dylib: config.ort_dylib.clone(),
        threads: config.threads,
        queue: config.queue,
        max_batch: config.max_batch,
        provider: config.provider,
    };
    let local = blocking(move || Local::open(options)).await?;
    Ok(Arc::new(local))
}
