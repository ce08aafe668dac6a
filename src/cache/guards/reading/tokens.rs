//! Text into words, numbers and signs.

use compact_str::{CompactString, ToCompactString as _};

use crate::cache::guards::{
    lexicon::{LanguageSet, lexicon},
    unicode::Script,
};

/// Outer form of a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shape {
    Word,
    Number,
    Symbol,
}

/// A token before it is looked up.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) lower: CompactString,
    /// Languages in which it is a function word.
    pub(super) spoken: LanguageSet,
    pub(super) shape: Shape,
    pub(super) named: bool,
    pub(super) sentence: u16,
}

/// Everything that one pass over the text collects.
#[derive(Debug, Default)]
pub(super) struct Split {
    pub(super) words: Vec<Word>,
    pub(super) quoted: Vec<String>,
    pub(super) code: Vec<String>,
}

/// One pass. Never fails: what it does not know is a symbol or is skipped.
pub(super) fn split(text: &str) -> Split {
    let mut scan = Scan {
        text,
        at: 0,
        sentence: 0,
        sentence_starts: true,
        open_quote: None,
        out: Split::default(),
    };
    while let Some(c) = scan.peek() {
        scan.step(c);
    }
    scan.out
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    sentence: u16,
    /// No word yet in this sentence: a capital then means nothing.
    sentence_starts: bool,
    open_quote: Option<usize>,
    out: Split,
}

const OPERATORS: &str = "=<>!+*/%&|^~@:-";
const SIGNS: &str = "$€£¥₹₽₩%#@+=<>*/^&";

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn before(&self) -> Option<char> {
        self.text[..self.at].chars().next_back()
    }

    fn take(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let end = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn step(&mut self, c: char) {
        if c.is_whitespace() {
            self.at += c.len_utf8();
        } else if c.is_numeric() {
            self.number();
        } else if self.version() {
            self.at += c.len_utf8();
            self.number();
        } else if Script::of(c).runs_on() {
            self.at += c.len_utf8();
            self.push(c.to_compact_string(), Shape::Word, false);
        } else if c.is_alphabetic() {
            self.word();
        } else {
            self.sign(c);
        }
    }

    /// "v2.10.0" is the version 2.10.0; "v8" may be an engine.
    fn version(&self) -> bool {
        let Some(digits) = self.text[self.at..].strip_prefix(['v', 'V']) else { return false };
        let mut rest = digits.trim_start_matches(|c: char| c.is_ascii_digit()).chars();
        digits.starts_with(|c: char| c.is_ascii_digit())
            && self.before().is_none_or(|c| !c.is_alphanumeric())
            && rest.next() == Some('.')
            && rest.next().is_some_and(|c| c.is_ascii_digit())
    }

    /// Digits with inner `. , : / -`, and letters stuck to them: "1,000", "3.11", "2024-01-05",
    /// "10pm".
    fn number(&mut self) {
        let start = self.at;
        loop {
            self.take(char::is_alphanumeric);
            let mut rest = self.text[self.at..].chars();
            let joined = matches!(rest.next(), Some('.' | ',' | ':' | '/' | '-'))
                && rest.next().is_some_and(char::is_numeric);
            if !joined {
                break;
            }
            self.at += 1;
        }
        let digits: String = self.text[start..self.at]
            .chars()
            .map(ascii_digit)
            .flat_map(char::to_lowercase)
            .collect();
        self.push(canonical_number(&digits).into(), Shape::Number, false);
    }

    fn word(&mut self) {
        let start = self.at;
        self.take(|c| (c.is_alphanumeric() && !Script::of(c).runs_on()) || c == '_' || mark(c));
        let rest = &self.text[self.at..];
        let tail = ["++", "#"].into_iter().find(|t| rest.starts_with(t) && self.at - start <= 2);
        self.at += tail.map_or(0, str::len);
        let plain_end = self.at;
        self.apostrophe();
        let word = &self.text[start..self.at];
        let called = self.text[self.at..].starts_with('(') && self.at - start > 1;
        // Most words are: nothing to look for, nothing to lower.
        let small = word.bytes().all(|b| b.is_ascii_lowercase());
        let identifier = !small && is_identifier(word);
        if identifier || called || self.text[self.at..].starts_with("::") {
            self.out.code.push(word.to_owned());
        }
        let first = self.sentence_starts;
        let named = !small && {
            let upper = word.starts_with(char::is_uppercase);
            let acronym = word.chars().filter(|c| c.is_uppercase()).count() > 1;
            upper && (!first || acronym)
        };
        let lower = if small { word.into() } else { word.to_lowercase().into() };
        let (word, more) = expand(lower);
        self.push(word, Shape::Word, named);
        if let Some(more) = more {
            self.push(more, Shape::Word, named);
        }
        debug_assert!(plain_end <= self.at);
    }

    /// An apostrophe with letters after it belongs to the word.
    fn apostrophe(&mut self) {
        let mut rest = self.text[self.at..].chars();
        if rest.next() == Some('\'') && rest.next().is_some_and(char::is_alphabetic) {
            self.at += 1;
            self.take(char::is_alphabetic);
        }
    }

    fn sign(&mut self, c: char) {
        if self.operator() {
            return;
        }
        match c {
            '"' => self.quote(),
            '\'' => self.single_quote(),
            '.' | '?' | '!' | '。' | '？' | '！' | ';' => {
                self.at += c.len_utf8();
                let ends =
                    self.peek().is_none_or(|n| n.is_whitespace() || n == '"') || !c.is_ascii();
                if ends && !self.sentence_starts && !(c == '.' && self.abbreviated()) {
                    self.sentence = self.sentence.saturating_add(1);
                    self.sentence_starts = true;
                }
            }
            _ => {
                self.at += c.len_utf8();
                if SIGNS.contains(c) || !(c.is_ascii() || is_punctuation(c)) {
                    self.push(c.to_compact_string(), Shape::Symbol, false);
                }
            }
        }
    }

    /// Whether the word so far is an initial or a title, whose full stop ends no sentence.
    fn abbreviated(&self) -> bool {
        self.out.words.last().is_some_and(|w| {
            w.lower.chars().count() == 1
                || matches!(
                    w.lower.as_str(),
                    "mr" | "mrs" | "ms" | "dr" | "st" | "vs" | "prof" | "jr" | "e.g" | "i.e"
                )
        })
    }

    /// Two or more operator characters, one standing alone between spaces, or a flag such as `-v`.
    fn operator(&mut self) -> bool {
        let start = self.at;
        let apart = self.before().is_none_or(char::is_whitespace);
        let run = self.take(|c| OPERATORS.contains(c));
        let next = self.peek();
        let flag = apart && (run == "-" || run == "--") && next.is_some_and(char::is_alphabetic);
        let alone = apart
            && run.len() == 1
            && next.is_none_or(char::is_whitespace)
            && !matches!(run, "-" | "/" | "&" | ":" | "!");
        let pair = run.len() >= 2
            && !matches!(run, "--" | "---" | "!!" | "!!!" | "::" | "//" | ":-" | "**");
        if flag {
            self.take(|c| c.is_alphanumeric() || c == '-');
        }
        if flag || alone || (pair && run.chars().any(|c| c != '!')) {
            let written = self.text[start..self.at].to_owned();
            self.push(written.as_str().into(), Shape::Symbol, false);
            self.out.code.push(written);
            return true;
        }
        self.at = start;
        false
    }

    fn quote(&mut self) {
        self.at += 1;
        match self.open_quote.take() {
            Some(start) => {
                let inner = self.text[start..self.at - 1].trim();
                if !inner.is_empty() {
                    self.out.quoted.push(inner.to_owned());
                }
            }
            None => self.open_quote = Some(self.at),
        }
    }

    /// 'word' in single quotes: opens after a space, closes before one, and holds no other quote.
    fn single_quote(&mut self) {
        let apart = self.before().is_none_or(|c| c.is_whitespace() || c == '(');
        self.at += 1;
        if !apart {
            return;
        }
        let rest = &self.text[self.at..];
        for (i, _) in rest.match_indices('\'') {
            let closes = rest[i + 1..].chars().next().is_none_or(|c| !c.is_alphanumeric());
            if closes && i > 0 {
                self.out.quoted.push(rest[..i].trim().to_owned());
                return;
            }
        }
    }

    fn push(&mut self, lower: CompactString, shape: Shape, named: bool) {
        if lower.is_empty() {
            return;
        }
        self.sentence_starts = false;
        let spoken = lexicon().function(&lower);
        self.out.words.push(Word { lower, spoken, shape, named, sentence: self.sentence });
    }
}

/// Combining marks continue a word; without them Devanagari and Arabic fall to pieces.
fn mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{591}'..='\u{5c7}' | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}' | '\u{670}'
        | '\u{900}'..='\u{903}' | '\u{93a}'..='\u{94f}' | '\u{951}'..='\u{957}' | '\u{981}'..='\u{983}' | '\u{9bc}'..='\u{9cd}')
}

fn is_punctuation(c: char) -> bool {
    matches!(c, '\u{a1}' | '\u{a7}' | '\u{b6}' | '\u{b7}' | '\u{bf}' | '\u{60c}' | '\u{61b}' | '\u{61f}' | '\u{66a}'..='\u{66d}' | '\u{964}' | '\u{965}'
        | '\u{2000}'..='\u{206f}' | '\u{3000}'..='\u{303f}' | '\u{30fb}' | '\u{ff00}'..='\u{ff65}')
}

fn ascii_digit(c: char) -> char {
    // Unicode lays out every decimal system in ten code points from its zero.
    const ZEROS: [u32; 12] =
        [0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xe50, 0xed0];
    let code = c as u32;
    ZEROS
        .iter()
        .find(|z| (**z..**z + 10).contains(&code))
        .and_then(|z| char::from_digit(code - z, 10))
        .unwrap_or(c)
}

/// "1,000" and "1000" are one number, "7th" and "7" too.
fn canonical_number(digits: &str) -> String {
    let grouped = digits.split(',').skip(1).all(|g| g.len() == 3) && !digits.contains(':');
    let number = if grouped { digits.replace(',', "") } else { digits.to_owned() };
    for ending in ["st", "nd", "rd", "th"] {
        if let Some(base) = number.strip_suffix(ending)
            && base.bytes().all(|b| b.is_ascii_digit())
        {
            return base.to_owned();
        }
    }
    match number.strip_suffix(".0").or_else(|| number.strip_suffix(".00")) {
        Some(base) if !base.contains('.') => base.to_owned(),
        _ => number,
    }
}

/// Inner capitals after a small letter, an underscore, or a digit inside capitals: camelCase,
/// snake_case.
fn is_identifier(word: &str) -> bool {
    let inner = word.trim_matches('_');
    let mut before = ' ';
    let camel = inner.chars().any(|c| {
        let humps = c.is_uppercase() && before.is_lowercase();
        before = c;
        humps
    });
    camel || (inner.contains('_') && inner.len() > 2)
}

/// Contractions into their words, with or without their apostrophe; a possessive loses its ending.
fn expand(lower: CompactString) -> (CompactString, Option<CompactString>) {
    const BARE: [&str; 16] = [
        "do", "does", "did", "is", "are", "was", "were", "could", "should", "would", "have", "has",
        "had", "must", "need", "might",
    ];
    const SUBJECTS: [&str; 14] = [
        "what", "who", "where", "when", "why", "how", "that", "there", "here", "it", "he", "she",
        "this", "which",
    ];
    let two = |a: &str, b: &str| (a.into(), Some(b.into()));
    match lower.as_str() {
        "can't" | "cant" | "cannot" => return two("can", "not"),
        "won't" | "wont" => return two("will", "not"),
        "shan't" => return two("shall", "not"),
        "i'm" | "im" => return two("i", "am"),
        "let's" | "lets" => return two("let", "us"),
        "gonna" => return two("going", "to"),
        "wanna" => return two("want", "to"),
        "whats" | "hows" | "wheres" | "whos" | "thats" => {
            return two(&lower[..lower.len() - 1], "is");
        }
        "u" => return ("you".into(), None),
        _ => {}
    }
    let negated =
        lower.strip_suffix("n't").or_else(|| lower.strip_suffix("nt").filter(|b| BARE.contains(b)));
    if let Some(base) = negated.filter(|b| !b.is_empty()) {
        return two(base, "not");
    }
    let Some((base, ending)) = lower.split_once('\'') else {
        return (lower, None);
    };
    match ending {
        "s" if SUBJECTS.contains(&base) => two(base, "is"),
        "s" | "" => (base.into(), None),
        "re" => two(base, "are"),
        "ll" => two(base, "will"),
        "ve" => two(base, "have"),
        "d" => two(base, "would"),
        "m" => two(base, "am"),
        rest => two(base, rest),
    }
}
