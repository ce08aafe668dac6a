//! Why a request was not answered from the cache: one closed list, whose names are shared by
//! `Cache-Status`, logs, metrics and tests.

use crate::{
    embed::EmbedFault,
    store::StoreFault,
    wire::{ExactOnly, NotStorable},
};

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `cache.enabled = false`.
    CacheOff,
    /// Not a call whose answer can be kept (path or method).
    NotCacheable,
    /// The request has no tenant: the configured scope header is missing.
    NoScope,
    /// The dialect is not certain what the request says.
    Unreadable,
    /// The request body is compressed.
    EncodedRequest,
    /// `x-reprise-mode: off`.
    ModeOff,
    /// `Cache-Control: no-store`.
    NoStore,
    /// Hotter than `cache.max_temperature`.
    Temperature,
    /// `Cache-Control: no-cache`.
    NoCache,
    /// Older than `Cache-Control: max-age` allows.
    TooOld,
    /// Its life is over.
    Stale,
    /// The stored stream lacks the token counts that this client wants.
    UsageUnknown,
    /// `x-reprise-mode: exact`.
    ModeExact,
    /// `cache.semantic.policy = "off"`, or no store or embedder is configured.
    SemanticOff,
    /// The request can only be repeated exactly.
    ExactOnly(ExactOnly),
    /// The question does not fit into the embedding model's window.
    BeyondWindow,
    /// The question holds words that the embedding model has no tokens for.
    UnknownWords,
    /// Nothing is stored in its partition.
    NoNeighbour,
    /// The nearest stored question is not near enough.
    BelowSimilarity,
    /// Near, but a number differs.
    GuardNumbers,
    /// Near, but one is negated.
    GuardNegation,
    /// `cache.semantic.mode = "shadow"`: it would have been a hit.
    Shadow,
    /// The lookup took longer than `cache.semantic.lookup_deadline`.
    LookupDeadline,
    /// The embedder's queue is full.
    EmbedBusy,
    /// The embedder is gone.
    EmbedDead,
    /// The embedder failed on this text.
    EmbedFailed,
    /// The store's queue is full.
    StoreBusy,
    /// The store cannot be reached.
    StoreUnavailable,
    /// The store failed.
    StoreFailed,
    /// The answer is not kept.
    NotKept(NotStorable),
}

impl Reason {
    /// All names with which a request can pass the cache by or miss it: metrics begin at zero.
    pub const NAMES: [&'static str; 33] = [
        "cache_off",
        "not_cacheable",
        "no_scope",
        "unreadable_request",
        "encoded_request",
        "mode_off",
        "no_store",
        "temperature",
        "no_cache",
        "too_old",
        "stale",
        "usage_unknown",
        "mode_exact",
        "semantic_off",
        "beyond_window",
        "unknown_words",
        "no_neighbour",
        "below_similarity",
        "guard_numbers",
        "guard_negation",
        "shadow",
        "lookup_deadline",
        "embed_busy",
        "embed_dead",
        "embed_failed",
        "store_busy",
        "store_unavailable",
        "store_failed",
        "several_choices",
        "logprobs",
        "last_turn_not_user",
        "no_text",
        "modality",
    ];

    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CacheOff => "cache_off",
            Self::NotCacheable => "not_cacheable",
            Self::NoScope => "no_scope",
            Self::Unreadable => "unreadable_request",
            Self::EncodedRequest => "encoded_request",
            Self::ModeOff => "mode_off",
            Self::NoStore => "no_store",
            Self::Temperature => "temperature",
            Self::NoCache => "no_cache",
            Self::TooOld => "too_old",
            Self::Stale => "stale",
            Self::UsageUnknown => "usage_unknown",
            Self::ModeExact => "mode_exact",
            Self::SemanticOff => "semantic_off",
            Self::ExactOnly(why) => why.name(),
            Self::BeyondWindow => "beyond_window",
            Self::UnknownWords => "unknown_words",
            Self::NoNeighbour => "no_neighbour",
            Self::BelowSimilarity => "below_similarity",
            Self::GuardNumbers => "guard_numbers",
            Self::GuardNegation => "guard_negation",
            Self::Shadow => "shadow",
            Self::LookupDeadline => "lookup_deadline",
            Self::EmbedBusy => "embed_busy",
            Self::EmbedDead => "embed_dead",
            Self::EmbedFailed => "embed_failed",
            Self::StoreBusy => "store_busy",
            Self::StoreUnavailable => "store_unavailable",
            Self::StoreFailed => "store_failed",
            Self::NotKept(why) => why.name(),
        }
    }
}

impl From<EmbedFault> for Reason {
    fn from(fault: EmbedFault) -> Self {
        match fault {
            EmbedFault::Busy => Self::EmbedBusy,
            EmbedFault::Dead => Self::EmbedDead,
            EmbedFault::Failed => Self::EmbedFailed,
        }
    }
}

impl From<&StoreFault> for Reason {
    fn from(fault: &StoreFault) -> Self {
        match fault {
            StoreFault::Busy => Self::StoreBusy,
            StoreFault::Unavailable(_) => Self::StoreUnavailable,
            StoreFault::Failed(_) | StoreFault::Full(_) => Self::StoreFailed,
        }
    }
}
