//! A bounded line in front of an upstream that may only have so many exchanges at once.
//!
//! Tenants are served in turn, so that one that asks for much waits behind itself. Who finds the
//! line full, or waits too long, is told at once: a longer line would only turn overload into
//! latency.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Duration, Instant, timeout},
};

use crate::{
    config,
    fault::{Fault, Kind},
};

/// What a refused client is asked to wait at least.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// See the module. Clones are the same line.
#[derive(Clone, Debug)]
pub(super) struct Line(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Exchanges at once.
    limit: usize,
    /// Requests that may wait.
    places: usize,
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    inside: usize,
    waiting: usize,
    /// Tenants with somebody in line, the next one first.
    turns: VecDeque<Arc<str>>,
    queues: HashMap<Arc<str>, VecDeque<oneshot::Sender<Turn>>>,
    refused: u64,
}

/// The right to one exchange. Hold it to the end of the body: the next in line gets it then.
#[derive(Debug)]
pub(super) struct Turn(Option<Arc<Inner>>);

impl Line {
    /// `None` where the configuration wants none.
    pub(super) fn new(settings: &config::Upstream) -> Option<Self> {
        (settings.concurrency > 0).then(|| {
            Self(Arc::new(Inner {
                limit: settings.concurrency,
                places: settings.queue,
                patience: settings.queue_time.get(),
                state: Mutex::default(),
            }))
        })
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// [`Kind::Overloaded`]: the line is full, or it took too long.
    pub(super) async fn turn(&self, tenant: &str) -> Result<Turn, Fault> {
        let waiting = {
            let mut state = self.0.state.lock();
            if state.inside < self.0.limit {
                state.inside += 1;
                return Ok(Turn(Some(Arc::clone(&self.0))));
            }
            if state.waiting >= self.0.places && !state.push_out(tenant) {
                state.refused += 1;
                return Err(self.full());
            }
            state.wait(tenant)
        };
        let began = Instant::now();
        let mut place = Place { line: &self.0, tenant, waiting };
        match timeout(self.0.patience, &mut place.waiting).await {
            Ok(Ok(turn)) => Ok(turn),
            // Pushed out for somebody who has less in line, or out of patience.
            Ok(Err(_)) | Err(_) => {
                self.0.state.lock().refused += 1;
                tracing::debug!(waited = ?began.elapsed(), "no turn at this upstream");
                Err(self.full())
            }
        }
    }

    /// Requests that wait now, and requests that were refused.
    pub(super) fn counts(&self) -> (usize, u64) {
        let state = self.0.state.lock();
        (state.waiting, state.refused)
    }

    fn full(&self) -> Fault {
        let wait = self.0.patience.clamp(RETRY_AFTER_MIN, Duration::from_secs(60));
        let message = "the line in front of this upstream is full (upstream.concurrency, .queue)";
        Fault::new(Kind::Overloaded, message).safe_to_retry().retry_after(wait)
    }
}

impl State {
    fn wait(&mut self, tenant: &str) -> oneshot::Receiver<Turn> {
        let (give, waiting) = oneshot::channel();
        self.waiting += 1;
        if let Some(queue) = self.queues.get_mut(tenant) {
            queue.push_back(give);
        } else {
            let tenant: Arc<str> = tenant.into();
            self.turns.push_back(tenant.clone());
            self.queues.insert(tenant, VecDeque::from([give]));
        }
        waiting
    }

    /// Makes room for a tenant that has less in line than another, by sending away the last one of
    /// whoever has most.
    fn push_out(&mut self, tenant: &str) -> bool {
        let mine = self.queues.get(tenant).map_or(0, VecDeque::len);
        let most = self.queues.iter_mut().max_by_key(|(_, queue)| queue.len());
        let Some((_, queue)) = most.filter(|(_, queue)| queue.len() > mine + 1) else {
            return false;
        };
        let sent_away = queue.pop_back().is_some();
        self.waiting -= usize::from(sent_away);
        sent_away
    }

    /// Whoever is next.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let tenant = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&tenant)?;
        let next = queue.pop_front();
        self.waiting -= usize::from(next.is_some());
        if queue.is_empty() {
            self.queues.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        next
    }
}

/// A place in line, given up when its client leaves.
struct Place<'a> {
    line: &'a Inner,
    tenant: &'a str,
    waiting: oneshot::Receiver<Turn>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.close();
        let mut state = self.line.state.lock();
        let Some(queue) = state.queues.get_mut(self.tenant) else { return };
        let before = queue.len();
        queue.retain(|give| !give.is_closed());
        let (left, empty) = (before - queue.len(), queue.is_empty());
        state.waiting -= left;
        if empty {
            state.queues.remove(self.tenant);
            state.turns.retain(|tenant| **tenant != *self.tenant);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(line) = self.0.take() else { return };
        loop {
            let mut state = line.state.lock();
            let Some(next) = state.next() else {
                state.inside -= 1;
                return;
            };
            drop(state);
            match next.send(Self(Some(Arc::clone(&line)))) {
                Ok(()) => return,
                // Its client has left in this very moment: the turn is still ours to give.
                Err(mut unwanted) => drop(unwanted.0.take()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Overrides, load};

    fn line(concurrency: usize, queue: usize) -> Line {
        let overrides = Overrides { upstream: Some("http://h:1".into()), ..Overrides::default() };
        let mut settings = load(None, &BTreeMap::new(), &overrides).unwrap().upstream.remove(0);
        (settings.concurrency, settings.queue) = (concurrency, queue);
        Line::new(&settings).unwrap()
    }

    /// Lets everybody else run until nobody can.
    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_then_a_line_then_a_refusal() {
        let line = line(1, 1);
        let first = line.turn("a").await.unwrap();
        let waiting = tokio::spawn({
            let line = line.clone();
            async move { line.turn("a").await }
        });
        settle().await;
        assert_eq!(line.counts(), (1, 0));
        let fault = line.turn("a").await.unwrap_err();
        assert_eq!(fault.kind, Kind::Overloaded);
        assert!(fault.retry_after.is_some());
        drop(first);
        let second = waiting.await.unwrap().unwrap();
        assert_eq!(line.counts(), (0, 1));
        drop(second);
        drop(line.turn("b").await.unwrap());
        assert_eq!(line.0.state.lock().inside, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_and_a_client_that_leaves_gives_its_place_up() {
        let line = line(1, 8);
        let first = line.turn("a").await.unwrap();
        let began = Instant::now();
        assert!(line.turn("a").await.is_err());
        assert_eq!(began.elapsed().as_secs(), 10);
        assert!(timeout(Duration::from_secs(1), line.turn("b")).await.is_err());
        assert_eq!(line.counts().0, 0);
        assert!(line.0.state.lock().turns.is_empty() && line.0.state.lock().queues.is_empty());
        drop(first);
        drop(line.turn("a").await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn tenants_take_turns_and_the_greedy_one_makes_room() {
        let line = line(1, 4);
        let first = line.turn("greedy").await.unwrap();
        let (told, mut order) = tokio::sync::mpsc::channel(16);
        let ask = |tenant: &'static str| {
            let (line, told) = (line.clone(), told.clone());
            tokio::spawn(async move {
                let turn = line.turn(tenant).await;
                told.send((tenant, turn.is_ok())).await.unwrap();
                turn.map(drop)
            })
        };
        for _ in 0..4 {
            ask("greedy");
            settle().await;
        }
        ask("modest");
        settle().await;
        assert_eq!(order.recv().await, Some(("greedy", false)), "the last of the longest line");
        assert_eq!(line.counts().0, 4);
        drop(first);
        let mut served = Vec::new();
        for _ in 0..4 {
            served.push(order.recv().await.unwrap());
        }
        assert_eq!(served[..2], [("greedy", true), ("modest", true)]);
        assert!(served.iter().all(|(_, ok)| *ok));
    }
}
