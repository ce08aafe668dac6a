//! Lanes: single-threaded runtimes, one a core, among which client connections are dealt.
//!
//! A connection that stays on one thread is never stolen, and an answer from memory wakes nobody:
//! on a shared runtime both cost more than the answer itself (docs/performance.md has the figures).
//! What a connection waits for (a flight, an upstream, the embedder) may live on any thread.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The lanes; their threads end when it is dropped.
#[derive(Debug)]
pub struct Lanes {
    handles: Vec<Handle>,
    next: AtomicUsize,
    _stop: DropGuard,
}

impl Lanes {
    /// Starts `count` lanes; 0 = one a core.
    ///
    /// # Errors
    /// The system gives no thread or no event queue.
    pub fn start(count: usize) -> io::Result<Self> {
        let count = if count > 0 { count } else { thread::available_parallelism()?.get() };
        let stop = CancellationToken::new();
        let mut handles = Vec::with_capacity(count);
        for lane in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let stop = stop.clone();
            thread::Builder::new()
                .name(format!("lane-{lane}"))
                .spawn(move || runtime.block_on(stop.cancelled()))?;
        }
        Ok(Self { handles, next: AtomicUsize::new(0), _stop: stop.drop_guard() })
    }

    /// Tasks alive on all lanes.
    pub fn tasks(&self) -> usize {
        self.handles.iter().map(|lane| lane.metrics().num_alive_tasks()).sum()
    }

    /// The lane of the next connection, in turn.
    pub(super) fn next(&self) -> Option<&Handle> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.handles.get(turn.checked_rem(self.handles.len())?)
    }
}
