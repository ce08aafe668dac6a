//! A question as the guards need it, without its text: for stores that may not hold prompts.
//!
//! Guards compare words with words, ask for some by name, and look at order, case, quotes and code.
//! So each word is replaced by a keyed hash of it: equal words stay equal, and who has the key finds
//! again the words that guards know by name ("not", "from", "minutes") and no others. Without the
//! key not even those can be told. The reading of the new question is covered the same way before
//! the two are compared.
//!
//! What is lost makes guards stricter: a misspelt word, or one inflected outside English, is another
//! word. Scripts that write no spaces are compared by runs of signs, for which there is no such form.

use std::collections::HashMap;

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use compact_str::{CompactString, format_compact};

use self::bytes::{Reader, Writer};
use super::{
    lexicon::lexicon,
    reading::{Asked, Class, Marks, Reading, Token},
    unicode::Script,
};

mod bytes;

/// Begins a covered question; hardly ever one in clear.
const MARK: &str = "\u{1}rg1:";
/// Stands before the hash in a word that is not known by name: no text's words have it, for it is
/// private use.
const COVERED: char = '\u{e000}';
/// More words than this are no question of an embedder's window.
const WORDS_MAX: usize = 4096;
/// The reading's text keeps two facts that a guard asks it for, and nothing else.
const SKELETON: &str = "xxxxxxxxxxxxxxxxxxxxxxxx";
/// Where a comma in it says "No, ..." and where it says "..., aren't you?".
const ANSWERS_AT: usize = 2;
const LATE_AT: usize = 22;
/// A comma is late within so many bytes of the end: [`super::polarity`]'s own measure.
const LATE_BYTES: usize = 16;

/// Beginnings and endings that turn a word round: what stands beside them is hashed alone, so that
/// "happy" and "unhappy" are still seen to be opposites.
const AFFIXES: [Affix; 12] = [
    Affix::Before("un"),
    Affix::Before("in"),
    Affix::Before("im"),
    Affix::Before("il"),
    Affix::Before("ir"),
    Affix::Before("dis"),
    Affix::Before("non"),
    Affix::Before("de"),
    Affix::After("ful"),
    Affix::After("less"),
    // Participles: what was done by whom.
    Affix::After("ed"),
    Affix::After("wn"),
];

const CLASSES: [Class; 5] =
    [Class::Content, Class::Function, Class::Filler, Class::Number, Class::Symbol];
const ASKED: [Asked; 8] = [
    Asked::Who,
    Asked::What,
    Asked::When,
    Asked::Where,
    Asked::Why,
    Asked::How,
    Asked::HowMuch,
    Asked::YesNo,
];
const SCRIPTS: [Script; 11] = [
    Script::None,
    Script::Latin,
    Script::Greek,
    Script::Cyrillic,
    Script::Hebrew,
    Script::Arabic,
    Script::Devanagari,
    Script::Hangul,
    Script::Han,
    Script::SouthEast,
    Script::Other,
];

#[derive(Clone, Copy, Debug)]
enum Affix {
    Before(&'static str),
    After(&'static str),
}

/// 48 bits of a keyed hash.
type Hash = [u8; 6];

/// Covers questions under one key.
pub struct Veil {
    key: [u8; 32],
    /// Words that guards ask for by name.
    named: HashMap<Hash, &'static str>,
}

impl std::fmt::Debug for Veil {
    /// Never prints the key.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Veil").field("named", &self.named.len()).finish_non_exhaustive()
    }
}

impl Veil {
    /// Under a key derived from the tenants': replicas on one store share it.
    pub fn new(tenants: &[u8; 32]) -> Self {
        let key = blake3::derive_key("reprise 2026 questions without their text", tenants);
        let mut veil = Self { key, named: HashMap::new() };
        veil.named = lexicon().named().map(|word| (veil.hash(b'w', word), word)).collect();
        veil
    }

    /// Is this the form of [`Self::cover`]?
    pub fn is_covered(text: &str) -> bool {
        text.starts_with(MARK)
    }

    /// The form of a question in which a store may hold it; `None` where there is none.
    pub fn cover(&self, text: &str) -> Option<String> {
        if Self::is_covered(text) {
            return Some(text.to_owned());
        }
        let bytes = self.write(&Reading::of(text))?;
        Some(format!("{MARK}{}", BASE64_STANDARD_NO_PAD.encode(bytes)))
    }

    /// The reading of a stored question, covered either way: to be compared with others of this form
    /// only. `None` where it has no such form, or another key's.
    pub fn read(&self, stored: &str) -> Option<Reading> {
        match stored.strip_prefix(MARK) {
            None => self.covered(&Reading::of(stored)),
            Some(text) => self.uncover(&BASE64_STANDARD_NO_PAD.decode(text).ok()?),
        }
    }

    /// The same of a reading.
    pub fn covered(&self, reading: &Reading) -> Option<Reading> {
        self.uncover(&self.write(reading)?)
    }

    fn hash(&self, kind: u8, text: &str) -> Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&[kind]);
        hasher.update(text.as_bytes());
        let mut hash = [0; size_of::<Hash>()];
        hasher.finalize_xof().fill(&mut hash);
        hash
    }

    // === there ===

    fn write(&self, reading: &Reading) -> Option<Vec<u8>> {
        let Reading {
            text,
            compact,
            tokens,
            quoted,
            code,
            script,
            language,
            asked,
            hides,
            pictographs,
            marks: _,
        } = reading;
        if script.runs_on() || tokens.len() > WORDS_MAX {
            return None;
        }
        let mut out = Writer::default();
        // Another key's form is told from ours by it, and damage too.
        out.raw(&self.hash(b'k', ""));
        out.number(place(&SCRIPTS, script)?);
        out.number(usize::from(*language));
        out.number(asked.as_ref().map_or(Some(0), |asked| Some(place(&ASKED, asked)? + 1))?);
        let late = text.rfind(',').is_some_and(|at| text.len() - at < LATE_BYTES);
        let answers = text.get(2..).is_some_and(|rest| rest.starts_with([',', '.']));
        out.number(usize::from(*hides) | usize::from(answers) << 1 | usize::from(late) << 2);
        out.raw(&self.hash(b'c', compact));
        out.number(usize::from(!pictographs.is_empty()));
        if !pictographs.is_empty() {
            out.raw(&self.hash(b'p', pictographs));
        }
        out.number(tokens.len());
        for token in tokens {
            let plain = token.stem == token.word;
            let class = place(&CLASSES, &token.class)?;
            out.number(class << 2 | usize::from(token.named) << 1 | usize::from(plain));
            out.number(usize::from(token.sentence));
            self.word(&mut out, &token.word);
            if !plain {
                self.word(&mut out, &token.stem);
            }
        }
        for (kind, texts) in [(b'q', quoted), (b'o', code)] {
            out.number(texts.len());
            texts.iter().for_each(|text| out.raw(&self.hash(kind, &literal(kind, text))));
        }
        Some(out.0)
    }

    fn word(&self, out: &mut Writer, word: &str) {
        let whole = self.hash(b'w', word);
        if self.named.contains_key(&whole) {
            out.number(0);
            return out.raw(&whole);
        }
        let parts = AFFIXES.iter().enumerate().find_map(|(at, affix)| {
            let base = match affix {
                Affix::Before(start) => word.strip_prefix(start),
                Affix::After(end) => word.strip_suffix(end),
            };
            let base =
                base.map(|base| base.trim_start_matches('-')).filter(|base| base.len() >= 3)?;
            Some((at + 1, base))
        });
        let (affix, base) = parts.unwrap_or((0, word));
        out.number(affix);
        out.raw(&self.hash(b'w', base));
    }

    // === and back ===

    fn uncover(&self, bytes: &[u8]) -> Option<Reading> {
        let mut from = Reader(bytes);
        if from.raw()? != self.hash(b'k', "") {
            return None;
        }
        let script = *SCRIPTS.get(from.number()?)?;
        let language = u16::try_from(from.number()?).ok()?;
        let asked = match from.number()? {
            0 => None,
            at => Some(*ASKED.get(at - 1)?),
        };
        let facts = from.number()?;
        let compact = self.opaque(from.raw()?);
        let pictographs = match from.number()? {
            0 => String::new(),
            _ => self.opaque(from.raw()?),
        };
        let mut tokens = Vec::new();
        for _ in 0..from.number().filter(|count| *count <= WORDS_MAX)? {
            tokens.push(self.token(&mut from)?);
        }
        let mut literals = || -> Option<Vec<String>> {
            let count = from.number().filter(|count| *count <= WORDS_MAX)?;
            (0..count).map(|_| Some(self.opaque(from.raw()?))).collect()
        };
        let (quoted, code) = (literals()?, literals()?);
        let text = skeleton(facts & 2 != 0, facts & 4 != 0);
        let hides = facts & 1 != 0;
        Some(Reading {
            text,
            compact,
            marks: Marks::of(&tokens),
            tokens,
            quoted,
            code,
            script,
            language,
            asked,
            hides,
            pictographs,
        })
    }

    fn token(&self, from: &mut Reader<'_>) -> Option<Token> {
        let kind = from.number()?;
        let sentence = u16::try_from(from.number()?).ok()?;
        let word = self.told(from)?;
        let stem = if kind & 1 != 0 { word.clone() } else { self.told(from)? };
        let class = *CLASSES.get(kind >> 2)?;
        Some(Token { word, stem, class, named: kind & 2 != 0, sentence })
    }

    fn told(&self, from: &mut Reader<'_>) -> Option<CompactString> {
        let affix = match from.number()? {
            0 => None,
            at => Some(AFFIXES.get(at - 1)?),
        };
        let base = self.opaque(from.raw()?);
        Some(match affix {
            None => base.into(),
            Some(Affix::Before(start)) => format_compact!("{start}{base}"),
            Some(Affix::After(end)) => format_compact!("{base}{end}"),
        })
    }

    /// The word where guards know it by name, else a text that stands for it.
    fn opaque(&self, hash: Hash) -> String {
        if let Some(word) = self.named.get(&hash) {
            return (*word).to_owned();
        }
        let digits = hash.iter().map(|byte| format!("{byte:02x}"));
        std::iter::once(COVERED.to_string()).chain(digits).collect()
    }
}

/// What is compared to the letter; quotes without their case and outer punctuation, as their guard
/// compares them.
fn literal(kind: u8, text: &str) -> String {
    if kind == b'o' {
        return text.to_owned();
    }
    text.trim_matches(|c: char| c.is_ascii_punctuation() || c.is_whitespace()).to_lowercase()
}

fn skeleton(answers: bool, late: bool) -> String {
    let comma = |at| (answers && at == ANSWERS_AT) || (late && at == LATE_AT);
    SKELETON.char_indices().map(|(at, c)| if comma(at) { ',' } else { c }).collect()
}

fn place<T: PartialEq>(all: &[T], one: &T) -> Option<usize> {
    all.iter().position(|known| known == one)
}

#[cfg(test)]
mod tests;
