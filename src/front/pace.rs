//! HTTP/2 streams whose client takes nothing.
//!
//! A client can keep its connection lively (it answers pings, reads other streams) and yet give one
//! stream no flow-control window. Nothing then blocks on the socket, hyper no longer polls the
//! response body, and the body with all it holds would live as long as the connection. So every
//! stream task gets a [`Pace`]: the body notes on it whose turn it is, and the task gives up, which
//! resets the stream, when it has been the client's turn for too long.

use std::{pin::pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Tally;

tokio::task_local! {
    /// The pace of the stream whose task this is. Not set in HTTP/1, where a blocked client blocks
    /// the socket.
    static PACE: Arc<Pace>;
}

/// Whose turn it is on one stream: since when the client has owed us room for the next frame.
#[derive(Debug, Default)]
pub(super) struct Pace {
    client_since: Mutex<Option<Instant>>,
}

impl Pace {
    /// The pace of the current task's stream.
    pub(super) fn current() -> Option<Arc<Self>> {
        PACE.try_with(Arc::clone).ok()
    }

    /// A frame was handed over: the next move is the client's.
    pub(super) fn handed_over(&self) {
        *self.client_since.lock() = Some(Instant::now());
    }

    /// hyper came for the next frame: there is room again.
    pub(super) fn came_back(&self) {
        *self.client_since.lock() = None;
    }

    /// Ends when it has been the client's turn for `limit` without a break.
    async fn stalled(&self, limit: Duration) {
        let mut check = Instant::now() + limit;
        loop {
            tokio::time::sleep_until(check).await;
            let now = Instant::now();
            let since = self.client_since.lock().unwrap_or(now);
            if since + limit <= now {
                return;
            }
            check = since + limit;
        }
    }
}

/// Runs hyper's HTTP/2 stream tasks: owned by the drain's tracker, cut by its token, and given up
/// when their client stalls.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    pub(super) tracker: TaskTracker,
    pub(super) cut: CancellationToken,
    pub(super) stall: Duration,
    pub(super) tally: Arc<Tally>,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        let Self { cut, stall, tally, .. } = self.clone();
        self.tracker.spawn(async move {
            let pace = Arc::<Pace>::default();
            let stream = pin!(PACE.scope(Arc::clone(&pace), stream));
            tokio::select! {
                biased;
                () = cut.cancelled() => {}
                _ = stream => {}
                () = pace.stalled(stall) => tally.stalled(),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Executor as _;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn streams() -> Streams {
        Streams {
            tracker: TaskTracker::new(),
            cut: CancellationToken::new(),
            stall: LIMIT,
            tally: Arc::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_given_up_when_its_client_owes_room_for_the_limit() {
        let streams = streams();
        let began = Instant::now();
        streams.execute(async {
            tokio::time::sleep(Duration::from_secs(100)).await;
            Pace::current().unwrap().handed_over();
            std::future::pending::<()>().await;
        });
        streams.tracker.close();
        streams.tracker.wait().await;
        assert_eq!(began.elapsed().as_secs(), 160);
        assert_eq!(streams.tally.stalls(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_waits_for_its_upstream_is_never_given_up() {
        let streams = streams();
        let began = Instant::now();
        streams.execute(async {
            let pace = Pace::current().unwrap();
            for _ in 0..10 {
                pace.handed_over();
                tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
                pace.came_back();
                tokio::time::sleep(LIMIT * 3).await;
            }
        });
        streams.tracker.close();
        streams.tracker.wait().await;
        assert_eq!(began.elapsed(), (LIMIT * 4 - Duration::from_secs(1)) * 10);
        assert_eq!(streams.tally.stalls(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_cut_ends_streams() {
        let streams = streams();
        streams.execute(std::future::pending::<()>());
        streams.cut.cancel();
        streams.tracker.close();
        streams.tracker.wait().await;
        assert_eq!(streams.tally.stalls(), 0);
    }
}
