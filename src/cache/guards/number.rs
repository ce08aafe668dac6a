//! Numbers and what they count.

use std::collections::BTreeSet;

use super::Pair;
use super::lexicon::{Qualifier, lexicon};
use super::reading::{Class, Reading};

/// Another set of numbers, dates or versions. Holds whatever else the texts share: an answer about
/// 2023 is none about 2024.
pub(super) fn differ(pair: &Pair<'_>) -> bool {
    numbers(pair.a) != numbers(pair.b)
}

fn numbers(reading: &Reading) -> BTreeSet<&str> {
    reading.tokens.iter().filter(|t| t.class == Class::Number).map(|t| t.word.as_str()).collect()
}

/// Another unit, currency, language or format.
pub(super) fn qualifiers_differ(pair: &Pair<'_>) -> bool {
    qualifiers(pair.a) != qualifiers(pair.b)
}

/// Words that mostly mean something else: they name a qualifier only after a number or after "in",
/// "to", "per"...
const AMBIGUOUS: &[&str] = &[
    "go", "swift", "rust", "r", "c", "dart", "julia", "lua", "ruby", "basic", "real", "reais",
    "won", "pound", "pounds", "m", "l", "g", "second", "seconds", "sec", "secs", "minute",
    "minutes", "min", "mins", "hour", "hours", "day", "days", "week", "weeks", "month", "months",
    "year", "years", "spring", "express", "pandas", "foot", "feet", "in", "mi", "rs", "peso",
    "pesos", "franc", "francs", "mac", "windows", "excel", "meter", "meters", "polish", "node",
    "flask", "scala", "css", "md", "vue", "rails", "mm", "oz",
];

fn qualifiers(reading: &Reading) -> BTreeSet<Qualifier> {
    let lists = lexicon();
    let mut found = BTreeSet::new();
    for (at, token) in reading.tokens.iter().enumerate() {
        let Some(named) = lists.qualifier(&token.word) else { continue };
        let before = at.checked_sub(1).map(|b| &reading.tokens[b]);
        let counted = before.is_some_and(|t| t.class == Class::Number);
        let led = before.is_some_and(|t| {
            matches!(t.word.as_str(), "in" | "to" | "into" | "per" | "with" | "using" | "from")
        });
        let span = named.family == "unit"
            && matches!(
                named.value,
                "day" | "week" | "month" | "year" | "second" | "minute" | "hour"
            );
        // "In real time" is no currency.
        let describes = token.word == "real"
            && reading.tokens.get(at + 1).is_some_and(|t| t.class == Class::Content);
        let meant = if describes {
            false
        } else if span {
            counted
        } else {
            counted || led || !AMBIGUOUS.contains(&token.word.as_str())
        };
        if meant {
            found.insert(named);
        }
    }
    found
}
