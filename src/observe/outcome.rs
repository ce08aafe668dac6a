//! How a request was answered, and how its answer's body ended.

/// How a request was answered: the `outcome` label, closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// From memory or the store, by the request's fingerprint.
    HitExact,
    /// From the store, by meaning.
    HitSemantic,
    /// From the cache, past its time to live.
    HitStale,
    /// By joining an identical request that was already running.
    Collapsed,
    /// By the upstream; the cache was asked and had nothing.
    Miss,
    /// By the upstream; the cache was not asked.
    Bypass,
    /// Not by any of them: the client got an error of ours, or left before anything was decided.
    Error,
}

impl Outcome {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 7] = [
        Self::HitExact,
        Self::HitSemantic,
        Self::HitStale,
        Self::Collapsed,
        Self::Miss,
        Self::Bypass,
        Self::Error,
    ];

    /// The stable name, in metrics, logs and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HitExact => "hit_exact",
            Self::HitSemantic => "hit_semantic",
            Self::HitStale => "hit_stale",
            Self::Collapsed => "collapsed",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
            Self::Error => "error",
        }
    }

    /// Whether the upstream was spared a call.
    pub const fn spared_upstream(self) -> bool {
        matches!(self, Self::HitExact | Self::HitSemantic | Self::HitStale | Self::Collapsed)
    }
}

/// How the body of an answer ended. A body that is dropped half-way is not a success, whoever
/// dropped it, so the four are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyEnd {
    /// All of it was handed to the client's connection.
    Complete,
    /// The upstream broke or cut it.
    UpstreamFailed,
    /// The client went away first.
    ClientLeft,
    /// A deadline of ours ended it: silence, lifetime, a client that takes nothing.
    TimedOut,
}

impl BodyEnd {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 4] =
        [Self::Complete, Self::UpstreamFailed, Self::ClientLeft, Self::TimedOut];

    /// The stable name, in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::UpstreamFailed => "upstream_failed",
            Self::ClientLeft => "client_left",
            Self::TimedOut => "timed_out",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_in_the_order_of_the_discriminants() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index, "{}", outcome.name());
        }
        for (index, end) in BodyEnd::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, index, "{}", end.name());
        }
    }
}
