//! What is remembered of answers that were not kept: that a request's answer cannot be (hit-for-miss),
//! and that a stale answer could not be renewed.
//!
//! Without the first, identical requests whose answer is never kept would wait for one another's
//! flights, each for nothing. Without the second, every reader of a stale answer would send one more
//! request to an upstream that is down.

use std::{fmt, time::Duration};

use moka::sync::Cache as Recents;

use crate::{store::EntryId, wire::NotStorable};

/// How long it is remembered that an answer cannot be kept: a model server that changed its mind is
/// asked once a request until then, which is what would happen without a cache.
const PROVED_FOR: Duration = Duration::from_secs(60);

/// How long a stale answer is not renewed after that failed.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// Requests of either kind that are remembered, about 100 bytes each; the least recent of more are
/// forgotten.
const REMEMBERED: u64 = 10_000;

/// See the module.
pub(super) struct Unkept {
    proved: Recents<EntryId, NotStorable>,
    failed: Recents<EntryId, ()>,
}

impl Default for Unkept {
    fn default() -> Self {
        let proved = Recents::builder().max_capacity(REMEMBERED).time_to_live(PROVED_FOR);
        let failed = Recents::builder().max_capacity(REMEMBERED).time_to_live(FAILED_FOR);
        Self { proved: proved.build(), failed: failed.build() }
    }
}

impl Unkept {
    /// Why the answer to this request cannot be kept, if it was found out lately.
    pub(super) fn why(&self, id: EntryId) -> Option<NotStorable> {
        self.proved.get(&id)
    }

    /// An answer to this request was not kept.
    pub(super) fn note(&self, id: EntryId, why: NotStorable) {
        if lasts(why) {
            self.proved.insert(id, why);
        }
    }

    /// The answer to this request was kept after all.
    pub(super) fn forget(&self, id: EntryId) {
        self.proved.invalidate(&id);
        self.failed.invalidate(&id);
    }

    /// The upstream could not renew this answer.
    pub(super) fn renewal_failed(&self, id: EntryId) {
        self.failed.insert(id, ());
    }

    /// Did that happen a moment ago?
    pub(super) fn is_failing(&self, id: EntryId) -> bool {
        self.failed.contains_key(&id)
    }
}

impl fmt::Debug for Unkept {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (proved, failed) = (self.proved.entry_count(), self.failed.entry_count());
        out.debug_struct("Unkept").field("proved", &proved).field("failed", &failed).finish()
    }
}

/// Will the same request have such an answer again? Errors, and what broke off, prove nothing.
const fn lasts(why: NotStorable) -> bool {
    match why {
        NotStorable::Length
        | NotStorable::Filtered
        | NotStorable::Empty
        | NotStorable::Unreadable
        | NotStorable::UnknownFinish
        | NotStorable::TooLarge
        | NotStorable::Encoded
        | NotStorable::NoStore => true,
        NotStorable::Status
        | NotStorable::Incomplete
        | NotStorable::UpstreamError
        | NotStorable::Abandoned => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: EntryId = EntryId(1);

    #[test]
    fn what_lasts_is_remembered_until_an_answer_was_kept() {
        let unkept = Unkept::default();
        unkept.note(ID, NotStorable::Incomplete);
        assert_eq!(unkept.why(ID), None);
        unkept.note(ID, NotStorable::Length);
        unkept.renewal_failed(ID);
        assert_eq!(unkept.why(ID), Some(NotStorable::Length));
        assert!(unkept.is_failing(ID) && !unkept.is_failing(EntryId(2)));
        unkept.forget(ID);
        assert_eq!((unkept.why(ID), unkept.is_failing(ID)), (None, false));
    }

    #[test]
    fn it_is_bounded() {
        let unkept = Unkept::default();
        for id in 0..3 * u128::from(REMEMBERED) {
            unkept.note(EntryId(id), NotStorable::NoStore);
        }
        unkept.proved.run_pending_tasks();
        assert!(unkept.proved.entry_count() <= REMEMBERED);
    }
}
