//! Answers on their way out of one store and into another: `reprise export` and `reprise import`.
//!
//! A file has a line for what the vectors mean, then a line an answer, all JSON. Both directions may
//! be interrupted and run again: what is there already is not done twice. Keys that were learned for an
//! answer (aliases) are carried along, each with the answer that it leads to.

mod export;
mod import;
mod line;

use std::{io, sync::Arc};

use self::line::{FORMAT, Head};
use super::{embedder, open, store};
use crate::{
    cache::guards::Veil,
    config::{Config, StoreKind},
    embed::Embedder,
    store::{StoreFault, StoreReport, VectorStore},
};

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

/// The store of a configuration with the embedder that its collection is of.
pub struct Depot {
    embedder: Arc<dyn Embedder>,
    store: Arc<dyn VectorStore>,
    /// Where the store may not hold prompts.
    veil: Option<Veil>,
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
        let veil = if config.store.prompts {
            None
        } else {
            let key = open::tenant_key_of(config);
            Some(Veil::new(&key.map_err(|fault| TransferFault::Open(fault.to_string()))?))
        };
        Ok(Self { veil, ..Self::new(embedder, store) })
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
        Self { embedder, store, veil: None }
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
}

#[cfg(test)]
mod tests;
