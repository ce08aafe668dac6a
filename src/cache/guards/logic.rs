//! And, or, only, all, some.

use super::Pair;
use super::reading::Reading;

/// Joined or restricted otherwise, in texts that are edits of one another.
pub(super) fn differs(pair: &Pair<'_>) -> bool {
    if !pair.words.is_edit() {
        return false;
    }
    let (a, b) = (Logic::of(pair.a), Logic::of(pair.b));
    // "lighter than" and "which is lighter, x or y" compare the same two things.
    let compares = (a.or && pair.b.has("than")) || (b.or && pair.a.has("than"));
    (a.or != b.or && !compares)
        || a.only != b.only
        || a.scope.zip(b.scope).is_some_and(|(x, y)| x != y)
        || (a.both && b.or)
        || (b.both && a.or)
}

struct Logic {
    or: bool,
    both: bool,
    only: bool,
    scope: Option<Scope>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Scope {
    All,
    Some,
    None,
}

impl Logic {
    fn of(reading: &Reading) -> Self {
        let any = |words: &[&str]| words.iter().any(|w| reading.has(w));
        let scope = if any(&[
            "all",
            "every",
            "each",
            "always",
            "everyone",
            "everything",
            "alle",
            "tous",
            "todos",
            "tutti",
            "все",
        ]) {
            Some(Scope::All)
        } else if any(&[
            "some",
            "sometimes",
            "someone",
            "something",
            "einige",
            "quelques",
            "algunos",
            "alcuni",
            "некоторые",
        ]) {
            Some(Scope::Some)
        } else if any(&["none", "nobody", "nothing"]) {
            Some(Scope::None)
        } else {
            None
        };
        Self {
            or: any(&["or", "oder", "ou", "o", "или", "veya", "या", "أو"]),
            both: any(&["both", "simultaneously"]),
            only: any(&[
                "only",
                "solely",
                "exclusively",
                "nur",
                "seulement",
                "solo",
                "sólo",
                "только",
                "sadece",
                "केवल",
                "فقط",
            ]),
            scope,
        }
    }
}
