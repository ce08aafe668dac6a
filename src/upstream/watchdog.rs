//! One timer per connection for all deadlines of its exchanges.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Duration, Instant, Sleep, sleep};

/// A timer that is almost never touched.
///
/// Setting and cancelling a timer for each request and each frame costs more than the rest of the
/// bookkeeping. So the timer is armed no later than the shortest limit from now, whatever is being
/// waited for; when it fires, the deadline that counts is looked at, and mostly the timer is armed
/// again. A deadline set later then lies behind the armed time, and costs nothing.
#[derive(Debug)]
pub(super) struct Watchdog {
    horizon: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Watchdog {
    pub(super) fn new(horizon: Duration) -> Self {
        Self { horizon, sleep: Box::pin(sleep(horizon)) }
    }

    /// Ready once `deadline` has passed; wakes the task when that happens.
    pub(super) fn poll_passed(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if self.sleep.deadline() > deadline {
            self.sleep.as_mut().reset(deadline);
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if now >= deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline.min(now + self.horizon));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_deadline_is_kept_by_the_same_timer() {
        let horizon = Duration::from_secs(10);
        let mut watchdog = Watchdog::new(horizon);
        for wait in [10, 35, 10, 12, 300] {
            let began = Instant::now();
            let deadline = began + Duration::from_secs(wait);
            poll_fn(|cx| watchdog.poll_passed(cx, deadline)).await;
            let late = began.elapsed() - Duration::from_secs(wait);
            assert!(late < Duration::from_millis(5), "{wait} s: {late:?} late");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_set_while_an_older_one_is_armed_is_not_late() {
        let mut watchdog = Watchdog::new(Duration::from_secs(10));
        let far = Instant::now() + Duration::from_secs(100);
        let waited = poll_fn(|cx| watchdog.poll_passed(cx, far));
        assert!(tokio::time::timeout(Duration::from_secs(27), waited).await.is_err());
        let began = Instant::now();
        let near = began + Duration::from_secs(10);
        poll_fn(|cx| watchdog.poll_passed(cx, near)).await;
        assert!(began.elapsed() < Duration::from_millis(10_005));
    }
}
