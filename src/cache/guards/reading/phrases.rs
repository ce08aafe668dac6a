//! Stock phrases that say no more than "how", and words whose role their neighbours decide.

use super::{Asked, Class, Reading};

/// Reclassifies tokens by their neighbours and finds the question word.
pub(super) fn settle(reading: &mut Reading) {
    numbers_in_words(reading);
    let means = method_phrases(reading);
    aspect(reading);
    reading.asked = if means { Some(Asked::How) } else { question_word(reading) };
}

fn word(reading: &Reading, at: usize) -> &str {
    reading.tokens.get(at).map_or("", |t| t.word.as_str())
}

/// Small numbers written out; "one" stays a word, since it mostly is one.
fn numbers_in_words(reading: &mut Reading) {
    const WRITTEN: [(&str, &str); 22] = [
        ("two", "2"),
        ("three", "3"),
        ("four", "4"),
        ("five", "5"),
        ("six", "6"),
        ("seven", "7"),
        ("eight", "8"),
        ("nine", "9"),
        ("ten", "10"),
        ("eleven", "11"),
        ("twelve", "12"),
        ("fifteen", "15"),
        ("twenty", "20"),
        ("thirty", "30"),
        ("forty", "40"),
        ("fifty", "50"),
        ("sixty", "60"),
        ("hundred", "100"),
        ("thousand", "1000"),
        ("million", "1e6"),
        ("billion", "1e9"),
        ("trillion", "1e12"),
    ];
    let mut at = 0;
    while at < reading.tokens.len() {
        // "several thousand" counts no more than "thousands" does.
        let vague = at > 0
            && matches!(word(reading, at), "hundred" | "thousand" | "million" | "billion")
            && matches!(word(reading, at - 1), "several" | "many" | "few" | "some");
        let token = &mut reading.tokens[at];
        if let Some((_, digits)) = WRITTEN.iter().find(|(w, _)| *w == token.word)
            && !vague
        {
            token.word = (*digits).into();
            token.stem = token.word.clone();
            token.class = Class::Number;
            token.named = false;
        }
        // "10 pm" is the number "10pm".
        let day_half = matches!(word(reading, at + 1), "am" | "pm");
        if reading.tokens[at].class == Class::Number && day_half {
            let half = reading.tokens.remove(at + 1).word;
            reading.tokens[at].word.push_str(&half);
            reading.tokens[at].stem = reading.tokens[at].word.clone();
        }
        at += 1;
    }
}

/// "the best way to", "in order to", "if I want to ..., what should I do", "I would like to":
/// filler, and a plain "how".
fn method_phrases(reading: &mut Reading) -> bool {
    let mut means = false;
    for at in 0..reading.tokens.len() {
        let (filler, how) = phrase_at(reading, at);
        if filler > 0 {
            reading.tokens[at + 1 - filler..=at].iter_mut().for_each(|t| t.class = Class::Filler);
        }
        means |= how;
    }
    means
}

/// "The following day" comes after another one.
const TIMES: [&str; 12] = [
    "day", "days", "week", "weeks", "month", "months", "year", "years", "morning", "night",
    "season", "episode",
];

/// How many words up to this one are filler, and whether it makes the text ask "how".
fn phrase_at(reading: &Reading, at: usize) -> (usize, bool) {
    let next = word(reading, at + 1);
    let before = at.checked_sub(1).map_or("", |b| word(reading, b));
    match word(reading, at) {
        "way" | "ways" | "method" | "methods" | "step" | "steps"
            if matches!(next, "to" | "of" | "for" | "i" | "can") =>
        {
            let praised = matches!(
                before,
                "good"
                    | "best"
                    | "right"
                    | "easiest"
                    | "simplest"
                    | "proper"
                    | "correct"
                    | "better"
            );
            (1 + usize::from(praised), true)
        }
        "what" => (0, next == "should" && word(reading, at + 3) == "do"),
        "different" | "various" if before == "the" => (1, false),
        "type" | "kind" | "sort" if before == "a" && next == "of" => (1, false),
        // What a colon or the next line holds, and no time.
        "following" if before == "the" && !TIMES.contains(&next) => (1, false),
        "order" if before == "in" && next == "to" => (1, false),
        "want" | "need" | "wish" | "trying" | "try"
            if matches!(before, "i" | "we" | "you" | "am") && next == "to" =>
        {
            (1, false)
        }
        "like" | "love" if before == "would" && next == "to" => (1, false),
        "think" if before == "you" => (1, false),
        // Said twice: a capital is a city, a PIN is a number.
        "city" | "cities" if matches!(before, "capital" | "capitals") => (1, false),
        "number" | "numbers" if matches!(before, "pin" | "isbn" | "iban") => (1, false),
        "machine" | "machines" if matches!(before, "atm" | "atms") => (1, false),
        _ => (0, false),
    }
}

/// "used to be" is a tense, "is used to" is a purpose.
fn aspect(reading: &mut Reading) {
    for at in 0..reading.tokens.len() {
        if !matches!(word(reading, at), "used" | "use") || word(reading, at + 1) != "to" {
            continue;
        }
        let be = at.checked_sub(1).map(|b| word(reading, b)).is_some_and(|b| {
            matches!(b, "is" | "are" | "was" | "were" | "be" | "been" | "being" | "am")
        });
        let habit = word(reading, at) == "used" || reading.has("did");
        if habit && !be {
            reading.tokens[at].word = "used-to".into();
            reading.tokens[at].stem = "used-to".into();
            reading.tokens[at].class = Class::Function;
        }
    }
}

/// A statement whose question words only join its parts: "the file whose format ...", "when it is set".
fn only_relates(reading: &Reading) -> bool {
    const REQUESTS: [&str; 13] = [
        "know",
        "tell",
        "explain",
        "show",
        "wonder",
        "wondering",
        "ask",
        "asking",
        "understand",
        "describe",
        "discuss",
        "say",
        "curious",
    ];
    let text = reading.text.trim_end();
    let asks = text.contains('?') || REQUESTS.iter().any(|w| reading.has(w));
    let first = reading.tokens.iter().find(|t| t.class != Class::Filler);
    let led = first.is_some_and(|t| {
        matches!(
            t.word.as_str(),
            "who" | "whom" | "whose" | "what" | "which" | "where" | "why" | "how"
        )
    });
    text.ends_with('.') && !asks && !led && reading.tokens.len() >= 8
}

fn question_word(reading: &Reading) -> Option<Asked> {
    if only_relates(reading) {
        return None;
    }
    let named = (0..reading.tokens.len()).find_map(|at| match word(reading, at) {
        "who" | "whom" | "whose" => Some(Asked::Who),
        "what" | "which" => Some(Asked::What),
        "when" => Some(Asked::When),
        "where" => Some(Asked::Where),
        "why" => Some(Asked::Why),
        "how" => Some(match word(reading, at + 1) {
            "many" | "much" | "long" | "old" | "far" | "often" | "big" | "tall" | "fast"
            | "high" | "deep" => Asked::HowMuch,
            _ => Asked::How,
        }),
        _ => None,
    });
    let first =
        reading.tokens.iter().find(|t| t.class != Class::Filler).map_or("", |t| t.word.as_str());
    let led = matches!(
        first,
        "is" | "are"
            | "was"
            | "were"
            | "do"
            | "does"
            | "did"
            | "can"
            | "could"
            | "will"
            | "would"
            | "should"
            | "has"
            | "have"
    );
    named.or(led.then_some(Asked::YesNo))
}
