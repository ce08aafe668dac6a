//! Time words that tell a story rather than ask for the state of the world.
//!
//! "Yesterday my phone was stolen, what shall I do?" has the same answer next week; "What happened
//! yesterday?" has not. Whoever tells what befell them and asks for a way out or a reason asks
//! nothing of the clock.

use super::reading::{Class, Reading, Token};

/// Words that are of the moment only where the world is asked about.
const SITUATIONAL: [&str; 18] = [
    "now",
    "today",
    "tonight",
    "tomorrow",
    "yesterday",
    "recent",
    "recently",
    "current",
    "currently",
    "rate",
    "rates",
    "score",
    "scores",
    "night",
    "week",
    "month",
    "year",
    "far",
];
/// How a sentence begins that asks for a fact.
const ASKING: [&str; 27] = [
    "what", "which", "who", "whom", "whose", "when", "where", "is", "are", "am", "was", "were",
    "do", "does", "did", "has", "have", "had", "can", "could", "will", "would", "shall", "should",
    "may", "tell", "show",
];
/// Verbs by which a statement asks after all: "I want to know".
const INDIRECT: [&str; 13] = [
    "know",
    "tell",
    "show",
    "check",
    "see",
    "find",
    "give",
    "look",
    "view",
    "share",
    "wonder",
    "wondering",
    "curious",
];
/// Rates that things have, not markets.
const MEASURED: [&str; 12] = [
    "sampling", "sample", "frame", "bit", "refresh", "learning", "heart", "clock", "baud", "error",
    "data", "transfer",
];
const SPEAKER: [&str; 5] = ["i", "we", "my", "our", "me"];

/// Whether the word at `at`, which is one of the moment, only tells a story here, or is no such
/// word at all but a verb.
pub(super) fn harmless(reading: &Reading, at: usize) -> bool {
    let token = &reading.tokens[at];
    let before = at.checked_sub(1).map_or("", |before| reading.tokens[before].word.as_str());
    if matches!(token.word.as_str(), "rate" | "rates") && MEASURED.contains(&before) {
        return true;
    }
    let situational = SITUATIONAL.contains(&token.word.as_str());
    (situational && is_told(reading, token.sentence)) || is_verb(reading, at)
}

/// A sentence in which somebody speaks of themselves, and that asks for nothing or for how and why.
fn is_told(reading: &Reading, sentence: u16) -> bool {
    let own = || reading.tokens.iter().filter(|t| t.sentence == sentence);
    let words = || {
        let said = own().filter(|t| !matches!(t.class, Class::Filler | Class::Symbol));
        said.map(|t| t.word.as_str())
    };
    let measured = words().zip(words().skip(1)).any(|(a, b)| {
        a == "how" && matches!(b, "much" | "many" | "far" | "long" | "often" | "is" | "are")
    });
    let asks = words().next().is_some_and(|first| ASKING.contains(&first));
    // "I would like to know" is filler elsewhere; here it makes a question of a statement.
    let indirect = own().any(|t| INDIRECT.contains(&t.word.as_str()));
    words().any(|word| SPEAKER.contains(&word)) && !asks && !measured && !indirect
}

/// "Where do they live", "schedule a meeting".
fn is_verb(reading: &Reading, at: usize) -> bool {
    const LEADING: [&str; 12] =
        ["to", "i", "you", "we", "they", "he", "she", "can", "and", "must", "should", "will"];
    let before = at.checked_sub(1).map(|before| &reading.tokens[before]);
    let led = before.is_some_and(|t| LEADING.contains(&t.word.as_str()));
    match reading.tokens[at].word.as_str() {
        "schedule" => led || before.is_none_or(|t| t.class == Class::Filler),
        "live" => {
            led || reading.tokens.get(at + 1).is_none_or(|t: &Token| t.class != Class::Content)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Alone, alone};
    use super::*;

    #[test]
    fn a_story_is_told_apart_from_a_question_about_the_moment() {
        for text in [
            "Yesterday my phone was stolen from me, what do I need to do about it?",
            "My contactless stopped working today. Can you please help me fix it?",
            "How do I cancel a transfer that I made today?",
            "Why was I charged a fee yesterday?",
            "I recently moved, how do I change my address?",
            "The exchange rate that I got was wrong",
            "Please schedule a meeting with Tom at noon",
            "Where does the fox live?",
            "How do I improve my credit score?",
            "Can my son have a card of his own?",
        ] {
            assert_eq!(alone(&Reading::of(text)), None, "{text}");
        }
        for text in [
            "What is my balance now?",
            "I would like to know what your exchange rates are.",
            "How much did I spend this week?",
            "How is the exchange rate looking right now?",
            "Do I have any meetings today?",
            "Is the museum open now?",
            "What is the price of gold?",
            "My plants need rain, what is the weather in Rome?",
            "What is on my schedule?",
            "What is the live score of the game?",
            "Bugün hava nasıl olacak İstanbul'da?",
        ] {
            assert_eq!(alone(&Reading::of(text)), Some(Alone::Volatile), "{text}");
        }
    }
}
