//! Who asks in another language wants the answer in it.

use super::Pair;
use super::unicode::Script;

/// Another writing system, unless one text has no letters at all.
pub(super) fn differs(pair: &Pair<'_>) -> bool {
    let (a, b) = (pair.a.script, pair.b.script);
    a != b && a != Script::None && b != Script::None
}

/// Two languages of one script, both recognised.
pub(super) fn language_differs(pair: &Pair<'_>) -> bool {
    let (a, b) = (pair.a.language, pair.b.language);
    a != b && a != 0 && b != 0
}
