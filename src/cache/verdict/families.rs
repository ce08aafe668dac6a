//! Answers that were judged to say the same.
//!
//! An answer holds few keys, so that no answer can fill the index. The next phrasing becomes a new
//! answer, which would then be the old one's rival and make every question between them doubtful. A
//! family keeps them on one side.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::AnswerId;

/// Keys per answer, its own included.
pub const MOST_KEYS: u8 = 16;
/// A key this close to a stored one of its family adds nothing.
pub const REDUNDANT: f32 = 0.99;
/// Answers remembered as kin or as quarantined; beyond it an answer stands alone, which costs hits
/// and no error.
const MOST_MEMBERS: usize = 200_000;

/// Who belongs to whom, how many keys each holds, and who may not be served.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Families {
    /// From an answer to an elder of its family; an answer that is not here is the eldest of its
    /// own.
    elder: HashMap<AnswerId, AnswerId>,
    /// Alias keys added to an answer beside its own.
    aliases: HashMap<AnswerId, u8>,
    quarantined: HashSet<AnswerId>,
}

impl Families {
    /// Eldest of an answer's family.
    pub fn eldest(&self, answer: AnswerId) -> AnswerId {
        let mut at = answer;
        // Joining always points at an eldest, so chains are short; the bound guards against a
        // damaged snapshot.
        for _ in 0..64 {
            match self.elder.get(&at) {
                Some(next) if *next != at => at = *next,
                _ => break,
            }
        }
        at
    }

    /// Makes two answers kin. The elder of the first stays eldest. A barred family neither takes a
    /// free one with it nor is freed by it: what is generated anew after a mark keeps its name.
    pub fn join(&mut self, elder: AnswerId, younger: AnswerId) {
        let (root, other) = (self.eldest(elder), self.eldest(younger));
        let barred = |root: &AnswerId| self.quarantined.contains(root);
        if root != other && barred(&root) == barred(&other) && self.elder.len() < MOST_MEMBERS {
            self.elder.insert(other, root);
        }
    }

    /// An answer's whole family, the answer itself included.
    pub fn members(&self, answer: AnswerId) -> Vec<AnswerId> {
        let eldest = self.eldest(answer);
        let younger = self.elder.keys().copied().filter(|one| self.eldest(*one) == eldest);
        younger.chain([eldest]).collect()
    }

    /// Counts one more key of an answer, if it may have one.
    pub fn add_alias(&mut self, answer: AnswerId) -> bool {
        let held = self.aliases.entry(answer).or_insert(0);
        let free = *held + 1 < MOST_KEYS;
        *held += u8::from(free);
        free
    }

    /// Bars an answer and its whole family from being served.
    pub fn quarantine(&mut self, answer: AnswerId) {
        let eldest = self.eldest(answer);
        if self.quarantined.len() < MOST_MEMBERS {
            self.quarantined.insert(eldest);
        }
    }

    /// Whether an answer's family is barred.
    pub fn is_quarantined(&self, answer: AnswerId) -> bool {
        !self.quarantined.is_empty() && self.quarantined.contains(&self.eldest(answer))
    }

    /// The answer has left the store.
    pub fn forget(&mut self, answer: AnswerId) {
        self.aliases.remove(&answer);
        // A root that others point at must stay: removing it would leave its family without a head.
        if self.elder.contains_key(&answer) && !self.elder.values().any(|e| *e == answer) {
            self.elder.remove(&answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_capped() {
        let mut families = Families::default();
        let added = (0..40).filter(|_| families.add_alias(AnswerId(1))).count();
        assert_eq!(added, usize::from(MOST_KEYS) - 1);
    }

    #[test]
    fn quarantine_reaches_the_whole_family() {
        let mut families = Families::default();
        families.join(AnswerId(1), AnswerId(2));
        families.join(AnswerId(2), AnswerId(3));
        families.quarantine(AnswerId(3));
        let mut members = families.members(AnswerId(2));
        members.sort_unstable();
        assert_eq!(members, [AnswerId(1), AnswerId(2), AnswerId(3)]);
        assert!(families.is_quarantined(AnswerId(1)) && families.is_quarantined(AnswerId(2)));
        assert!(!families.is_quarantined(AnswerId(4)));
    }

    proptest! {
        #[test]
        fn who_is_barred_stays_barred_and_bars_nobody_later(
            steps in proptest::collection::vec((0u128..12, 0u128..12, any::<bool>()), 0..40),
        ) {
            let mut families = Families::default();
            for (a, b, mark) in steps {
                let barred = |families: &Families| -> Vec<bool> {
                    (0..12).map(|n| families.is_quarantined(AnswerId(n))).collect()
                };
                let before = barred(&families);
                if mark {
                    families.quarantine(AnswerId(a));
                    prop_assert!(before.iter().zip(barred(&families)).all(|(was, is)| !was || is));
                } else {
                    families.join(AnswerId(a), AnswerId(b));
                    prop_assert_eq!(before, barred(&families));
                }
            }
        }

        #[test]
        fn joining_is_an_equivalence(pairs in proptest::collection::vec((0u128..20, 0u128..20), 0..40)) {
            let mut families = Families::default();
            let mut groups: Vec<u128> = (0..20).collect();
            for (a, b) in pairs {
                families.join(AnswerId(a), AnswerId(b));
                let (x, y) = (groups[a as usize], groups[b as usize]);
                groups.iter_mut().filter(|g| **g == y).for_each(|g| *g = x);
            }
            for a in 0..20u128 {
                for b in 0..20u128 {
                    let kin = families.eldest(AnswerId(a)) == families.eldest(AnswerId(b));
                    prop_assert_eq!(kin, groups[a as usize] == groups[b as usize]);
                }
            }
        }
    }
}
