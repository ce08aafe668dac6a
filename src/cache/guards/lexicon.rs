//! Word lists, read once from the text files beside this one.

use std::collections;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::LazyLock;

use compact_str::CompactString;

use super::stem::stem;

type HashMap<K, V> = collections::HashMap<K, V, BuildHasherDefault<Fnv>>;
type HashSet<K> = collections::HashSet<K, BuildHasherDefault<Fnv>>;

/// Lines of oppositions, and the side of them, that a stem stands on.
type Poles = HashMap<CompactString, Vec<(u16, Pole)>>;

/// Fowler-Noll-Vo 1a. The keys are the program's own lists, so nobody can craft collisions into
/// them, and the default hasher would be most of the cost of reading a sentence.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Languages of `function_words.txt`, one bit each, in the file's order.
pub(super) type LanguageSet = u16;
/// English, the first line of the file and what a text is taken for when nothing speaks against it.
pub(super) const ENGLISH: LanguageSet = 1;

/// All lists, ready to be asked.
#[derive(Debug)]
pub(super) struct Lexicon {
    function: HashMap<&'static str, LanguageSet>,
    polite: HashSet<&'static str>,
    negators: HashSet<&'static str>,
    /// With the languages in which they are of the moment: Turkish "son" is an English child.
    volatile: HashMap<&'static str, LanguageSet>,
    volatile_phrases: Vec<(&'static str, &'static str)>,
    volatile_glyphs: Vec<&'static str>,
    poles: Poles,
    synonyms: HashMap<CompactString, Vec<u16>>,
    qualifiers: HashMap<&'static str, Qualifier>,
    known: HashSet<&'static str>,
    /// Lists for scripts without spaces.
    pub glyphs: Glyphs,
}

/// Side of an opposition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Pole {
    Left,
    Right,
}

/// What an answer is given in: family and the family's name for it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Qualifier {
    /// Kind of thing: unit, currency, language...
    pub family: &'static str,
    /// First spelling on its line.
    pub value: &'static str,
}

/// Strings to look for in text that writes no spaces.
#[derive(Debug, Default)]
pub(super) struct Glyphs {
    /// Can be lost without changing the question; longest first.
    pub polite: Vec<&'static str>,
    /// Turn a sentence round.
    pub negators: Vec<&'static str>,
    /// Opposites.
    pub poles: Vec<(&'static str, &'static str)>,
    /// "or".
    pub or: Vec<&'static str>,
    /// "and".
    pub and: Vec<&'static str>,
}

static LEXICON: LazyLock<Lexicon> = LazyLock::new(Lexicon::read);

/// The lists.
pub(super) fn lexicon() -> &'static Lexicon {
    &LEXICON
}

impl Lexicon {
    /// Languages in which this lower-case word is a function word.
    pub(super) fn function(&self, word: &str) -> LanguageSet {
        self.function.get(word).copied().unwrap_or(0)
    }

    /// Whether a question can lose this word.
    pub(super) fn is_polite(&self, word: &str) -> bool {
        self.polite.contains(word)
    }

    /// Whether this word turns a sentence round.
    pub(super) fn is_negator(&self, word: &str) -> bool {
        self.negators.contains(word)
    }

    /// Whether this word, or it after the one before, makes an answer depend on the clock in a text
    /// of these languages; none: it may be of any.
    pub(super) fn is_volatile(
        &self,
        before: Option<&str>,
        word: &str,
        spoken: LanguageSet,
    ) -> bool {
        let spoken = if spoken == 0 { LanguageSet::MAX } else { spoken | ENGLISH };
        self.volatile.get(word).is_some_and(|languages| languages & spoken != 0)
            || before
                .is_some_and(|b| self.volatile_phrases.iter().any(|(x, y)| *x == b && *y == word))
    }

    /// The same for running text, but for what is `stable`.
    pub(super) fn has_volatile_glyphs(&self, text: &str, stable: impl Fn(&str) -> bool) -> bool {
        self.volatile_glyphs.iter().any(|g| text.contains(g) && !stable(g))
    }

    /// Whether two stems stand at opposite poles.
    pub(super) fn opposed(&self, a: &str, b: &str) -> bool {
        let (Some(x), Some(y)) = (self.poles.get(a), self.poles.get(b)) else {
            return false;
        };
        x.iter().any(|(line, pole)| y.iter().any(|(other, side)| line == other && pole != side))
    }

    /// Whether two stems may replace one another.
    pub(super) fn synonymous(&self, a: &str, b: &str) -> bool {
        // Most words have none, so the second is seldom looked up.
        self.synonyms
            .get(a)
            .and_then(|of_a| Some((of_a, self.synonyms.get(b)?)))
            .is_some_and(|(of_a, of_b)| of_a.iter().any(|line| of_b.contains(line)))
    }

    /// Unit, currency, language... that this lower-case word names.
    pub(super) fn qualifier(&self, word: &str) -> Option<Qualifier> {
        self.qualifiers.get(word).copied()
    }

    /// Whether a word is on any list: then it is no slip of another word.
    pub(super) fn knows(&self, word: &str) -> bool {
        self.known.contains(word)
    }

    /// Every word that a guard may ask for by name, and every stem.
    pub(super) fn named(&'static self) -> impl Iterator<Item = &'static str> {
        let stems = self.poles.keys().chain(self.synonyms.keys()).map(CompactString::as_str);
        let asked = lines(include_str!("lexicon/named.txt")).flat_map(str::split_whitespace);
        let words = self.function.keys().chain(&self.known).copied();
        words.chain(stems).chain(asked)
    }

    fn read() -> Self {
        let function = function_words(include_str!("lexicon/function_words.txt"));
        let polite: HashSet<_> =
            lines(include_str!("lexicon/polite.txt")).flat_map(str::split_whitespace).collect();
        let negators: HashSet<_> = labelled(include_str!("lexicon/negators.txt"))
            .flat_map(|(_, w)| w.split_whitespace())
            .collect();
        let (poles, pole_words) = oppositions(include_str!("lexicon/antonyms.txt"));
        let synonym_lines: Vec<Vec<&str>> = lines(include_str!("lexicon/synonyms.txt"))
            .map(|l| l.split_whitespace().collect())
            .collect();
        let mut synonyms: HashMap<CompactString, Vec<u16>> = HashMap::default();
        for (line, words) in synonym_lines.iter().enumerate() {
            for word in words {
                synonyms.entry(stem(word)).or_default().push(line as u16);
            }
        }
        let qualifiers = qualifiers(include_str!("lexicon/qualifiers.txt"));
        let clock: Vec<_> = labelled(include_str!("lexicon/volatile.txt")).collect();
        let runs_on = |label: &str| matches!(label, "zh" | "ja" | "th");
        let words =
            clock.iter().filter(|(l, _)| !runs_on(l)).flat_map(|(_, w)| w.split_whitespace());
        let mut known: HashSet<&'static str> = function
            .iter()
            .filter(|(_, spoken)| **spoken & ENGLISH != 0)
            .map(|(w, _)| *w)
            .collect();
        known.extend(polite.iter().chain(&negators).copied());
        known.extend(pole_words);
        known.extend(synonym_lines.iter().flatten().copied());
        known.extend(qualifiers.keys().copied());
        Self {
            volatile: by_language(&clock),
            volatile_phrases: words.filter_map(|w| w.split_once('-')).collect(),
            volatile_glyphs: clock
                .iter()
                .filter(|(l, _)| runs_on(l))
                .flat_map(|(_, w)| w.split_whitespace())
                .collect(),
            glyphs: glyphs(include_str!("lexicon/glyphs.txt")),
            function,
            polite,
            negators,
            poles,
            synonyms,
            qualifiers,
            known,
        }
    }
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'))
}

fn labelled(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    lines(text).filter_map(|l| l.split_once(':'))
}

fn function_words(text: &'static str) -> HashMap<&'static str, LanguageSet> {
    let mut words: HashMap<&str, LanguageSet> = HashMap::default();
    for (language, (_, list)) in labelled(text).enumerate() {
        for word in list.split_whitespace() {
            *words.entry(word).or_default() |= 1 << language;
        }
    }
    words
}

fn oppositions(text: &'static str) -> (Poles, Vec<&'static str>) {
    let mut poles = Poles::default();
    let mut words = vec![];
    for (line, (left, right)) in lines(text).filter_map(|l| l.split_once('|')).enumerate() {
        for (side, pole) in [(left, Pole::Left), (right, Pole::Right)] {
            for word in side.split_whitespace() {
                poles.entry(stem(word)).or_default().push((line as u16, pole));
                words.push(word);
            }
        }
    }
    (poles, words)
}

fn qualifiers(text: &'static str) -> HashMap<&'static str, Qualifier> {
    let mut all = HashMap::default();
    for (family, list) in labelled(text) {
        for names in list.split_whitespace() {
            let mut spellings = names.split('=');
            let Some(value) = spellings.next() else { continue };
            all.insert(value, Qualifier { family, value });
            all.extend(spellings.map(|s| (s, Qualifier { family, value })));
        }
    }
    all
}

fn glyphs(text: &'static str) -> Glyphs {
    let mut all = Glyphs::default();
    for (label, list) in labelled(text) {
        let items = list.split_whitespace();
        match label {
            "polite" => all.polite = items.collect(),
            "negators" => all.negators = items.collect(),
            "poles" => all.poles = items.filter_map(|i| i.split_once('|')).collect(),
            "or" => all.or = items.collect(),
            "and" => all.and = items.collect(),
            _ => {}
        }
    }
    all.polite.sort_by_key(|w| std::cmp::Reverse(w.len()));
    all
}

/// Words of the moment with the languages that know them as such. A language without function words
/// of its own is known by its script: its words count everywhere.
fn by_language(lists: &[(&str, &'static str)]) -> HashMap<&'static str, LanguageSet> {
    let order: Vec<&str> =
        labelled(include_str!("lexicon/function_words.txt")).map(|(label, _)| label).collect();
    let mut all = HashMap::default();
    for (label, words) in lists {
        let bit = order.iter().position(|known| known == label);
        let bit = bit.map_or(LanguageSet::MAX, |at| 1 << at);
        for word in words.split_whitespace().filter(|word| !word.contains('-')) {
            *all.entry(word).or_insert(0) |= bit;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_answer() {
        let l = lexicon();
        assert!(l.function("the") & ENGLISH != 0);
        assert!(l.opposed(&stem("increase"), &stem("decreasing")));
        assert!(!l.opposed(&stem("increase"), &stem("raise")));
        assert!(l.synonymous(&stem("scared"), &stem("frightened")));
        assert_eq!(l.qualifier("kilometres").map(|q| q.value), Some("km"));
        assert!(l.is_volatile(Some("right"), "now", ENGLISH));
        assert!(l.has_volatile_glyphs("现在几点", |_| false));
        assert!(l.is_negator("nicht"));
    }

    #[test]
    fn no_pair_is_both_opposite_and_synonymous_to_itself() {
        let l = lexicon();
        for word in l.poles.keys() {
            assert!(!l.opposed(word, word), "{word}");
        }
    }
}
