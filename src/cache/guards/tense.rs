//! When: was, is, will be, used to be.

use super::Pair;
use super::reading::{Asked, Reading};

/// Another time, told by the auxiliaries, in texts that are edits of one another.
pub(super) fn differs(pair: &Pair<'_>) -> bool {
    if !pair.words.is_edit() {
        return false;
    }
    let (a, b) = (Times::of(pair.a), Times::of(pair.b));
    let mere_consequence = states_consequence(pair.a) && states_consequence(pair.b);
    a.habit != b.habit
        || a.becoming != b.becoming
        || (a.future != b.future && !(mere_consequence && !a.past && !b.past))
        || (a.past && b.present && !a.present)
        || (b.past && a.present && !b.present)
}

/// "When it is set, the file will be deleted" says no more than "is deleted": a whole statement of how
/// something works, in which nobody tells what they are about to do.
fn states_consequence(reading: &Reading) -> bool {
    let told = ["i", "we", "my", "our", "me", "us"].iter().any(|w| reading.has(w));
    let asks = reading.text.contains('?')
        || matches!(reading.asked, Some(Asked::YesNo | Asked::Who | Asked::What | Asked::Where))
        || reading.tokens.first().is_some_and(|t| matches!(t.word.as_str(), "how" | "why"));
    !told && !asks && reading.tokens.len() >= 8
}

struct Times {
    past: bool,
    present: bool,
    future: bool,
    habit: bool,
    becoming: bool,
}

impl Times {
    fn of(reading: &Reading) -> Self {
        let any = |words: &[&str]| words.iter().any(|w| reading.has(w));
        let going = reading.tokens.windows(2).any(|w| w[0].word == "going" && w[1].word == "to");
        Self {
            past: any(&[
                "was", "were", "did", "had", "war", "waren", "était", "était", "fue", "era", "был",
                "была", "были", "था", "थे",
            ]),
            present: any(&["is", "are", "am", "do", "does", "ist", "sind", "est", "es", "है", "हैं"]),
            future: any(&["will", "shall", "wird", "werden", "будет", "будут"]) || going,
            habit: any(&["used-to", "formerly", "previously", "former", "ex"]),
            becoming: any(&["becoming", "become", "becomes"]),
        }
    }
}
