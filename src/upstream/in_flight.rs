//! One exchange in its replica's load and record.

use std::sync::Arc;

use tokio::time::{Duration, Instant};

use super::{outgoing::Progress, replica::Replica, verdict::Verdict};
use crate::fault::Fault;

/// What an overload without `Retry-After` or an error counts as, in place of its true time: quick
/// errors must not look like a quick server, which would draw all traffic to the one replica that
/// errs (linkerd's load biaser does the same).
const PENALTY: Duration = Duration::from_secs(5);

/// A failure that took this long is felt by whoever waits for it, and makes the replica look slow.
const SLOW_FAILURE: Duration = Duration::from_millis(100);

/// What tells how fast a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// When the response head comes.
    Head,
    /// When a stream's first event comes: many servers send the head of a stream at once.
    Token,
}

/// Counts from before the connection to the end of the body, and makes sure that the replica is
/// judged: by its answer, by its failure, or by how long a client waited in vain.
pub(super) struct InFlight {
    pub(super) replica: Arc<Replica>,
    pub(super) upload: Option<Arc<Progress>>,
    /// This exchange decides whether the replica's ejection ends.
    on_trial: bool,
    judged: bool,
    pub(super) measure: Measure,
    pub(super) began: Instant,
}

impl InFlight {
    pub(super) fn new(
        replica: &Arc<Replica>,
        upload: Option<Arc<Progress>>,
        on_trial: bool,
    ) -> Self {
        replica.load.begin();
        let replica = Arc::clone(replica);
        Self {
            replica,
            upload,
            on_trial,
            judged: false,
            measure: Measure::Head,
            began: Instant::now(),
        }
    }

    /// How long the replica has thought since `sent`: a client that uploads slowly is no part of it.
    pub(super) fn thought(&self, sent: Instant) -> Duration {
        let moved = self.upload.as_ref().map_or(sent, |upload| upload.last_move());
        sent.max(moved).elapsed()
    }

    /// Records what a response head, come after `first_byte`, says about the replica.
    pub(super) fn judge(&mut self, verdict: Verdict, first_byte: Duration) {
        let now = Instant::now();
        let Replica { load, breaker, .. } = &*self.replica;
        match verdict {
            Verdict::Served if self.measure == Measure::Head => load.record(first_byte, now),
            Verdict::Served => {}
            Verdict::Overloaded(Some(wait)) => breaker.hold(wait, now),
            Verdict::Overloaded(None) | Verdict::Erred => {
                load.record_at_least(PENALTY.max(first_byte), now);
            }
            // No penalty: it shall draw the few exchanges that eject it, each of which goes on to
            // another replica, and a penalty would outlast the ejection.
            Verdict::Failed if first_byte < SLOW_FAILURE => {}
            Verdict::Failed => load.record_at_least(first_byte, now),
            Verdict::Unjudged => return,
        }
        match verdict {
            Verdict::Failed => breaker.failure(now),
            _ => breaker.success(now),
        }
        self.judged = true;
    }

    /// Records that the first event of a stream came.
    pub(super) fn first_token(&self, sent: Instant) {
        self.replica.load.record(self.thought(sent), Instant::now());
    }

    /// Records what came instead of a response head.
    pub(super) fn judge_fault(&mut self, fault: &Fault) {
        self.judge(Verdict::of_fault(fault), self.thought(self.began));
    }

    /// Why the client's side of the exchange failed, if it did.
    pub(super) fn upload_fault(&self) -> Option<Fault> {
        self.upload.as_ref().and_then(|upload| upload.fault())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.replica.load.end();
        if let Some(upload) = &self.upload {
            upload.cancel();
        }
        if !self.judged {
            // The client left before there was an answer. That it took longer than this is all
            // that is known; without it, a replica that hangs would look as it did before.
            self.replica.load.record_at_least(self.thought(self.began), Instant::now());
            if self.on_trial {
                self.replica.breaker.release_trial();
            }
        }
    }
}
