//! What a prompt alone forbids, before there is a neighbour to compare it with.

use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::reading::{Class, Reading};

/// A class of prompts that only an exact match may answer.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Alone {
    /// "yes", "continue", "why?": its meaning lies in what went before.
    TooShort,
    /// Nothing to read: no word in any script.
    NoWords,
    /// Its truth moves with the clock: exact only, with a short time to live, never stale.
    Volatile,
    /// It holds text that nobody sees and a model may read.
    HiddenText,
    /// Longer than the embedder's window: two texts may differ where it does not look.
    OverWindow,
}

impl Alone {
    /// Stable name for configuration, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooShort => "too_short",
            Self::NoWords => "no_words",
            Self::Volatile => "volatile",
            Self::HiddenText => "hidden_text",
            Self::OverWindow => "over_window",
        }
    }
}

/// Words below which a prompt says too little on its own.
const FEWEST_WORDS: usize = 3;
/// The same in signs, for scripts that write no spaces.
const FEWEST_SIGNS: usize = 4;

/// The class of a prompt, if it has one, by the built-in words of the moment. The window is the
/// embedder's to judge: it alone counts tokens.
pub fn alone(reading: &Reading) -> Option<Alone> {
    alone_by(reading, &Clock::default())
}

/// The same, `clock` telling which words are of the moment.
pub fn alone_by(reading: &Reading, clock: &Clock) -> Option<Alone> {
    let words =
        reading.tokens.iter().filter(|t| !matches!(t.class, Class::Filler | Class::Symbol)).count();
    let topic = reading.topic().count();
    let fewest = if reading.script.runs_on() { FEWEST_SIGNS } else { FEWEST_WORDS };
    let spoken = reading.tokens.iter().any(|t| t.class != Class::Symbol);
    if reading.hides {
        return Some(Alone::HiddenText);
    }
    if !spoken {
        return Some(Alone::NoWords);
    }
    if clock.rules(reading) {
        return Some(Alone::Volatile);
    }
    (words < fewest || topic == 0).then_some(Alone::TooShort)
}
