//! Is there a judge at all?
//!
//! Everything that is learned hangs on labels, so a judge that fails must end in serving less, never
//! more. One that always says "different" does so by itself; one that always says "same" is found out
//! by the probes of [`llm`](crate::cache::judge::llm). One that is dead, or never can tell, is found out
//! here: by audits that stay unanswered.

use serde::{Deserialize, Serialize};

/// Audits in a row without a label before the judge counts as dead.
const MOST_UNANSWERED: u32 = 20;

/// What is known about the judge from what came of audits.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Witness {
    unanswered: u32,
}

impl Witness {
    /// An audited answer was judged, or was not.
    pub fn audited(&mut self, judged: Option<bool>) {
        self.unanswered = if judged.is_some() { 0 } else { self.unanswered.saturating_add(1) };
    }

    /// Whether it answers at all.
    pub fn is_alive(&self) -> bool {
        self.unanswered < MOST_UNANSWERED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_noticed() {
        let mut witness = Witness::default();
        (0..MOST_UNANSWERED).for_each(|_| witness.audited(None));
        assert!(!witness.is_alive());
        witness.audited(Some(true));
        assert!(witness.is_alive());
    }
}
