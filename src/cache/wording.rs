//! Questions in the store: as they are, or covered (`store.prompts = false`).
//!
//! A store may hold both kinds at once, since the setting can change. Two questions are compared in
//! one form: where any of the near ones is covered, all are.

use std::sync::Arc;

use super::{
    guards::{Reading, Veil},
    readings::Readings,
    verdict::{self, Wording},
};
use crate::store::{Neighbour, Record};

/// A record as a store may hold it that must not hold prompts. A question that has no covered form is
/// only repeated exactly from then on.
pub fn covered(veil: &Veil, record: Record) -> Record {
    if record.question.is_empty() {
        return record;
    }
    match veil.cover(&record.question) {
        Some(question) => Record { question: question.into(), ..record },
        None => Record { question: "".into(), vector: None, ..record },
    }
}

/// A question beside its near ones, all in one form.
#[derive(Debug)]
pub(super) struct Compared<'r> {
    question: Arc<Reading>,
    readings: &'r Readings,
    /// Where they are covered, one for each of the near ones.
    near: Option<Vec<Arc<Reading>>>,
}

impl<'r> Compared<'r> {
    /// What cannot be compared is taken out of `near`.
    pub(super) fn of(
        veil: &Veil,
        readings: &'r Readings,
        question: &Arc<Reading>,
        near: &mut Vec<Neighbour>,
    ) -> Self {
        let clear = Self { question: Arc::clone(question), readings, near: None };
        if !near.iter().any(|one| Veil::is_covered(&one.question)) {
            return clear;
        }
        let Some(question) = veil.covered(question) else {
            near.retain(|one| !Veil::is_covered(&one.question));
            return clear;
        };
        let mut covered = Vec::with_capacity(near.len());
        near.retain(|one| {
            let reading = veil.read(&one.question);
            let readable = reading.is_some();
            covered.extend(reading.map(Arc::new));
            readable
        });
        Self { question: Arc::new(question), readings, near: Some(covered) }
    }

    /// The question.
    pub(super) fn question(&self) -> &Reading {
        &self.question
    }

    /// The near ones as the verdict hears of them: the same list as [`Self::of`] has left.
    pub(super) fn told<'a>(&'a self, near: &'a [Neighbour]) -> Vec<verdict::Neighbour<'a>> {
        let wording = |at: usize, one: &'a Neighbour| match &self.near {
            Some(covered) => covered.get(at).map(Wording::Read),
            None => Some(Wording::Text(&one.question, self.readings)),
        };
        let told = near.iter().enumerate().filter_map(|(at, one)| {
            let text = wording(at, one)?;
            Some(verdict::Neighbour { answer: one.answer.into(), similarity: one.similarity, text })
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cache::guards::differences, store::contract::record};

    fn near(question: &str) -> Neighbour {
        let Record { id, answer, partition, expires_ms, .. } = record(1);
        Neighbour { id, answer, similarity: 0.9, partition, question: question.into(), expires_ms }
    }

    #[test]
    fn clear_and_covered_questions_meet_in_one_form() {
        let veil = Veil::new(&[7; 32]);
        let (readings, question) =
            (Readings::default(), Arc::new(Reading::of("How do I reset my password?")));
        let clear = near("How to reset my password");
        let mut one = vec![clear.clone()];
        let told = Compared::of(&veil, &readings, &question, &mut one);
        assert!(matches!(told.told(&one)[0].text, Wording::Text(..)));
        let covered = near(&veil.cover("How can I reset my password?").unwrap());
        let foreign = near(&Veil::new(&[8; 32]).cover("How can I reset it?").unwrap());
        let mut all = vec![clear.clone(), foreign, covered.clone()];
        let compared = Compared::of(&veil, &readings, &question, &mut all);
        assert_eq!(all, [clear, covered], "another key's cannot be compared");
        for near in compared.told(&all) {
            let found = differences(compared.question(), &near.text.reading());
            assert!(found.is_empty(), "{found:?}");
        }
        // A script that has no covered form is compared with what is in clear alone.
        let glyphs = Arc::new(Reading::of("法国的首都是什么"));
        assert_eq!(Compared::of(&veil, &readings, &glyphs, &mut all).told(&all[..1]).len(), 1);
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn a_record_loses_its_text_or_its_place_among_the_near_ones() {
        let veil = Veil::new(&[7; 32]);
        let there = covered(&veil, record(1));
        assert!(Veil::is_covered(&there.question) && there.vector.is_some());
        let glyphs = covered(&veil, Record { question: "法国的首都是什么".into(), ..record(1) });
        assert_eq!((&*glyphs.question, glyphs.vector), ("", None));
    }
}
