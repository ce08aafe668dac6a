//! The judge: does a fresh answer say the same as a stored one?
//!
//! Cheapest first: equal when normalised; both structured, then equal field by field; else the
//! similarity of the answers' vectors, where only its two sure ends count. What is in between is
//! left to a language model, if one is configured, or stays unjudged: an unjudged question teaches
//! nothing, and nothing is served on what was never taught.

mod error;
mod fields;
pub mod llm;
mod normal;

pub use error::{JudgeError, corrected};
pub use fields::fields_agree;
pub use normal::normal;

use crate::cache::guards::{GuardSet, Reading, differences};
use crate::cache::verdict::Agreement;
use crate::embed::{pictographs, shows_other};

/// Cosine similarity of two answers' vectors from which they say the same, and below which they do
/// not.
///
/// For all-MiniLM-L6-v2, from GPTCache's 999 pairs of reworded statements: 39 % of the rewordings
/// reach 0.95 and 2.3 % lie below 0.75, while of each statement's nearest other one among 998, 2.9 %
/// reach 0.95.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bands {
    /// At or above: the same.
    pub same: f32,
    /// Below: different.
    pub different: f32,
}

impl Default for Bands {
    /// Wide on purpose: a label that is not sure is worth less than none.
    fn default() -> Self {
        Self { same: 0.95, different: 0.75 }
    }
}

/// An answer as the judge sees it.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Its text.
    pub text: &'a str,
    /// Its unit vector, when it was embedded.
    pub vector: Option<&'a [f32]>,
}

/// The verdict of the offline judges; `None` when they cannot tell.
pub fn agreement(fresh: &Answer<'_>, stored: &Answer<'_>, bands: Bands) -> Option<Agreement> {
    let (a, b) = (normal(fresh.text), normal(stored.text));
    if a.is_empty() || b.is_empty() {
        return None;
    }
    if a == b {
        return (!other_pictographs(fresh.text, stored.text)).then_some(Agreement::Same);
    }
    if let Some(agree) = fields_agree(fresh.text, stored.text) {
        return Some(if agree { Agreement::Same } else { Agreement::Different });
    }
    // "yes" and "no", "42" and "43": short answers that differ at all differ.
    let short = |text: &str| text.split(' ').count() <= 3;
    if short(&a) && short(&b) {
        return Some(Agreement::Different);
    }
    let cosine: f32 = fresh.vector?.iter().zip(stored.vector?).map(|(x, y)| x * y).sum();
    if cosine >= bands.same {
        (!contradict(fresh.text, stored.text)).then_some(Agreement::Same)
    } else if cosine < bands.different {
        Some(Agreement::Different)
    } else {
        None
    }
}

/// What makes two near answers opposite ones: another number, a negation, another name. Long answers
/// differ in some number anyway, and are left to their vectors.
fn contradict(a: &str, b: &str) -> bool {
    const LONGEST: usize = 400;
    let short = a.len() <= LONGEST && b.len() <= LONGEST;
    other_pictographs(a, b)
        || short
            && !differences(&Reading::of(a), &Reading::of(b)).and(GuardSet::CONTRARY).is_empty()
}

/// Neither vectors nor the normal form tell them apart.
fn other_pictographs(a: &str, b: &str) -> bool {
    shows_other(&pictographs(a), &pictographs(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(a: &str, b: &str, cosine: Option<f32>) -> Option<Agreement> {
        let x = [1.0, 0.0];
        let y = cosine.map(|c| [c, (1.0 - c * c).sqrt()]);
        let fresh = Answer { text: a, vector: Some(&x) };
        agreement(&fresh, &Answer { text: b, vector: y.as_ref().map(|v| &v[..]) }, Bands::default())
    }

    #[test]
    fn cheap_judges_come_first() {
        assert_eq!(judged("Paris.", " paris", None), Some(Agreement::Same));
        assert_eq!(judged("Yes.", "No.", Some(0.99)), Some(Agreement::Different));
        assert_eq!(
            judged(r#"{"a": 1, "b": [2]}"#, r#"{"b":[2],"a":1.0}"#, None),
            Some(Agreement::Same)
        );
        assert_eq!(judged(r#"{"a": 1}"#, r#"{"a": 2}"#, Some(1.0)), Some(Agreement::Different));
    }

    #[test]
    fn vectors_decide_only_where_they_are_sure() {
        let (a, b) =
            ("The capital of France is Paris, of course it is.", "France's capital city is Paris.");
        assert_eq!(judged(a, b, Some(0.95)), Some(Agreement::Same));
        assert_eq!(judged(a, "France's capital city is not Paris.", Some(0.99)), None);
        let moods = ("It makes most people feel \u{1f642}", "It makes most people feel \u{1f621}");
        assert_eq!(judged(moods.0, moods.1, Some(1.0)), None);
        assert_eq!(judged(a, b, Some(0.85)), None);
        assert_eq!(judged(a, b, Some(0.3)), Some(Agreement::Different));
        assert_eq!(judged(a, b, None), None);
    }

    #[test]
    fn an_empty_answer_proves_nothing() {
        assert_eq!(judged("", "", None), None);
    }
}
