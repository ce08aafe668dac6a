//! Texts without spaces between words: compared as runs of signs.

use super::lexicon::lexicon;
use super::reading::Reading;
use super::unicode::Script;
use super::{Guard, GuardSet};

/// Refines what the word guards found. Their word-by-word findings mean little where each sign is a
/// token, so additions, substitutions and orders are judged anew on the runs of signs that differ.
pub(super) fn differences(a: &Reading, b: &Reading, found: GuardSet) -> GuardSet {
    let mut found = found.without(GuardSet::of(&[
        Guard::Addition,
        Guard::Substitution,
        Guard::Role,
        Guard::Negation,
        Guard::Antonym,
        Guard::Logic,
    ]));
    let (x, y) = (bare(&a.compact), bare(&b.compact));
    let lists = &lexicon().glyphs;
    let (only_x, only_y) = leftovers(&x, &y);
    let longest = x.chars().count().max(y.chars().count()).max(1);
    let apart = only_x.chars().count().max(only_y.chars().count());
    let is_edit = apart * 2 <= longest;
    if !is_edit {
        return found;
    }
    let count = |text: &str| lists.negators.iter().map(|n| text.matches(n).count()).sum::<usize>();
    if count(&x) % 2 != count(&y) % 2 {
        found.insert(Guard::Negation);
    }
    let turned = |l: &str, r: &str| {
        (only_x.contains(l) && only_y.contains(r)) || (only_x.contains(r) && only_y.contains(l))
    };
    if lists.poles.iter().any(|(l, r)| turned(l, r)) {
        found.insert(Guard::Antonym);
    }
    let any = |words: &[&str], text: &str| words.iter().any(|w| text.contains(w));
    if any(&lists.or, &x) != any(&lists.or, &y) {
        found.insert(Guard::Logic);
    }
    match (only_x.is_empty(), only_y.is_empty()) {
        (true, true) if x != y && !any(&lists.and, &x) => found.insert(Guard::Role),
        (true, false) | (false, true) => found.insert(Guard::Addition),
        (false, false) => found.insert(Guard::Substitution),
        (true, true) => {}
    }
    found
}

/// Without courtesy, particles and punctuation.
fn bare(compact: &str) -> String {
    let mut text: String =
        compact.chars().filter(|c| c.is_alphanumeric() || Script::of(*c) != Script::None).collect();
    for word in &lexicon().glyphs.polite {
        if text.contains(word) {
            text = text.replace(word, "");
        }
    }
    text
}

/// Signs of each text that the other lacks, repeated signs counted.
fn leftovers(x: &str, y: &str) -> (String, String) {
    let mut rest: Vec<char> = y.chars().collect();
    let mut only = String::new();
    for c in x.chars() {
        match rest.iter().position(|r| *r == c) {
            Some(at) => drop(rest.remove(at)),
            None => only.push(c),
        }
    }
    (only, rest.into_iter().collect())
}
