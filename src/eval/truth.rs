//! How right is told from wrong while a stream or a log is replayed.

use super::dataset::Truth;
use super::knn::Vectors;
use crate::cache::judge::{Answer, Bands, agreement};
use crate::cache::verdict::Agreement;

/// Compares the answers of two rows.
pub(super) enum Judging<'a> {
    /// By label.
    Classes(&'a [usize]),
    /// By the judge that serves: equal text, equal fields, else the answers' vectors where those are
    /// sure.
    Answers {
        /// One answer a row.
        texts: &'a [String],
        /// Their vectors.
        vectors: &'a Vectors,
    },
}

impl<'a> Judging<'a> {
    /// For pairs there is nothing to compare: each carries its label.
    pub(super) fn of(truth: &'a Truth, vectors: &'a Vectors) -> Self {
        match truth {
            Truth::Classes(classes) => Self::Classes(classes),
            Truth::Answers(texts) => Self::Answers { texts, vectors },
            Truth::Pairs(_) => Self::Classes(&[]),
        }
    }

    /// Whether one row's answer may serve the other; `None` where the judge cannot tell.
    pub(super) fn compare(&self, a: usize, b: usize) -> Option<Agreement> {
        match self {
            Self::Classes(classes) => {
                let same = classes[a] == classes[b];
                Some(if same { Agreement::Same } else { Agreement::Different })
            }
            Self::Answers { texts, vectors } => {
                let answer = |row: usize| Answer { text: &texts[row], vector: vectors.whole(row) };
                agreement(&answer(a), &answer(b), Bands::default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_equal_or_not_and_answers_may_stay_open() {
        let truth = Truth::Classes(vec![3, 3, 4]);
        let none = Vectors::default();
        let judging = Judging::of(&truth, &none);
        assert_eq!(judging.compare(0, 1), Some(Agreement::Same));
        assert_eq!(judging.compare(0, 2), Some(Agreement::Different));

        let long = "The capital of France is the city of Paris.";
        let other = "It is Paris that is the capital of France.";
        let texts = ["Yes.", "yes", "No", long, other, other].map(str::to_owned);
        let truth = Truth::Answers(texts.into());
        // The last answer does not fit into the embedder's window: it has no vector.
        let flat = vec![1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.6, 0.8, 0.0, 0.0];
        let vectors = Vectors::new(flat, 2).unwrap();
        let judging = Judging::of(&truth, &vectors);
        assert_eq!(judging.compare(0, 1), Some(Agreement::Same));
        assert_eq!(judging.compare(0, 2), Some(Agreement::Different));
        assert_eq!(judging.compare(3, 4), Some(Agreement::Different));
        assert_eq!(judging.compare(3, 5), None, "no vector is no proof of a difference");
    }
}
