//! One word added, one word replaced, one name exchanged.

use super::Pair;
use super::lexicon::lexicon;
use super::reading::{Class, Reading, Token};
use crate::embed::is_pictograph;

/// A name on either side that the other does not hold, however many words they share; a name added
/// to an edit.
pub(super) fn entity_differs(pair: &Pair<'_>) -> bool {
    let (a, b) = (names(pair.a, &pair.new_a), names(pair.b, &pair.new_b));
    if is_irrelevant(pair) {
        return false;
    }
    (!a.is_empty() && !b.is_empty()) || ((!a.is_empty() || !b.is_empty()) && pair.words.is_edit())
}

/// Of the unmatched topic words of a text those that the other does not hold at all: what is merely said
/// again changes nothing.
pub(super) fn new_words(mine: &Reading, only: &[usize], theirs: &Reading) -> Vec<usize> {
    let said = |i: &usize| {
        let new = &mine.tokens[*i];
        theirs
            .tokens
            .iter()
            .any(|t| t.same_stem(new) || (!new.named && lexicon().synonymous(&new.stem, &t.stem)))
    };
    let adorns = |i: &usize| mine.tokens[*i].word.chars().all(is_pictograph);
    only.iter().copied().filter(|i| !said(i) && !adorns(i)).collect()
}

fn names<'a>(reading: &'a Reading, only: &[usize]) -> Vec<&'a Token> {
    only.iter().map(|i| &reading.tokens[*i]).filter(|t| t.named).collect()
}

/// The topic of one text is all in the other, which says something more.
pub(super) fn word_added(pair: &Pair<'_>) -> bool {
    let one_sided = pair.new_a.is_empty() != pair.new_b.is_empty();
    one_sided && (pair.words.is_minimal() || sentence_added(pair))
}

/// One text holds the other and a further sentence of substance: a follow-up, or stuffing that
/// steers a near answer to itself.
fn sentence_added(pair: &Pair<'_>) -> bool {
    const SUBSTANCE: usize = 3;
    let (longer, extra, shorter) = if pair.new_a.is_empty() {
        (pair.b, &pair.new_b, pair.a)
    } else {
        (pair.a, &pair.new_a, pair.b)
    };
    let last = shorter.tokens.last().map_or(0, |t| t.sentence);
    extra.len() >= SUBSTANCE
        && extra
            .iter()
            .all(|i| longer.tokens[*i].sentence > last || longer.tokens[*i].sentence == 0)
}

/// Some words of an edit give way to others that are not known to mean the same.
pub(super) fn word_replaced(pair: &Pair<'_>) -> bool {
    let exchanged = !pair.new_a.is_empty() && !pair.new_b.is_empty() && pair.words.is_minimal();
    exchanged && !cancelled(pair) && !is_irrelevant(pair)
}

/// Every replaced word is an opposite or a negation whose turns cancel; `polarity` has judged
/// those.
fn cancelled(pair: &Pair<'_>) -> bool {
    let lists = lexicon();
    let (a, b) = (&pair.words.only_a, &pair.words.only_b);
    let cancels = |i: &usize, j: &usize| {
        let (x, y) = (&*pair.a.tokens[*i].stem, &*pair.b.tokens[*j].stem);
        lists.opposed(x, y) || bare(x) == bare(y)
    };
    a.len() == b.len() && a.iter().all(|i| b.iter().any(|j| cancels(i, j)))
}

/// Without what turns it round.
fn bare(word: &str) -> &str {
    let turns = ["un", "in", "im", "il", "ir", "dis", "non"];
    turns.iter().find_map(|turn| word.strip_prefix(turn)).unwrap_or(word)
}

/// The changed words stand in an opening statement and the question, the same in both, does not
/// lean on it.
///
/// "My dog eats rice. Is it normal for animals to eat rice?" asks the same about a cat; "I hurt my
/// knee. Should I play?" does not.
fn is_irrelevant(pair: &Pair<'_>) -> bool {
    let last = |r: &Reading| r.tokens.last().map_or(0, |t| t.sentence);
    let (last_a, last_b) = (last(pair.a), last(pair.b));
    if last_a == 0 || last_b == 0 {
        return false;
    }
    let earlier = pair.words.only_a.iter().all(|i| pair.a.tokens[*i].sentence < last_a)
        && pair.words.only_b.iter().all(|i| pair.b.tokens[*i].sentence < last_b);
    fn question(r: &Reading, n: u16) -> Vec<&str> {
        r.tokens.iter().filter(|t| t.sentence == n).map(|t| t.word.as_str()).collect()
    }
    let (asked, also) = (question(pair.a, last_a), question(pair.b, last_b));
    const LEANING: [&str; 21] = [
        "this", "that", "these", "those", "they", "them", "their", "he", "she", "him", "her",
        "his", "i", "me", "my", "we", "us", "our", "there", "here", "then",
    ];
    let topic =
        pair.a.tokens.iter().filter(|t| t.sentence == last_a && t.class == Class::Content).count();
    let named =
        names(pair.a, &pair.words.only_a).len() + names(pair.b, &pair.words.only_b).len() > 0;
    let expletive = asked
        .iter()
        .position(|w| *w == "it")
        .is_none_or(|at| at > 0 && matches!(asked[at - 1], "is" | "was"));
    earlier
        && !named
        && expletive
        && asked == also
        && topic >= 2
        && !asked.iter().any(|w| LEANING.contains(w))
}
