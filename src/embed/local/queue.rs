//! The bounded queue between callers and embedding threads.
//!
//! It hands out batches, not jobs, because only it sees what waits: whoever is first goes at once (no
//! waiting for company), together with others that are about as long.
//!
//! While it keeps up, the oldest is first. When it does not, the newest is: whoever has waited for long is
//! past its lookup's deadline and wants the vector only to store it, and served in turn, everybody would
//! be. For the same reason a full queue gives up its oldest.
//!
//! Behind them wait the texts that no client waits for (answers that are to be compared). A batch cannot
//! be interrupted, and an answer takes several times as long as a question: they go one at a time, when
//! no question waits, or when many batches of questions have gone before.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::embed::{EmbedFault, Embedded};

/// Padding is computed like text: a batch's texts may differ in length by this factor at most.
const LENGTH_RATIO: usize = 2;

/// Shorter texts count as this long when lengths are compared: between two short texts, padding costs
/// less than a batch of its own.
const SHORT_BYTES: usize = 48;

/// The most text in a batch of several, some 90 tokens. Among eight, a text of 9 tokens takes 26 %
/// less of a core than alone, one of 20 tokens 17 % less (measured); but everyone waits for the whole
/// batch, and the cache's lookup deadline is a few dozen milliseconds.
const BATCH_BYTES_MAX: usize = 384;

/// Half of the cache's usual lookup deadline: who has waited for longer is hardly waited for.
pub(super) const LATE: Duration = Duration::from_millis(25);

/// Batches of questions that may go in a row while something waits behind them. Without an end to it,
/// under load that never pauses nothing would be learned, and audits that stay unanswered end in serving
/// no near question at all.
const IN_A_ROW: u32 = 8;

/// Whether a client waits for a text's vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// One does.
    Interactive,
    /// Nobody does.
    Background,
}

/// One text that waits for its vector.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) text: Arc<str>,
    since: Instant,
    answer: oneshot::Sender<Result<Embedded, EmbedFault>>,
}

impl Job {
    /// Answers the caller, if it still waits.
    pub(super) fn answer(self, result: Result<Embedded, EmbedFault>) {
        // A caller that left (its lookup deadline passed) is no failure.
        drop(self.answer.send(result));
    }

    /// The length that similarity and the batch's size are judged by. Bytes stand in for tokens:
    /// counting those costs more than a slightly uneven batch.
    fn length(&self) -> usize {
        self.text.len().max(SHORT_BYTES)
    }

    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Signalled when a job arrives and when the queue closes.
    arrived: Condvar,
    /// Signalled when a worker leaves.
    left: Condvar,
    capacity: usize,
    batch_max: usize,
    /// A job that has waited for so long lets newer ones pass.
    late: Duration,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Those of [`Priority::Background`].
    behind: VecDeque<Job>,
    /// Batches of `jobs` since the last of `behind`.
    in_a_row: u32,
    workers: usize,
    closed: bool,
}

/// A worker's place at the queue. When the last one is given up, by return or by panic, the queue
/// closes: callers learn at once that nobody will answer.
#[derive(Debug)]
pub(super) struct Seat {
    queue: Arc<Queue>,
}

// === impl Queue ===

impl Queue {
    /// At most `capacity` waiting jobs of each priority, at most `batch_max` in a batch (each at least
    /// one); a job is late after `late`.
    pub(super) fn new(capacity: usize, batch_max: usize, late: Duration) -> Self {
        Self {
            state: Mutex::new(State::default()),
            arrived: Condvar::new(),
            left: Condvar::new(),
            capacity: capacity.max(1),
            batch_max: batch_max.max(1),
            late,
        }
    }

    /// Registers a worker.
    pub(super) fn seat(self: &Arc<Self>) -> Seat {
        self.state.lock().workers += 1;
        Seat { queue: Arc::clone(self) }
    }

    /// Appends a text, or says at once why not. The receiver fails when the queue closes first.
    pub(super) fn push(
        &self,
        text: Arc<str>,
        priority: Priority,
    ) -> Result<oneshot::Receiver<Result<Embedded, EmbedFault>>, EmbedFault> {
        let (answer, answered) = oneshot::channel();
        let mut state = self.state.lock();
        if state.closed {
            return Err(EmbedFault::Dead);
        }
        let waiting = match priority {
            Priority::Interactive => &mut state.jobs,
            Priority::Background => &mut state.behind,
        };
        if waiting.len() >= self.capacity {
            // Callers leave after a few dozen milliseconds: without this, those who gave up would
            // keep out those who still wait.
            waiting.retain(|job| !job.is_abandoned());
        }
        let mut given_up = None;
        if waiting.len() >= self.capacity {
            given_up = waiting.pop_front_if(|oldest| oldest.since.elapsed() >= self.late);
            if given_up.is_none() {
                return Err(EmbedFault::Busy);
            }
        }
        waiting.push_back(Job { text, since: Instant::now(), answer });
        drop(state);
        // Outside the lock: it wakes the caller.
        if let Some(job) = given_up {
            job.answer(Err(EmbedFault::Busy));
        }
        self.arrived.notify_one();
        Ok(answered)
    }

    /// Blocks until there is work: the oldest job and those behind it that fit to it, or one that
    /// nobody waits for. `None` when the queue is closed.
    pub(super) fn next_batch(&self) -> Option<Vec<Job>> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            let batch = state.take(self.batch_max, self.late);
            if !batch.is_empty() {
                return Some(batch);
            }
            self.arrived.wait(&mut state);
        }
    }

    /// Jobs that wait, those of callers that left included.
    pub(super) fn len(&self) -> usize {
        let state = self.state.lock();
        state.jobs.len() + state.behind.len()
    }

    /// Refuses new jobs, drops the waiting ones and sends workers home.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let jobs = (std::mem::take(&mut state.jobs), std::mem::take(&mut state.behind));
        drop(state);
        // Outside the lock: dropping a job wakes its caller.
        drop(jobs);
        self.arrived.notify_all();
    }

    /// Waits until every worker has left; false if some have not within `patience`.
    pub(super) fn wait_until_empty(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.state.lock();
        while state.workers > 0 {
            if self.left.wait_until(&mut state, deadline).timed_out() {
                return state.workers == 0;
            }
        }
        true
    }
}

impl State {
    fn take(&mut self, batch_max: usize, late: Duration) -> Vec<Job> {
        if self.in_a_row < IN_A_ROW {
            let batch = self.take_batch(batch_max, late);
            if !batch.is_empty() {
                self.in_a_row = if self.behind.is_empty() { 0 } else { self.in_a_row + 1 };
                return batch;
            }
        }
        self.in_a_row = 0;
        while let Some(job) = self.behind.pop_front() {
            if !job.is_abandoned() {
                return vec![job];
            }
        }
        self.take_batch(batch_max, late)
    }

    fn take_batch(&mut self, batch_max: usize, late: Duration) -> Vec<Job> {
        while self.jobs.front().is_some_and(Job::is_abandoned) {
            self.jobs.pop_front();
        }
        let is_behind = self.jobs.front().is_some_and(|oldest| oldest.since.elapsed() >= late);
        if is_behind {
            // The newest is first now, and so is its company: the queue is walked from its end.
            self.jobs.make_contiguous().reverse();
        }
        let batch = self.take_in_order(batch_max);
        if is_behind {
            self.jobs.make_contiguous().reverse();
        }
        batch
    }

    fn take_in_order(&mut self, batch_max: usize) -> Vec<Job> {
        while self.jobs.front().is_some_and(Job::is_abandoned) {
            self.jobs.pop_front();
        }
        let Some(first) = self.jobs.pop_front() else {
            return Vec::new();
        };
        let (shortest, longest) = (first.length() / LENGTH_RATIO, first.length() * LENGTH_RATIO);
        let mut bytes = first.length();
        let mut batch = vec![first];
        let mut at = 0;
        while batch.len() < batch_max && at < self.jobs.len() {
            let (length, abandoned) = (self.jobs[at].length(), self.jobs[at].is_abandoned());
            let fits = (shortest..=longest).contains(&length) && bytes + length <= BATCH_BYTES_MAX;
            if !fits && !abandoned {
                at += 1;
            } else if let Some(job) = self.jobs.remove(at)
                && !abandoned
            {
                bytes += length;
                batch.push(job);
            }
        }
        batch
    }
}

// === impl Seat ===

impl Seat {
    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.workers -= 1;
        let last = state.workers == 0;
        drop(state);
        if last {
            self.queue.close();
        }
        self.queue.left.notify_all();
    }
}
