//! Whether a remote store is asked at all.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::Remote;
use crate::store::StoreFault;

/// A lookup that its caller gave up after less than this says nothing about the store: the time had
/// been spent before, on embedding.
const GIVEN_UP_AFTER: Duration = Duration::from_millis(20);

/// Between two questions to a closed store; doubled each time, up to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A store that was asked for so long without a fault has recovered.
const STEADY: Duration = Duration::from_secs(10);

/// Open: the store is not asked.
#[derive(Debug)]
pub(super) struct Breaker {
    open: watch::Sender<bool>,
    trouble: Mutex<Option<String>>,
    refused: Mutex<Option<String>>,
}

impl Breaker {
    /// Open until the store has been prepared.
    pub(super) fn new() -> Self {
        Self {
            open: watch::Sender::new(true),
            trouble: Mutex::new(Some("not connected yet".to_owned())),
            refused: Mutex::new(None),
        }
    }

    /// May the store be asked?
    pub(super) fn pass(&self) -> Result<(), StoreFault> {
        if *self.open.borrow() { Err(StoreFault::Busy) } else { Ok(()) }
    }

    /// The same for a lookup, which tells how it went.
    pub(super) fn attempt(&self) -> Result<Attempt<'_>, StoreFault> {
        self.pass()?;
        Ok(Attempt { breaker: self, begun: Instant::now(), told: false })
    }

    pub(super) fn open(&self, fault: &StoreFault) {
        let newly = self.open.send_if_modified(|open| !std::mem::replace(open, true));
        if newly {
            tracing::warn!(%fault, "the store is not asked until it answers again");
            *self.trouble.lock() = Some(fault.to_string());
        }
    }

    fn close(&self) {
        if self.open.send_if_modified(|open| std::mem::replace(open, false)) {
            tracing::info!("the store answers");
        }
        *self.trouble.lock() = None;
    }

    /// How the last write went: a store may be readable and full.
    pub(super) fn wrote(&self, fault: Option<&StoreFault>) {
        *self.refused.lock() = fault.map(ToString::to_string);
    }

    /// What is wrong now.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone().or_else(|| self.refused.lock().clone())
    }

    /// Waits until the store is asked.
    pub(super) async fn closed(&self) {
        // The sender is ours and alive.
        let _ = self.open.subscribe().wait_for(|open| !open).await;
    }

    async fn opened(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}

/// One lookup on its way. Dropped unfinished it was given up by its caller, whose deadline it broke.
pub(super) struct Attempt<'b> {
    breaker: &'b Breaker,
    begun: Instant,
    told: bool,
}

impl Attempt<'_> {
    pub(super) fn ended(&mut self, fault: Option<&StoreFault>) {
        self.told = true;
        match fault {
            Some(fault @ (StoreFault::Unavailable(_) | StoreFault::Failed(_))) => {
                self.breaker.open(fault);
            }
            Some(StoreFault::Busy | StoreFault::Full(_) | StoreFault::TooLarge) | None => {}
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let waited = self.begun.elapsed();
        if !self.told && waited >= GIVEN_UP_AFTER {
            let fault = StoreFault::Unavailable(format!("no answer within {waited:?}"));
            self.breaker.open(&fault);
        }
    }
}

/// Asks a closed store until it answers.
pub(super) struct Watch {
    pub(super) breaker: std::sync::Arc<Breaker>,
    /// An answer must come within this for the store to be asked again.
    pub(super) lookup: Duration,
}

impl Watch {
    pub(super) async fn run(self, store: &impl Remote, prepare_time: Duration) {
        let mut prepared = false;
        let mut pause = FIRST_PAUSE;
        loop {
            let closed_at = Instant::now();
            self.breaker.opened().await;
            if closed_at.elapsed() >= STEADY {
                pause = FIRST_PAUSE;
            } else if prepared {
                // A lookup found it too slow right after it had answered us. Each trial that ends like
                // this costs a request its deadline, so there must be few of them.
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            while let Err(fault) = self.ask(store, &mut prepared, prepare_time).await {
                *self.breaker.trouble.lock() = Some(fault.to_string());
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            self.breaker.close();
        }
    }

    async fn ask(
        &self,
        store: &impl Remote,
        prepared: &mut bool,
        prepare_time: Duration,
    ) -> Result<(), StoreFault> {
        let late = |_| Err(StoreFault::Unavailable("no answer".to_owned()));
        if !*prepared {
            timeout(prepare_time, store.prepare()).await.unwrap_or_else(late)?;
            *prepared = true;
        }
        let probed = timeout(self.lookup, store.probe()).await.unwrap_or_else(late);
        if let Err(StoreFault::Failed(_)) = probed {
            // It answers, but not as it should: the collection may be gone or another one.
            *prepared = false;
        }
        probed
    }
}
