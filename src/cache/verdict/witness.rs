//! Is the judge worth listening to?
//!
//! Everything that is learned hangs on labels, so a judge that fails must end in serving less,
//! never more. One that always says "different" does so by itself. One that always says "same" is
//! found out by controls: now and then the recorder has it compare two answers to questions that
//! lie far apart. One that is dead is found out by audits that stay unanswered.

use serde::{Deserialize, Serialize};

use super::Agreement;

/// Controls before a judge is called fooled.
const FEWEST_CONTROLS: f64 = 8.0;
/// Share of controls that a judge may call the same.
const MOST_FOOLED: f64 = 0.4;
/// Audits in a row without a label before the judge counts as dead.
const MOST_UNANSWERED: u32 = 20;
/// A control's weight halves over about so many, so that a repaired judge is believed again.
const DECAY: f64 = 1.0 - 1.0 / 30.0;

/// What is known about the judge itself.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Witness {
    controls: f64,
    fooled: f64,
    unanswered: u32,
}

impl Witness {
    /// The judge compared two answers that cannot be the same.
    pub fn control(&mut self, said: Agreement) {
        self.controls = self.controls * DECAY + 1.0;
        self.fooled = self.fooled * DECAY + f64::from(u8::from(said == Agreement::Same));
    }

    /// An audited answer was judged, or was not.
    pub fn audited(&mut self, judged: Option<bool>) {
        self.unanswered = if judged.is_some() { 0 } else { self.unanswered.saturating_add(1) };
    }

    /// Whether its labels mean anything.
    pub fn is_sound(&self) -> bool {
        self.controls < FEWEST_CONTROLS || self.fooled <= MOST_FOOLED * self.controls
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
    fn a_yes_sayer_is_found_out_and_forgiven_once_repaired() {
        let mut witness = Witness::default();
        let needed = (1..100).find(|_| {
            witness.control(Agreement::Same);
            !witness.is_sound()
        });
        assert!(needed.is_some_and(|n| n <= 12), "{needed:?}");
        (0..60).for_each(|_| witness.control(Agreement::Different));
        assert!(witness.is_sound());
    }

    #[test]
    fn an_honest_judge_that_errs_now_and_then_is_believed() {
        let mut witness = Witness::default();
        for n in 0..200 {
            witness.control(if n % 5 == 0 { Agreement::Same } else { Agreement::Different });
            assert!(witness.is_sound(), "{n}");
        }
    }

    #[test]
    fn silence_is_noticed() {
        let mut witness = Witness::default();
        (0..MOST_UNANSWERED).for_each(|_| witness.audited(None));
        assert!(!witness.is_alive());
        witness.audited(Some(true));
        assert!(witness.is_alive());
    }
}
