//! Yes and no: negations and opposites, counted together.
//!
//! A negation turns a statement round, so does an opposite word, and two turns cancel: "not easy"
//! is "difficult", "less pessimistic" is "more optimistic". What matters is whether the number of
//! turns between the texts is odd.

use super::lexicon::lexicon;
use super::reading::{Class, Reading, Token};
use super::{Guard, Pair};

/// Words of a text that is long enough to say one thing in several ways.
const SENTENCE: usize = 8;

/// Negation or opposite that nothing cancels.
pub(super) fn differs(pair: &Pair<'_>) -> Option<Guard> {
    if !pair.words.is_related() {
        return None;
    }
    let (no_a, no_b) = (negations(pair.a), negations(pair.b));
    let turns = opposites(pair);
    let odd = (no_a + no_b + turns.words) % 2 == 1;
    if odd && no_a != no_b {
        let (denies, other) = if no_a > no_b { (pair.a, pair.b) } else { (pair.b, pair.a) };
        if turns.words == 0 && says_no_otherwise(other, denies) {
            return None;
        }
    }
    if odd {
        return Some(if no_a == no_b { Guard::Antonym } else { Guard::Negation });
    }
    // "buy low, sell high" against "sell low, buy high": two opposites and nothing that says they
    // cancel.
    let unexplained = turns.words > 0 && no_a == no_b && turns.degrees != 1;
    unexplained.then_some(Guard::Antonym)
}

fn negations(reading: &Reading) -> usize {
    let lists = lexicon();
    let tag_from = tag_question(reading);
    reading
        .tokens
        .iter()
        .enumerate()
        .filter(|(at, t)| {
            // "No, ..." answers something said before and negates nothing here; "no." numbers
            // things.
            let tag = *at >= tag_from;
            let answer = *at == 0
                && t.word == "no"
                && reading.text.get(2..).is_some_and(|rest| rest.starts_with([',', '.']));
            t.class != Class::Number && lists.is_negator(&t.word) && !answer && !tag
        })
        .count()
}

/// "In the absence of a script" for "if there is no script", "omitting it" for "without it": a word of
/// the other text, and of it alone, that denies without a negation.
fn says_no_otherwise(other: &Reading, denies: &Reading) -> bool {
    const DENIALS: [&str; 13] = [
        "absence", "absent", "lack", "lacking", "lacks", "omit", "omitting", "omits", "avoid",
        "avoiding", "avoids", "prevent", "prevents",
    ];
    let whole = |reading: &Reading| reading.tokens.len() >= SENTENCE;
    whole(other) && whole(denies) && DENIALS.iter().any(|w| other.has(w) && !denies.has(w))
}

/// Where "..., aren't you?" begins; past the end when there is none. Its negation asks for assent
/// and denies nothing.
fn tag_question(reading: &Reading) -> usize {
    let count = reading.tokens.len();
    let last =
        |back: usize| count.checked_sub(back).map_or("", |at| reading.tokens[at].word.as_str());
    let subject = matches!(last(1), "you" | "we" | "they" | "he" | "she" | "it" | "i");
    let auxiliary = |w: &str| {
        matches!(
            w,
            "is" | "are"
                | "am"
                | "was"
                | "were"
                | "do"
                | "does"
                | "did"
                | "have"
                | "has"
                | "had"
                | "can"
                | "could"
                | "will"
                | "would"
                | "should"
        )
    };
    let comma = reading.text.rfind(',').is_some_and(|at| reading.text.len() - at < 16);
    match (subject && comma && count > 4, last(2), auxiliary(last(2)), auxiliary(last(3))) {
        (true, "not", _, true) => count - 3,
        (true, _, true, _) => count - 2,
        _ => count,
    }
}

#[derive(Default)]
struct Turns {
    words: usize,
    /// Opposites such as more and less, which turn the word beside them rather than the statement.
    degrees: usize,
}

/// Pairs of opposite words that stand in one text each.
fn opposites(pair: &Pair<'_>) -> Turns {
    let lists = lexicon();
    let mut turns = Turns::default();
    let mut free: Vec<&Token> = left_over(pair.b, &pair.words.only_b, &pair.words.structure_b);
    for mine in left_over(pair.a, &pair.words.only_a, &pair.words.structure_a) {
        if lists.is_negator(&mine.word) {
            continue;
        }
        let met = free.iter().position(|theirs| {
            !lists.is_negator(&theirs.word)
                && (lists.opposed(&mine.stem, &theirs.stem) || privative(&mine.word, &theirs.word))
        });
        if let Some(at) = met {
            turns.words += 1;
            turns.degrees +=
                usize::from(matches!(mine.word.as_str(), "more" | "less" | "most" | "least"));
            free.remove(at);
        }
    }
    turns
}

fn left_over<'a>(reading: &'a Reading, topic: &[usize], structure: &[usize]) -> Vec<&'a Token> {
    topic.iter().chain(structure).map(|i| &reading.tokens[*i]).collect()
}

/// "happy" and "unhappy", "legal" and "illegal".
fn privative(x: &str, y: &str) -> bool {
    const PREFIXES: [&str; 8] = ["un", "in", "im", "il", "ir", "dis", "non", "de"];
    let (short, long) = if x.len() < y.len() { (x, y) } else { (y, x) };
    short.len() >= 3
        && PREFIXES.iter().any(|p| {
            long.strip_prefix(p)
                .is_some_and(|base| base == short || base.trim_start_matches('-') == short)
        })
        || pair_of_suffixes(short, long)
}

/// "careful" and "careless".
fn pair_of_suffixes(x: &str, y: &str) -> bool {
    let base = |w: &str, ending: &str| w.strip_suffix(ending).map(str::to_owned);
    (base(x, "ful").is_some() && base(x, "ful") == base(y, "less"))
        || (base(y, "ful").is_some() && base(y, "ful") == base(x, "less"))
}
