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
        let same = other
            .code
            .iter()
            .any(|o| o == written || only_begins_sentence(this, written, other, o));
        // "iPhone" looks like an identifier and is one word with "iphone"; two spellings that both
        // look like code differ.
        let lower = written.to_lowercase();
        let prose = other.has(&lower) && !other.code.iter().any(|o| o.to_lowercase() == lower);
        !same && !prose
    })
}

/// "Iter_archive()" at the head of a sentence is "iter_archive()" elsewhere: equal but for the first
/// letter, which is a capital only where grammar asks for one.
fn only_begins_sentence(this: &Reading, written: &str, other: &Reading, o: &str) -> bool {
    let (Some(x), Some(y)) = (written.chars().next(), o.chars().next()) else { return false };
    let capital = if x.is_uppercase() { (this, written) } else { (other, o) };
    x != y
        && x.to_lowercase().eq(y.to_lowercase())
        && written[x.len_utf8()..] == o[y.len_utf8()..]
        && written.contains('_')
        && begins_sentence(&capital.0.text, capital.1)
}

fn begins_sentence(text: &str, word: &str) -> bool {
    text.match_indices(word).all(|(at, _)| {
        let before =
            text[..at].trim_end_matches(|c: char| c.is_whitespace() || "`\"'(".contains(c));
        before.is_empty() || before.ends_with(['.', '?', '!', ':'])
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
