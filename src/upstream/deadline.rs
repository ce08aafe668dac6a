//! When waiting for a response head must end.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::{Duration, Instant};

use super::{outgoing::Progress, watchdog::Watchdog};

/// The limits of one exchange, from `[timeouts]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) first_byte: Duration,
    pub(super) first_token: Duration,
    pub(super) idle: Duration,
    pub(super) lifetime: Duration,
}

impl Limits {
    /// The shortest of them: see [`Watchdog`].
    pub(super) fn horizon(&self) -> Duration {
        self.first_byte.min(self.first_token).min(self.idle).min(self.lifetime)
    }
}

/// Which limit ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    FirstByte,
    Lifetime,
}

/// The time that is left for a response head.
#[derive(Debug)]
pub(super) struct Deadline {
    /// When the request was given to the connection.
    pub(super) sent: Instant,
    /// Counts again from each piece of a streamed request body that the upstream takes.
    pub(super) upload: Option<Arc<Progress>>,
    pub(super) first_byte: Duration,
    /// The end of the whole exchange.
    pub(super) end: Instant,
}

impl Deadline {
    /// Ready once no head may come any more.
    pub(super) fn poll_passed(&self, cx: &mut Context<'_>, watchdog: &mut Watchdog) -> Poll<()> {
        watchdog.poll_passed(cx, self.first_byte_at().min(self.end))
    }

    /// Which limit it was, asked after [`Self::poll_passed`] was ready.
    pub(super) fn overdue(&self) -> Overdue {
        if self.first_byte_at() <= self.end { Overdue::FirstByte } else { Overdue::Lifetime }
    }

    fn first_byte_at(&self) -> Instant {
        let since = self.upload.as_ref().map_or(self.sent, |upload| upload.last_move());
        since.max(self.sent) + self.first_byte
    }
}
