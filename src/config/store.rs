//! `[store]`: the vector tier, in this process or on a server.

use std::path::PathBuf;

use serde::Deserialize;

use super::{Secret, SecretKey, Size, Span, units};
use crate::store::Quantization;

/// The vector tier.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// Which database.
    pub kind: StoreKind,
    /// The embedded store's folder; learned state and the tenants' key live there in every case.
    pub path: PathBuf,
    /// Answers that may wait to be written.
    pub queue: usize,
    /// Changed entries before the index is rebuilt.
    pub compact_after: usize,
    /// The embedded store's size on disk.
    pub max_bytes: Size,
    /// Answers that one tenant may keep; 0: any number.
    pub tenant_entries: u64,
    /// Bytes that one tenant's answers may take; 0: any number. Embedded only.
    pub tenant_bytes: Size,
    /// Whether the text of prompts is kept, or only what guards need of it.
    pub prompts: bool,
    /// A server's address.
    pub url: String,
    /// What a server lets us in by.
    #[serde(deserialize_with = "units::secret")]
    pub api_key: Option<Secret>,
    /// The beginning of our collections' names on a server.
    pub prefix: String,
    /// The most that one lookup on a server may take.
    pub timeout: Span,
    /// Lookups on a server at a time.
    pub in_flight: usize,
    /// Copies of a collection that a server keeps.
    pub replicas: u32,
    /// Parts that a server splits a collection into.
    pub shards: u32,
    /// Copies that must have a write before it counts (Qdrant).
    pub write_consistency: u32,
    /// How vectors are kept for finding candidates.
    pub quantization: Quantization,
    /// Keys that answers and prompts are encrypted with at rest; the first one encrypts.
    pub encryption_keys: Vec<SecretKey>,
    /// The tenants' key, 64 hex digits, shared by all replicas on one store.
    #[serde(deserialize_with = "units::secret")]
    pub tenant_key: Option<SecretKey>,
}

/// Which vector database.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// Qdrant Edge in this process.
    Embedded,
    /// A Milvus server.
    Milvus,
    /// A Qdrant server.
    Qdrant,
    /// An index of Pinecone.
    Pinecone,
    /// None: the memory tier only.
    Off,
}

impl StoreKind {
    /// Is it behind a network?
    pub const fn is_remote(self) -> bool {
        match self {
            Self::Milvus | Self::Qdrant | Self::Pinecone => true,
            Self::Embedded | Self::Off => false,
        }
    }
}
