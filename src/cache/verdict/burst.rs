//! Labels of one family that come close together.
//!
//! What is learned is taken to hold for what is asked next, which is so as long as questions come mixed.
//! Where one topic is asked about for a while and then another, the labels of the first are many, nearly
//! all right, and of questions that had no rival: taken at their word they make the first questions of
//! the next topic hits. (BANKING77 topic after topic, target 1 %: 2.5 % of the hits were wrong.) They are
//! not independent, and count as fewer: from the third of a family within [`WINDOW`] labels on, the
//! `n`-th about `1 / n`. Of twenty topics that come mixed, five labels in six keep their weight.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::AnswerId;

/// Labels that are looked back at, the newest included.
const WINDOW: usize = 16;

/// How little an outcome counts: `2^-halvings`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Halvings(pub u8);

impl Halvings {
    /// Of the `n`-th label of a family, `n` from 1: `ceil(log2 (n - 1))`, 0 for the first two.
    fn of(n: usize) -> Self {
        Self(n.saturating_sub(1).max(1).next_power_of_two().trailing_zeros() as u8)
    }

    /// What an outcome counts, in (0, 1].
    pub fn weight(self) -> f32 {
        0.5_f32.powi(i32::from(self.0))
    }
}

/// Whose the last labels were.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Bursts {
    /// Oldest first.
    families: VecDeque<AnswerId>,
}

impl Bursts {
    /// A label of this family has come: how much does it count?
    pub fn weigh(&mut self, family: AnswerId) -> Halvings {
        if self.families.len() >= WINDOW {
            self.families.pop_front();
        }
        self.families.push_back(family);
        Halvings::of(self.families.iter().filter(|one| **one == family).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worth(families: impl Iterator<Item = u128>) -> f32 {
        let mut bursts = Bursts::default();
        families.map(|family| bursts.weigh(AnswerId(family)).weight()).sum()
    }

    #[test]
    fn a_burst_is_worth_a_few_labels_however_long_and_a_mix_all_of_its_own() {
        assert_eq!(worth(std::iter::once(1)), 1.0);
        let burst = worth(std::iter::repeat_n(1, 16));
        assert!((3.0..4.0).contains(&burst), "{burst}");
        let longer = worth(std::iter::repeat_n(1, 64)) - burst;
        assert!((longer - 48.0 * Halvings::of(WINDOW).weight()).abs() < 1e-4, "{longer}");
        assert_eq!(worth((0..800).map(|at| at % 40)), 800.0);
    }

    #[test]
    fn what_has_left_the_window_counts_no_more() {
        let mut bursts = Bursts::default();
        for family in std::iter::repeat_n(1, 5).chain(2..=16) {
            bursts.weigh(AnswerId(family));
        }
        // All but one of the first family have left.
        assert_eq!(bursts.weigh(AnswerId(1)), Halvings::of(2));
        assert_eq!(bursts.weigh(AnswerId(1)), Halvings::of(2));
        assert_eq!(bursts.weigh(AnswerId(1)), Halvings::of(3));
    }
}
