//! What was written to be taken to the letter.

use super::Pair;
use super::reading::Reading;

/// An identifier, operator or flag of one text that the other does not hold. Case and spelling
/// count: in code a typo is another name.
pub(super) fn differs(pair: &Pair<'_>) -> bool {
    lacks(pair.a, pair.b) || lacks(pair.b, pair.a)
}

fn lacks(this: &Reading, other: &Reading) -> bool {
    this.code.iter().any(|written| {
        let same = other.code.contains(written);
        // "iPhone" looks like an identifier and is one word with "iphone"; two spellings that both
        // look like code differ.
        let lower = written.to_lowercase();
        let prose = other.has(&lower) && !other.code.iter().any(|o| o.to_lowercase() == lower);
        !same && !prose
    })
}

/// Quoted strings differ, in case or otherwise. A text that quotes against one that has the same
/// words unquoted does not count.
pub(super) fn quotes_differ(pair: &Pair<'_>) -> bool {
    unmatched(pair.a, pair.b) || unmatched(pair.b, pair.a)
}

fn unmatched(this: &Reading, other: &Reading) -> bool {
    this.quoted.iter().any(|quote| {
        let bare = |s: &str| {
            s.trim_matches(|c: char| c.is_ascii_punctuation() || c.is_whitespace()).to_lowercase()
        };
        let wanted = bare(quote);
        let quoted = || other.quoted.iter().any(|quote| bare(quote) == wanted);
        !wanted.is_empty() && !bare(&other.text).contains(&wanted) && !quoted()
    })
}
