//! Same words, other roles.

use super::Pair;
use super::reading::{Class, Reading, Token};

/// The two sides of "is x bigger than y" exchanged. Apart from [`roles_differ`], since one full
/// answer serves both questions and only a bare yes or no does not: who serves such answers
/// switches this guard on.
pub(super) fn comparison_turned(pair: &Pair<'_>) -> bool {
    compares(pair) && pair.words.is_edit() && exchanged(pair)
}

fn compares(pair: &Pair<'_>) -> bool {
    pair.a.has("than") && pair.b.has("than")
}

/// Agent and patient, source and goal exchanged.
pub(super) fn roles_differ(pair: &Pair<'_>) -> bool {
    if !pair.words.is_edit() || is_symmetric(pair) || compares(pair) {
        return false;
    }
    preposition_moved(pair) || exchanged(pair) || voice_turned(pair) || subject_turned(pair)
}

/// Relations that hold in both directions, and joined or compared things.
fn is_symmetric(pair: &Pair<'_>) -> bool {
    const RELATIONS: [&str; 36] = [
        "related",
        "acquaintance",
        "acquaintances",
        "friend",
        "friends",
        "married",
        "similar",
        "same",
        "identical",
        "equal",
        "equivalent",
        "sibling",
        "siblings",
        "cousin",
        "cousins",
        "neighbor",
        "neighbors",
        "neighbour",
        "neighbours",
        "partner",
        "partners",
        "twin",
        "colleague",
        "colleagues",
        "classmate",
        "classmates",
        "engaged",
        "dating",
        "compatible",
        "adjacent",
        "difference",
        "distance",
        "between",
        "versus",
        "close",
        "near",
    ];
    RELATIONS.iter().any(|w| pair.a.has(w) && pair.b.has(w))
}

/// A matched word that follows "from" here and "to" there.
fn preposition_moved(pair: &Pair<'_>) -> bool {
    pair.words.matched.iter().any(|(i, j)| match (direction(pair.a, *i), direction(pair.b, *j)) {
        (Some(x), Some(y)) => x != y && (opposite(x) == y),
        _ => false,
    })
}

/// The directed preposition in front of a word, articles and numbers skipped.
fn direction(reading: &Reading, at: usize) -> Option<&str> {
    let before = reading.tokens[..at].iter().rev().find(|t| {
        !matches!(t.word.as_str(), "the" | "a" | "an" | "my" | "your") && t.class != Class::Number
    })?;
    matches!(
        before.word.as_str(),
        "from"
            | "to"
            | "into"
            | "before"
            | "after"
            | "von"
            | "nach"
            | "zu"
            | "de"
            | "à"
            | "a"
            | "из"
            | "в"
    )
    .then_some(before.word.as_str())
}

fn opposite(preposition: &str) -> &str {
    match preposition {
        "from" => "to",
        "to" => "from",
        "into" => "from",
        "before" => "after",
        "after" => "before",
        "von" => "nach",
        "nach" => "von",
        "de" => "à",
        "à" => "de",
        "из" => "в",
        "в" => "из",
        other => other,
    }
}

/// Same words on the same places but for two or more that have changed places.
fn exchanged(pair: &Pair<'_>) -> bool {
    let kept = |r: &Reading| -> Vec<usize> {
        (0..r.tokens.len()).filter(|i| r.tokens[*i].class != Class::Filler).collect()
    };
    let (a, b) = (kept(pair.a), kept(pair.b));
    if a.len() != b.len() || pair.words.topic_share < 1.0 || passive(pair.a) != passive(pair.b) {
        return false;
    }
    let moved: Vec<usize> = (0..a.len()).filter(|n| !same_word(pair, a[*n], b[*n])).collect();
    let topical = |r: &Reading, at: usize| {
        r.tokens[at].class != Class::Function || r.tokens[at].word == "not"
    };
    let all_topic = moved.iter().all(|n| topical(pair.a, a[*n]) && topical(pair.b, b[*n]));
    moved.len() >= 2
        && all_topic
        && !joined(pair.a, &moved.iter().map(|n| a[*n]).collect::<Vec<_>>())
}

fn same_word(pair: &Pair<'_>, i: usize, j: usize) -> bool {
    pair.a.tokens[i].same_stem(&pair.b.tokens[j]) || pair.words.matched.contains(&(i, j))
}

/// Nothing but "and", "or" and articles between the words that changed places: their order says
/// nothing.
fn joined(reading: &Reading, moved: &[usize]) -> bool {
    let (Some(first), Some(last)) = (moved.first(), moved.last()) else {
        return false;
    };
    let between =
        || (*first..*last).filter(|i| !moved.contains(i)).map(|i| reading.tokens[i].word.as_str());
    let links = ["and", "or", "vs", "&", "versus", "и", "und", "et", "y", "e"];
    between().any(|w| links.contains(&w))
        && between()
            .all(|w| links.contains(&w) || matches!(w, "a" | "an" | "the" | "both" | "either"))
}

/// "Can my boss record me" against "can I record my boss": a pronoun turns from object to subject
/// and the rest changes order.
fn subject_turned(pair: &Pair<'_>) -> bool {
    let turned = [("i", "me"), ("he", "him"), ("we", "us"), ("they", "them")].iter().any(
        |(subject, object)| {
            let only = |r: &Reading, w: &str, not: &str| r.has(w) && !r.has(not);
            (only(pair.a, subject, object) && only(pair.b, object, subject))
                || (only(pair.b, subject, object) && only(pair.a, object, subject))
        },
    );
    turned
        && pair.words.topic_share >= 1.0
        && pair.words.matched.windows(2).any(|w| w[0].1 > w[1].1)
}

/// One text passive, the other active, and the names in the same order: who acts is exchanged.
fn voice_turned(pair: &Pair<'_>) -> bool {
    if passive(pair.a) == passive(pair.b) || pair.words.topic_share < 0.99 {
        return false;
    }
    let places: Vec<usize> = pair.words.matched.iter().map(|(_, j)| *j).collect();
    let (Some(first), Some(last)) = (places.first(), places.last()) else {
        return false;
    };
    places.len() >= 3 && first < last
}

/// A form of "be", and a participle right before "by".
fn passive(reading: &Reading) -> bool {
    let by = reading.tokens.iter().position(|t| t.word == "by").filter(|at| *at > 0);
    by.is_some_and(|at| {
        let verb = &reading.tokens[at - 1];
        let be = reading.tokens[at.saturating_sub(7)..at].iter().any(|t| {
            matches!(
                t.word.as_str(),
                "is" | "are" | "was" | "were" | "be" | "been" | "being" | "am"
            )
        });
        be && verb.class == Class::Content && participle(verb)
    })
}

/// By its form; "a field by its name" has a noun there.
fn participle(verb: &Token) -> bool {
    const UNCHANGED: [&str; 16] = [
        "bound", "bred", "cast", "cut", "fed", "hit", "hurt", "led", "put", "read", "set", "shot",
        "shut", "struck", "sung", "worn",
    ];
    let word = verb.word.as_str();
    let irregular = verb.stem != verb.word && !word.ends_with(['s', 'e']);
    !word.is_ascii()
        || word.ends_with("ed")
        || word.ends_with("en")
        || word.ends_with("wn")
        || irregular
        || word == "made"
        || UNCHANGED.contains(&word)
}
