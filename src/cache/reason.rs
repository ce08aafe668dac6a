//! Why a request was not answered from the cache: one closed list, whose names are shared by
//! `Cache-Status`, logs, metrics and tests.

use super::guards::{Alone, Guard};
use crate::{
    embed::EmbedFault,
    store::StoreFault,
    wire::{ExactOnly, NotStorable, Unread},
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
    /// Its answer depends on what the server holds, or changes it.
    Stateful,
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
    /// Near, but a guard found a difference.
    Guarded(Guard),
    /// A question of a class that is only repeated exactly.
    Alone(Alone),
    /// Near, but not surely the same question.
    Doubtful,
    /// It would have been a hit; forwarded to see whether it would have been right.
    Audit,
    /// It would have been a hit; the policy wants a label of this answer.
    Explore,
    /// Too many wrong hits here of late: exact repeats only until that is over.
    Suspended,
    /// It would have been a hit, but too few others have confirmed the answer for it to be shared.
    Unconfirmed,
    /// This client looked for too many near questions in the last minute.
    Probing,
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
    /// Some inputs of a batch were known, and the upstream was asked for the others.
    PartialBatch,
    /// An answer to this request could not be kept a moment ago: nobody waits for another's.
    Uncacheable,
    /// The answer is not kept.
    NotKept(NotStorable),
}

impl Reason {
    /// All names with which a request can pass the cache by or miss it: metrics begin at zero.
    pub const NAMES: [&'static str; 65] = [
        "cache_off",
        "not_cacheable",
        "no_scope",
        "unreadable_request",
        "stateful",
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
        "not_a_question",
        "continued",
        "server_tools",
        "guard_number",
        "guard_qualifier",
        "guard_negation",
        "guard_antonym",
        "guard_entity",
        "guard_code",
        "guard_quoted",
        "guard_role",
        "guard_logic",
        "guard_tense",
        "guard_reference",
        "guard_question",
        "guard_addition",
        "guard_substitution",
        "guard_comparison",
        "guard_script",
        "guard_language",
        "too_short",
        "no_words",
        "volatile",
        "over_window",
        "hidden_text",
        "doubtful",
        "audit",
        "explore",
        "suspended",
        "unconfirmed",
        "probing",
        "partial_batch",
        "uncacheable",
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::CacheOff => "cache_off",
            Self::NotCacheable => "not_cacheable",
            Self::NoScope => "no_scope",
            Self::Unreadable => "unreadable_request",
            Self::Stateful => "stateful",
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
            Self::Guarded(guard) => guarded(guard),
            Self::Alone(class) => class.name(),
            Self::Doubtful => "doubtful",
            Self::Audit => "audit",
            Self::Explore => "explore",
            Self::Suspended => "suspended",
            Self::Unconfirmed => "unconfirmed",
            Self::Probing => "probing",
            Self::Shadow => "shadow",
            Self::LookupDeadline => "lookup_deadline",
            Self::EmbedBusy => "embed_busy",
            Self::EmbedDead => "embed_dead",
            Self::EmbedFailed => "embed_failed",
            Self::StoreBusy => "store_busy",
            Self::StoreUnavailable => "store_unavailable",
            Self::StoreFailed => "store_failed",
            Self::PartialBatch => "partial_batch",
            Self::Uncacheable => "uncacheable",
            Self::NotKept(why) => why.name(),
        }
    }
}

const fn guarded(guard: Guard) -> &'static str {
    match guard {
        Guard::Number => "guard_number",
        Guard::Qualifier => "guard_qualifier",
        Guard::Negation => "guard_negation",
        Guard::Antonym => "guard_antonym",
        Guard::Entity => "guard_entity",
        Guard::Code => "guard_code",
        Guard::Quoted => "guard_quoted",
        Guard::Role => "guard_role",
        Guard::Logic => "guard_logic",
        Guard::Tense => "guard_tense",
        Guard::Reference => "guard_reference",
        Guard::Question => "guard_question",
        Guard::Addition => "guard_addition",
        Guard::Substitution => "guard_substitution",
        Guard::Comparison => "guard_comparison",
        Guard::Script => "guard_script",
        Guard::Language => "guard_language",
    }
}

impl From<Unread> for Reason {
    fn from(why: Unread) -> Self {
        match why {
            Unread::Unreadable => Self::Unreadable,
            Unread::Stateful => Self::Stateful,
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
            StoreFault::Failed(_) | StoreFault::Full(_) | StoreFault::TooLarge => Self::StoreFailed,
        }
    }
}
