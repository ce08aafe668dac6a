//! The live view: server-sent events with what is new, every other second.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::sse::{Event, Sse},
};
use futures_util::{Stream, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{Admin, refusal::Refusal};
use crate::observe::Cursor;

/// Open dashboards. Each costs a look at all counters every other second.
pub(super) const MAX_WATCHERS: usize = 32;

/// Often enough to look alive, seldom enough to read.
const EVERY: Duration = Duration::from_secs(2);

/// The places of watchers, and what sends them home when the process ends.
#[derive(Clone)]
pub(super) struct Watchers {
    places: Arc<Semaphore>,
    closing: CancellationToken,
}

impl Watchers {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_WATCHERS)), closing: CancellationToken::new() }
    }

    /// Ends all streams of events.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }
}

struct Watcher {
    admin: Admin,
    cursor: Cursor,
    ticks: Interval,
    _place: OwnedSemaphorePermit,
}

/// Each message is one `live` event: everything since the one before; the first holds all that is
/// kept. A watcher that reads slowly gets fewer and larger ones: nothing is queued for it.
pub(super) async fn events(
    State(admin): State<Admin>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let place = Arc::clone(&admin.watchers.places)
        .try_acquire_owned()
        .map_err(|_| Refusal::TOO_MANY_WATCHERS)?;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watcher = Watcher { admin, cursor: Cursor::default(), ticks, _place: place };
    Ok(Sse::new(stream::unfold(watcher, next)))
}

async fn next(mut watcher: Watcher) -> Option<(Result<Event, Infallible>, Watcher)> {
    let Admin { observer, sources, watchers, .. } = &watcher.admin;
    tokio::select! {
        () = watchers.closing.cancelled() => return None,
        _ = watcher.ticks.tick() => {}
    }
    let live = observer.live(&**sources, &mut watcher.cursor);
    // A number that JSON cannot hold would be a bug; the watcher's stream then ends.
    let event = Event::default().event("live").json_data(&live).ok()?;
    Some((Ok(event), watcher))
}
