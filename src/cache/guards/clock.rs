//! Which words make an answer depend on the clock: the built-in lists, and what an operator adds to
//! them or takes out.

use std::collections::HashSet;

use compact_str::CompactString;

use super::{lexicon::lexicon, reading::Reading, told::harmless};

/// A configured word or phrase.
#[derive(Clone, Debug)]
struct Phrase {
    words: Vec<CompactString>,
    /// The last word may end in any way.
    open: bool,
    /// For scripts that write no spaces.
    compact: String,
}

/// Words that tie an answer to the moment.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    volatile: Vec<Phrase>,
    stable: HashSet<CompactString>,
}

impl Clock {
    /// The built-in words, with `volatile` ones added (`"in stock"`, `"balance*"`) and `stable` ones
    /// taken out.
    pub fn new(volatile: &[String], stable: &[String]) -> Self {
        let phrase = |text: &String| {
            let open = text.ends_with('*');
            let reading = Reading::of(text.trim_end_matches('*'));
            let words = reading.tokens.iter().map(|token| token.word.clone()).collect();
            Phrase { words, open, compact: reading.compact }
        };
        let volatile = volatile.iter().map(phrase).filter(|one| !one.words.is_empty()).collect();
        let words = stable.iter().flat_map(|text| Reading::of(text).tokens);
        Self { volatile, stable: words.map(|token| token.word).collect() }
    }

    /// Whether the truth of an answer to this moves with the clock.
    pub fn rules(&self, reading: &Reading) -> bool {
        self.by_list(reading) || self.volatile.iter().any(|phrase| phrase.stands_in(reading))
    }

    fn by_list(&self, reading: &Reading) -> bool {
        let lists = lexicon();
        let spoken = reading.tokens.iter().enumerate().any(|(at, token)| {
            let before = at.checked_sub(1).map(|before| reading.tokens[before].word.as_str());
            lists.is_volatile(before, &token.word, reading.language)
                && !self.stable.contains(&token.word)
                && !harmless(reading, at)
        });
        let stable = |glyph: &str| self.stable.contains(glyph);
        spoken || (reading.script.runs_on() && lists.has_volatile_glyphs(&reading.compact, stable))
    }
}

impl Phrase {
    fn stands_in(&self, reading: &Reading) -> bool {
        let words: Vec<&str> = reading.tokens.iter().map(|token| token.word.as_str()).collect();
        let spoken = words.windows(self.words.len()).any(|window| self.is(window));
        spoken || (reading.script.runs_on() && reading.compact.contains(&self.compact))
    }

    fn is(&self, window: &[&str]) -> bool {
        let last = self.words.len() - 1;
        self.words.iter().zip(window).enumerate().all(|(at, (wanted, found))| {
            found == wanted || (self.open && at == last && found.starts_with(wanted.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(volatile: &[&str], stable: &[&str], text: &str) -> bool {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        Clock::new(&owned(volatile), &owned(stable)).rules(&Reading::of(text))
    }

    #[test]
    fn words_and_phrases_can_be_added() {
        let own = ["in stock", "balance*", "在庫"];
        for text in [
            "Is the blue shirt in stock?",
            "IS IT IN STOCK",
            "What are the balances of my accounts?",
            "この本は在庫がありますか",
            "What is the weather like in Rome?",
        ] {
            assert!(rules(&own, &[], text), "{text}");
        }
        for text in ["What is a stock in a soup?", "How do I keep my balcony clean?"] {
            assert!(!rules(&["in stock", "balance*", ""], &["stock"], text), "{text}");
        }
    }

    #[test]
    fn built_in_words_can_be_taken_out() {
        let text = "How is the price of an option computed?";
        assert!(rules(&[], &[], text));
        assert!(!rules(&[], &["Price"], text));
        assert!(rules(&[], &["price"], "What is the price of gold today?"));
    }
}
