//! Guards: differences between two questions that similarity cannot see.
//!
//! Vectors of "turn it on" and "turn it off" lie closer than those of most paraphrases. A guard
//! reads both texts and says what it found; a finding turns a hit into a miss, never into another
//! answer. All of it is rules over word lists: microseconds, explainable, and free of any training
//! domain. Rules about structure apply to pairs where one text reads as an edit of the other;
//! between texts that share few words a missing "not" means nothing.

mod align;
mod alone;
mod change;
mod clock;
mod code;
mod glyphs;
mod lexicon;
mod logic;
mod number;
mod order;
mod polarity;
mod reading;
mod reference;
mod script;
mod stem;
mod tense;
mod told;
mod unicode;
mod veil;

use serde::{Deserialize, Serialize};

use align::Alignment;
pub use alone::{Alone, alone, alone_by};
pub use clock::Clock;
pub use reading::Reading;
pub use unicode::plain;
pub use veil::Veil;

/// What a guard found different.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Guard {
    /// Numbers, dates, versions.
    Number,
    /// Unit, currency, language, programming language, format.
    Qualifier,
    /// One text denies what the other asserts.
    Negation,
    /// Opposite words.
    Antonym,
    /// Person, place, product.
    Entity,
    /// Identifier, operator, flag.
    Code,
    /// Quoted strings.
    Quoted,
    /// Same words, other roles; from and to exchanged.
    Role,
    /// And, or, only, all, some.
    Logic,
    /// Past, present, future, "used to".
    Tense,
    /// He, she, they, and whom they stand for.
    Reference,
    /// Who, what, when, where, why, how, how much.
    Question,
    /// A word added.
    Addition,
    /// A word replaced.
    Substitution,
    /// The two sides of a comparison.
    Comparison,
    /// Writing system.
    Script,
    /// Language within one writing system.
    Language,
}

impl Guard {
    /// All, in the order of their bits.
    pub const ALL: [Self; 17] = [
        Self::Number,
        Self::Qualifier,
        Self::Negation,
        Self::Antonym,
        Self::Entity,
        Self::Code,
        Self::Quoted,
        Self::Role,
        Self::Logic,
        Self::Tense,
        Self::Reference,
        Self::Question,
        Self::Addition,
        Self::Substitution,
        Self::Comparison,
        Self::Script,
        Self::Language,
    ];

    /// Stable name for configuration, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Qualifier => "qualifier",
            Self::Negation => "negation",
            Self::Antonym => "antonym",
            Self::Entity => "entity",
            Self::Code => "code",
            Self::Quoted => "quoted",
            Self::Role => "role",
            Self::Logic => "logic",
            Self::Tense => "tense",
            Self::Reference => "reference",
            Self::Question => "question",
            Self::Addition => "addition",
            Self::Substitution => "substitution",
            Self::Comparison => "comparison",
            Self::Script => "script",
            Self::Language => "language",
        }
    }

    /// From its stable name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|g| g.name() == name)
    }
}

/// A set of guards: those switched on, or those that found something.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct GuardSet(u32);

impl GuardSet {
    /// Every guard.
    pub const ALL: Self = Self(u32::MAX);
    /// What is on unless the configuration says otherwise: all but [`Guard::Comparison`].
    pub const DEFAULT: Self = Self(!(1 << Guard::Comparison as u8));
    /// Those that find a contradiction, and not merely more, less or other words.
    pub const CONTRARY: Self = Self(
        1 << Guard::Number as u8
            | 1 << Guard::Qualifier as u8
            | 1 << Guard::Negation as u8
            | 1 << Guard::Antonym as u8
            | 1 << Guard::Entity as u8
            | 1 << Guard::Code as u8
            | 1 << Guard::Quoted as u8
            | 1 << Guard::Role as u8
            | 1 << Guard::Script as u8
            | 1 << Guard::Language as u8,
    );
    /// No guard.
    pub const NONE: Self = Self(0);

    /// These guards.
    pub fn of(guards: &[Guard]) -> Self {
        let mut set = Self::NONE;
        guards.iter().for_each(|g| set.insert(*g));
        set
    }

    /// Adds one.
    pub fn insert(&mut self, guard: Guard) {
        self.0 |= 1 << guard as u8;
    }

    /// Takes one out.
    pub fn remove(&mut self, guard: Guard) {
        self.0 &= !(1 << guard as u8);
    }

    /// Whether it is in the set.
    pub fn contains(self, guard: Guard) -> bool {
        self.0 & 1 << guard as u8 != 0
    }

    /// Guards in both sets.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Guards of this set that the other lacks.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether no guard is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its guards.
    pub fn iter(self) -> impl Iterator<Item = Guard> {
        Guard::ALL.into_iter().filter(move |g| self.contains(*g))
    }
}

/// Two texts and how their words correspond: what every pair guard looks at.
struct Pair<'a> {
    a: &'a Reading,
    b: &'a Reading,
    words: Alignment,
    /// Topic words of `a` that `b` does not hold, as indices into `a.tokens`; see
    /// [`change::new_words`].
    new_a: Vec<usize>,
    /// The same for `b`, into `b.tokens`.
    new_b: Vec<usize>,
}

impl<'a> Pair<'a> {
    fn of(a: &'a Reading, b: &'a Reading) -> Self {
        let words = Alignment::of(a, b);
        let new_a = change::new_words(a, &words.only_a, b);
        let new_b = change::new_words(b, &words.only_b, a);
        Self { a, b, words, new_a, new_b }
    }
}

/// Says whether a pair differs in one respect.
type Check = fn(&Pair<'_>) -> bool;

/// The pair guards; polarity and running text are judged apart, since each finds more than one
/// thing.
const CHECKS: [(Guard, Check); 15] = [
    (Guard::Script, script::differs),
    (Guard::Language, script::language_differs),
    (Guard::Number, number::differ),
    (Guard::Qualifier, number::qualifiers_differ),
    (Guard::Code, code::differs),
    (Guard::Quoted, code::quotes_differ),
    (Guard::Entity, change::entity_differs),
    (Guard::Role, order::roles_differ),
    (Guard::Comparison, order::comparison_turned),
    (Guard::Logic, logic::differs),
    (Guard::Tense, tense::differs),
    (Guard::Reference, reference::differs),
    (Guard::Question, reference::question_differs),
    (Guard::Addition, change::word_added),
    (Guard::Substitution, change::word_replaced),
];

/// Everything in which two texts differ, order of the two being irrelevant. Empty for texts that
/// only differ in spelling.
pub fn differences(a: &Reading, b: &Reading) -> GuardSet {
    let mut found = GuardSet::NONE;
    if a.compact == b.compact && a.code == b.code {
        return found;
    }
    if slip_of_the_pen(a, b) {
        return found;
    }
    let pair = Pair::of(a, b);
    for (guard, differs) in CHECKS {
        if differs(&pair) {
            found.insert(guard);
        }
    }
    if let Some(guard) = polarity::differs(&pair) {
        found.insert(guard);
    }
    if a.script.runs_on() && b.script == a.script {
        found = glyphs::differences(a, b, found);
    }
    found
}

/// Whether two texts hold the same topic words and hardly other structure: one question in another
/// dress.
pub fn same_words(a: &Reading, b: &Reading) -> bool {
    if a.compact == b.compact || slip_of_the_pen(a, b) {
        return true;
    }
    let words = Alignment::of(a, b);
    words.only_a.is_empty()
        && words.only_b.is_empty()
        && words.structure_a.len() + words.structure_b.len() <= 4
}

/// Two neighbouring characters exchanged somewhere, a space included ("bestp lace"), no digit
/// touched.
fn slip_of_the_pen(a: &Reading, b: &Reading) -> bool {
    if a.text.len() != b.text.len() || !align::swapped(&a.text, &b.text) {
        return false;
    }
    let letters = a
        .text
        .chars()
        .zip(b.text.chars())
        .filter(|(x, y)| x != y)
        .all(|(x, y)| !x.is_numeric() && !y.is_numeric());
    let spaced = a
        .text
        .chars()
        .zip(b.text.chars())
        .any(|(x, y)| x != y && !(x.is_alphabetic() && y.is_alphabetic()));
    let lists = lexicon::lexicon();
    let known = |r: &Reading, other: &Reading| {
        r.tokens
            .iter()
            .filter(|t| !other.has(&t.word))
            .all(|t| lists.knows(&t.word) || t.word.len() < 3)
    };
    letters && (spaced || !known(a, b) || !known(b, a))
}

#[cfg(test)]
mod tests;
