//! A text as the guards see it: plain spelling, tokens by class, and a few facts that several
//! guards ask for.

use compact_str::CompactString;

use super::lexicon::{ENGLISH, LanguageSet, lexicon};
use super::stem::stem;
use super::unicode::{Script, hides, plain};
use crate::embed::pictographs;

mod phrases;
mod tokens;

/// What a token is to a question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// Carries the topic.
    Content,
    /// Carries the structure: articles, auxiliaries, prepositions, pronouns.
    Function,
    /// Can be lost: politeness, filler, stock phrases such as "a good way to".
    Filler,
    /// Begins with a digit, or is a number written out.
    Number,
    /// Punctuation that means something: operators, currency signs, emoji.
    Symbol,
}

/// A word or sign.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Token {
    /// Lower case; a number in canonical form.
    pub word: CompactString,
    /// [`stem`] of the word; equal to it where stemming does not apply.
    pub stem: CompactString,
    /// What it is to the question.
    pub class: Class,
    /// Written with a capital where grammar did not ask for one.
    pub named: bool,
    /// Number of its sentence, from 0.
    pub sentence: u16,
}

impl Token {
    /// Whether both stand for the same. By `str`, here and in [`Self::same_word`]: a comparison of
    /// `CompactString`s themselves is a call, and this the guards' most frequent question.
    pub(super) fn same_stem(&self, other: &Self) -> bool {
        self.stem.as_str() == other.stem.as_str()
    }

    /// Whether both are the same word.
    pub(super) fn same_word(&self, other: &Self) -> bool {
        self.word.as_str() == other.word.as_str()
    }
}

/// Question word of a text, "how" also standing for "what is the way to".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asked {
    /// Who, whom, whose.
    Who,
    /// What, which.
    What,
    /// When.
    When,
    /// Where.
    Where,
    /// Why.
    Why,
    /// How, in what way.
    How,
    /// How many, how long, how far: a measure.
    HowMuch,
    /// No question word: an auxiliary leads, and yes or no answers it.
    YesNo,
}

/// A text, read once.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Plain spelling, case kept.
    pub text: String,
    /// Lower case without any space: equal for texts that differ by spacing and case only.
    pub compact: String,
    /// In order.
    pub tokens: Vec<Token>,
    /// What stood in double quotes, or in single quotes as a whole word.
    pub quoted: Vec<String>,
    /// Identifiers, operators, flags, as written.
    pub code: Vec<String>,
    /// Writing system of most letters.
    pub script: Script,
    /// Best guess among languages that share a script; empty when unsure.
    pub language: LanguageSet,
    /// First question word.
    pub asked: Option<Asked>,
    /// It holds text that nobody sees.
    pub hides: bool,
    /// Its emoji as its author wrote them.
    pub pictographs: String,
    /// Of the words of `tokens`, taken when those are settled.
    pub(super) marks: Marks,
}

impl Reading {
    /// Reads a text: a few microseconds for a sentence.
    pub fn of(text: &str) -> Self {
        let (hides, pictographs) = (hides(text), pictographs(text));
        let text = unquoted(plain(text).into_owned());
        let script = Script::dominant(&text);
        let raw = tokens::split(&text);
        let language = guess_language(raw.words.iter().map(|w| w.spoken));
        let spoken = if language == 0 {
            ENGLISH
        } else {
            language | (ENGLISH * u16::from(script != Script::Latin))
        };
        let mut reading = Self {
            compact: compact(&text),
            tokens: raw.words.into_iter().map(|w| token(w, spoken)).collect(),
            quoted: raw.quoted,
            code: raw.code,
            text,
            script,
            language,
            asked: None,
            hides,
            pictographs,
            marks: Marks::ANY,
        };
        phrases::settle(&mut reading);
        reading.marks = Marks::of(&reading.tokens);
        reading
    }

    /// Tokens that carry the topic, numbers included.
    pub fn topic(&self) -> impl Iterator<Item = &Token> {
        self.tokens.iter().filter(|t| matches!(t.class, Class::Content | Class::Number))
    }

    /// Whether the word occurs.
    pub fn has(&self, word: &str) -> bool {
        self.marks.may_hold(word) && self.tokens.iter().any(|t| t.word.as_str() == word)
    }
}

/// A bit for each word, by its length and ends: which words can't be among them. Guards ask for some
/// 150 words a text, nearly all of which are not there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks(u64);

impl Marks {
    /// Of words that still change.
    const ANY: Self = Self(u64::MAX);

    pub(super) fn of(tokens: &[Token]) -> Self {
        Self(tokens.iter().fold(0, |marks, token| marks | Self::bit(&token.word)))
    }

    fn may_hold(self, word: &str) -> bool {
        self.0 & Self::bit(word) != 0
    }

    fn bit(word: &str) -> u64 {
        let (Some(first), Some(last)) = (word.as_bytes().first(), word.as_bytes().last()) else {
            return 1;
        };
        1 << ((usize::from(*first) + 5 * usize::from(*last) + 23 * word.len()) % 64)
    }
}

/// Plain spelling holds no white space but single spaces.
fn compact(text: &str) -> String {
    let mut letters = text.replace(' ', "");
    if letters.is_ascii() {
        letters.make_ascii_lowercase();
        return letters;
    }
    letters.chars().flat_map(char::to_lowercase).collect()
}

/// Runs of quotes become one, and quotes round the whole text go: exports of tables leave both
/// behind.
fn unquoted(text: String) -> String {
    if !text.contains('"') {
        return text;
    }
    let mut before = ' ';
    let text: String =
        text.chars().filter(|c| std::mem::replace(&mut before, *c) != '"' || *c != '"').collect();
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    match inner {
        Some(inner) if inner.matches('"').count() % 2 == 0 => inner.to_owned(),
        _ => text,
    }
}

fn token(word: tokens::Word, spoken: LanguageSet) -> Token {
    let lists = lexicon();
    let lower = word.lower;
    let class = match word.shape {
        tokens::Shape::Number => Class::Number,
        tokens::Shape::Symbol => Class::Symbol,
        tokens::Shape::Word if word.spoken & spoken != 0 => Class::Function,
        tokens::Shape::Word if lists.is_polite(&lower) => Class::Filler,
        tokens::Shape::Word => Class::Content,
    };
    let named = word.named && class == Class::Content;
    Token { stem: stem(&lower), word: lower, class, named, sentence: word.sentence }
}

/// The language whose function words are the most, if at least two are and no other has as many.
fn guess_language(words: impl Iterator<Item = LanguageSet>) -> LanguageSet {
    let mut hits = [0u8; LanguageSet::BITS as usize];
    for mut spoken in words {
        while spoken != 0 {
            let hit = &mut hits[spoken.trailing_zeros() as usize];
            *hit = hit.saturating_add(1);
            spoken &= spoken - 1;
        }
    }
    let best = hits.iter().copied().max().unwrap_or(0);
    let leaders = hits.iter().filter(|h| **h == best).count();
    let leader = hits.iter().position(|h| *h == best).unwrap_or(0);
    if best >= 2 && leaders == 1 { 1 << leader } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn classes(text: &str, class: Class) -> Vec<CompactString> {
        Reading::of(text).tokens.into_iter().filter(|t| t.class == class).map(|t| t.word).collect()
    }

    #[test]
    fn topic_stands_out() {
        assert_eq!(classes("What's the capital of France?", Class::Content), ["capital", "france"]);
        assert_eq!(classes("Please tell me, is Bob 1,000 years old?", Class::Number), ["1000"]);
        assert_eq!(classes("How can't I win?", Class::Function), ["how", "can", "not", "i"]);
    }

    #[test]
    fn stock_phrases_are_a_plain_how() {
        for text in [
            "What is a good way to watch Netflix?",
            "In order to watch Netflix, what should I do?",
            "If I want to watch Netflix, what should I do?",
            "How do I watch Netflix?",
        ] {
            let reading = Reading::of(text);
            assert_eq!(reading.asked, Some(Asked::How), "{text}");
            let topic: Vec<_> = reading.topic().map(|t| t.word.as_str()).collect();
            assert_eq!(topic, ["watch", "netflix"], "{text}");
        }
    }

    #[test]
    fn languages_are_guessed() {
        assert_eq!(Reading::of("What is the capital of France?").language, ENGLISH);
        assert_eq!(Reading::of("Was ist die Hauptstadt von Frankreich?").language, ENGLISH << 1);
        assert_eq!(Reading::of("Paris").language, 0);
    }

    #[test]
    fn code_and_quotes_are_kept_as_written() {
        let reading = Reading::of("Why does my_func(x) == y fail with \"No such file\" and -v?");
        assert_eq!(reading.quoted, ["No such file"]);
        assert!(
            ["my_func", "==", "-v"].iter().all(|c| reading.code.iter().any(|have| have == c)),
            "{:?}",
            reading.code
        );
    }

    proptest! {
        #[test]
        fn a_text_has_its_words_and_no_others(text in "\\PC{0,60}", other in "[a-z]{1,9}") {
            let reading = Reading::of(&text);
            prop_assert!(reading.tokens.iter().all(|t| reading.has(&t.word)));
            prop_assert_eq!(reading.has(&other), reading.tokens.iter().any(|t| t.word == other));
        }

        #[test]
        fn any_text_can_be_read(text in "\\PC{0,60}") {
            let reading = Reading::of(&text);
            prop_assert!(reading.tokens.len() <= 2 * text.chars().count() + 2);
        }
    }
}
