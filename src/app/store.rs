//! Opening the configured store.

use std::{sync::Arc, time::Duration};

use super::open::blocking;
use crate::{
    config::{Store, StoreKind},
    embed::Identity,
    store::{
        StoreFault, VectorStore,
        collection::Collection,
        embedded::{Embedded, EmbeddedOptions},
        meta::Meta,
        milvus::{Milvus, MilvusOptions},
        pinecone::Pinecone,
        qdrant::{Qdrant, QdrantOptions},
        remote::{Address, Limits, Remote, Shield},
        sealed::Sealed,
    },
};

/// Starting waits so long for a server. One that takes longer is used as soon as it answers.
const PATIENCE: Duration = Duration::from_secs(5);

const CONNECT_TIME: Duration = Duration::from_secs(2);

/// Lookups of shared records are nobody's answer: they may take this long.
const META_TIME: Duration = Duration::from_secs(5);

/// The store, open; a server's may still be on its way.
///
/// # Errors
/// Why there is none, for people.
pub(super) async fn open(
    config: &Store,
    identity: Identity,
) -> Result<Arc<dyn VectorStore>, String> {
    let store = kind(config, identity).await?;
    let keys: Vec<_> = config.encryption_keys.iter().map(|key| *key.reveal()).collect();
    match Sealed::new(store.clone(), &keys) {
        Some(sealed) => Ok(Arc::new(sealed)),
        None => Ok(store),
    }
}

async fn kind(config: &Store, identity: Identity) -> Result<Arc<dyn VectorStore>, String> {
    let collection = Collection::of(&config.prefix, &identity);
    match config.kind {
        StoreKind::Off => Err("store.kind = \"off\"".to_owned()),
        StoreKind::Embedded => {
            let options = EmbeddedOptions {
                path: config.path.clone(),
                identity,
                queue: config.queue,
                compact_after: config.compact_after,
                max_bytes: config.max_bytes.0,
                quantization: config.quantization,
            };
            let store = blocking(move || Embedded::open(options)).await?;
            Ok(Arc::new(store))
        }
        StoreKind::Milvus => {
            let options = MilvusOptions {
                replicas: config.replicas.cast_signed(),
                shards: config.shards.cast_signed(),
                quantization: config.quantization,
            };
            shielded(config, collection, |address, collection| {
                Milvus::new(address, collection, options)
            })
            .await
        }
        StoreKind::Qdrant => {
            let options = QdrantOptions {
                shards: config.shards,
                replicas: config.replicas,
                write_consistency: config.write_consistency,
                quantization: config.quantization,
            };
            shielded(config, collection, |address, collection| {
                Qdrant::new(address, collection, options)
            })
            .await
        }
        StoreKind::Pinecone => {
            let dimension = collection.dimension;
            shielded(config, collection, |address, collection| {
                Pinecone::new(address, collection, dimension)
            })
            .await
        }
    }
}

/// The collection of answers and that of shared records, each behind a shield of its own.
async fn shielded<R: Remote>(
    config: &Store,
    collection: Collection,
    open: impl Fn(&Address, Collection) -> Result<R, StoreFault>,
) -> Result<Arc<dyn VectorStore>, String> {
    let address = Address {
        url: config.url.trim_end_matches('/').to_owned(),
        api_key: config.api_key.as_ref().map(|key| key.reveal().to_owned()),
        connect_timeout: CONNECT_TIME,
    };
    let limits = Limits { lookup: config.timeout.get(), in_flight: config.in_flight };
    let told = |fault: StoreFault| fault.to_string();
    let shared = open(&address, Collection::meta(&config.prefix)).map_err(told)?;
    let shared = Arc::new(Shield::new(shared, Limits { lookup: META_TIME, ..limits }, None));
    let meta = Meta::new(shared.clone());
    let answers = open(&address, collection).map_err(told)?;
    let store = Shield::new(answers, limits, Some(meta));
    // Shared records too: nothing is served by meaning before the marks of others have been read.
    let (answers, _) = tokio::join!(store.ready(PATIENCE), shared.ready(PATIENCE));
    if !answers {
        let trouble = store.report().trouble.unwrap_or_default();
        tracing::warn!(trouble, url = address.url, "the store does not answer yet");
    }
    Ok(Arc::new(store))
}
