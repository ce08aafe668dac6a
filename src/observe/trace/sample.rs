//! Which finished requests are worth a trace. Decided at their end, when it is known how they went:
//! whoever looks for the slow ones finds all of them, however small the share of the others is.

use std::time::Duration;

use crate::observe::{BodyEnd, Outcome, Record, Stage};

/// The rule.
pub(super) struct Sampler {
    share: f64,
    slow: Duration,
}

impl Sampler {
    /// `share` of the ordinary ones, in 0..=1; `slow`: to the first piece of the answer.
    pub(super) fn new(share: f64, slow: Duration) -> Self {
        Self { share, slow }
    }

    /// Whether chance keeps a trace: by its id, so that every proxy and collector with the same
    /// share keeps the same ones. The low 56 bits are the random ones (Trace Context level 2).
    pub(super) fn draws(&self, trace: u128) -> bool {
        const BITS: u32 = 56;
        let random = trace & ((1 << BITS) - 1);
        random < (self.share * (1_u64 << BITS) as f64) as u128
    }

    /// Always the failed, the slow, and those that check whether a hit would have been right; of
    /// the others those whose client or whose lot said so.
    pub(super) fn keeps(&self, record: &Record) -> bool {
        let Some(context) = &record.trace else { return false };
        let failed = record.outcome == Outcome::Error
            || record.fault.is_some()
            || record.status.is_some_and(|status| status.is_server_error())
            || matches!(record.end, Some(BodyEnd::UpstreamFailed | BodyEnd::TimedOut));
        let waited = record.first_token.or_else(|| record.stages.get(Stage::Total));
        let slow = waited.is_some_and(|waited| waited >= self.slow);
        context.sampled || failed || slow || record.verdict == Some("audit")
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::observe::{tests::observer, trace::TraceContext};

    fn kept(change: impl FnOnce(&mut Record)) -> bool {
        let observer = observer();
        let id = observer.request_id(&HeaderMap::new());
        let mut record = Record::new(id, observer.unrouted());
        record.outcome = Outcome::HitExact;
        record.trace =
            Some(TraceContext { trace: 9, request: 1, upstream: 2, parent: None, sampled: false });
        change(&mut record);
        Sampler::new(0.0, Duration::from_secs(2)).keeps(&record)
    }

    #[test]
    fn what_went_wrong_is_always_kept() {
        assert!(!kept(|_| {}));
        assert!(kept(|record| record.outcome = Outcome::Error));
        assert!(kept(|record| record.fault = Some(crate::fault::Kind::Cut)));
        assert!(kept(|record| record.status = Some(StatusCode::BAD_GATEWAY)));
        assert!(!kept(|record| record.status = Some(StatusCode::BAD_REQUEST)));
        assert!(kept(|record| record.end = Some(BodyEnd::UpstreamFailed)));
        assert!(!kept(|record| record.end = Some(BodyEnd::ClientLeft)));
        assert!(kept(|record| record.first_token = Some(Duration::from_secs(3))));
        assert!(!kept(|record| record.first_token = Some(Duration::from_secs(1))));
        assert!(kept(|record| record.verdict = Some("audit")));
        assert!(kept(|record| record.trace.as_mut().unwrap().sampled = true));
        assert!(!kept(|record| record.trace = None));
    }

    #[test]
    fn the_share_is_kept_of_random_ids() {
        let sampler = Sampler::new(0.25, Duration::MAX);
        let ids = super::super::context::Ids::new();
        let kept = (0..4000).filter(|_| ids.root(|trace| sampler.draws(trace)).sampled).count();
        assert!((850..1150).contains(&kept), "{kept}");
        assert!(!Sampler::new(0.0, Duration::MAX).draws(0));
        assert!(Sampler::new(1.0, Duration::MAX).draws(u128::MAX));
    }
}
