//! Who is meant: pronouns, and the question word.

use super::Pair;
use super::reading::{Asked, Reading};

/// He for she, his for a name, I for you, in texts that are edits of one another.
pub(super) fn differs(pair: &Pair<'_>) -> bool {
    if !pair.words.is_related() {
        return false;
    }
    let (a, b) = (third_persons(pair.a), third_persons(pair.b));
    a != b || exchanged(pair)
}

/// Grammatical person and gender of each third-person pronoun, in order; "it" is left out, since it
/// often means nothing.
fn third_persons(reading: &Reading) -> Vec<u8> {
    let kind = |word: &str| match word {
        "he" | "him" | "his" | "himself" | "er" | "ihm" | "он" | "его" | "ему" => {
            Some(b'm')
        }
        "she" | "her" | "hers" | "herself" | "она" | "её" | "ей" => Some(b'f'),
        _ => None,
    };
    reading.tokens.iter().filter_map(|t| kind(&t.word)).collect()
}

/// Both speak of "I" and "you", the other way round.
fn exchanged(pair: &Pair<'_>) -> bool {
    let order = |r: &Reading| -> Vec<u8> {
        r.tokens
            .iter()
            .filter_map(|t| match t.word.as_str() {
                "i" | "me" | "my" | "mine" => Some(1),
                "you" | "your" | "yours" => Some(2),
                _ => None,
            })
            .collect()
    };
    let (a, b) = (order(pair.a), order(pair.b));
    let turned: Vec<u8> = b.iter().map(|p| 3 - p).collect();
    let mut ordered = [a.clone(), b.clone()];
    ordered.iter_mut().for_each(|o| o.sort_unstable());
    let both = a.contains(&1) && a.contains(&2);
    pair.words.is_edit() && a != b && (ordered[0] == ordered[1] || (both && a == turned))
}

/// Another question word, in texts that are edits of one another.
pub(super) fn question_differs(pair: &Pair<'_>) -> bool {
    let (Some(a), Some(b)) = (pair.a.asked, pair.b.asked) else {
        return false;
    };
    // "What do I need to ..." and "How do I ..." ask for the same steps; "which is lighter" and "is
    // it lighter" compare the same.
    let steps = matches!(
        (a, b),
        (Asked::What, Asked::How | Asked::YesNo) | (Asked::How | Asked::YesNo, Asked::What)
    );
    a != b && !steps && pair.words.is_edit()
}
