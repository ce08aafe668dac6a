//! The files under test, by the names that they have in the house. `wire`, `fault` and what they are
//! written with are links to whole rooms; of the others only the files that are meant.

pub mod fault;
pub mod frames;
pub mod line;
pub mod wire;

/// What reads connections and heads.
#[path = "../../src/front"]
pub mod front {
    pub mod hygiene;
    mod peer;
    pub mod proxy_protocol;

    pub use self::peer::{Origin, Peer, TlsInfo};
}

/// What those ask of the settings.
#[path = "../../src/config"]
pub mod config {
    mod trusted;

    pub use self::trusted::Trusted;

    /// As in the settings.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Alpn {}

    /// As in the settings.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum TlsVersion {
        /// TLS 1.3.
        V13,
    }
}

/// A path of each dialect.
pub const PATHS: [&str; 25] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/moderations",
    "/v1/rerank",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1beta/models/g:generateContent",
    "/v1beta/models/g:streamGenerateContent",
    "/v1beta/models/g:countTokens",
    "/v1beta/models/g:batchEmbedContents",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/v2/chat",
    "/v2/embed",
    "/generate",
    "/generate_stream",
    "/completion",
    "/model/m/converse",
    "/model/m/converse-stream",
    "/v2/models/m/infer",
    "/v2/models/m/generate_stream",
    "/v1/models/m:predict",
];
