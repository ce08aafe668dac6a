//! Which words of two texts stand for one another.

use super::lexicon::lexicon;
use super::reading::{Class, Reading, Token};
use super::unicode::Script;

/// Matched and unmatched tokens of a pair, as indices into each side's tokens.
#[derive(Clone, Debug, Default)]
pub(super) struct Alignment {
    /// Topic words that correspond, in the order of the first text.
    pub matched: Vec<(usize, usize)>,
    /// Topic words of the first text alone.
    pub only_a: Vec<usize>,
    /// Topic words of the second text alone.
    pub only_b: Vec<usize>,
    /// Function words of one text alone, by multiset of words.
    pub structure_a: Vec<usize>,
    /// The same for the second text.
    pub structure_b: Vec<usize>,
    /// Share of the topic in common, 0..=1: `2 matched / all topic words`.
    pub topic_share: f32,
    /// Share of all words in common, 0..=1.
    pub share: f32,
}

/// Topic words changed, both texts together, beyond which a text is a free rephrasing and no edit:
/// long texts share most of their words either way.
const MOST_CHANGED: usize = 5;
/// The same for function words.
const MOST_RESTRUCTURED: usize = 8;

impl Alignment {
    /// Aligns the topic words: equal stems first, then slips of the pen, then synonyms.
    pub(super) fn of(a: &Reading, b: &Reading) -> Self {
        let topic = |r: &Reading| -> Vec<usize> {
            (0..r.tokens.len())
                .filter(|i| {
                    matches!(r.tokens[*i].class, Class::Content | Class::Number | Class::Symbol)
                })
                .collect()
        };
        let mut this = Self { only_a: topic(a), only_b: topic(b), ..Self::default() };
        let all = this.only_a.len() + this.only_b.len();
        // A name first of all stands for itself: "Use" in a title is not the verb beside it.
        this.pair_up(a, b, |x, y| x.named == y.named && x.same_stem(y));
        this.pair_up(a, b, |x, y| x.same_stem(y));
        this.pair_up(a, b, |x, y| {
            x.class == Class::Content && y.class == Class::Content && slip(x, y)
        });
        this.pair_up(a, b, |x, y| {
            x.class == Class::Content
                && !x.named
                && !y.named
                && lexicon().synonymous(&x.stem, &y.stem)
        });
        this.match_acronyms(a, b);
        this.matched.sort_unstable();
        (this.structure_a, this.structure_b) = structure(a, b);
        this.forgive_structure_slips(a, b);
        let topic_left = this.only_a.len() + this.only_b.len();
        this.topic_share = if all == 0 {
            1.0
        } else {
            2.0 * this.matched.len() as f32 / (2 * this.matched.len() + topic_left) as f32
        };
        let words = (a.tokens.len() + b.tokens.len()).max(1) as f32;
        let apart = (topic_left + this.structure_a.len() + this.structure_b.len()) as f32;
        this.share = (1.0 - apart / words).max(0.0);
        this
    }

    /// Whether one text reads as an edit of the other, so that each changed word was changed on
    /// purpose.
    pub(super) fn is_edit(&self) -> bool {
        let changed = self.only_a.len() + self.only_b.len();
        let structure = self.structure_a.len() + self.structure_b.len();
        let few = changed <= MOST_CHANGED && structure <= MOST_RESTRUCTURED;
        few && (self.topic_share >= 0.6 || (self.share >= 0.6 && changed <= 4))
    }

    /// Whether the texts are one another but for a word or two: same order, same structure give or
    /// take an article.
    ///
    /// Stricter than [`Self::is_edit`]. Who rephrases freely changes words too, and means no harm
    /// by it; who leaves all else as it was changes a word to ask something else.
    pub(super) fn is_minimal(&self) -> bool {
        let ordered = self.matched.windows(2).all(|w| w[0].1 < w[1].1);
        let few = self.only_a.len() <= 2 && self.only_b.len() <= 2;
        ordered
            && few
            && self.structure_a.len() <= 1
            && self.structure_b.len() <= 1
            && self.is_edit()
    }

    /// Looser than [`Self::is_edit`]: enough in common for a sign such as a negation to bear on the
    /// same statement.
    pub(super) fn is_related(&self) -> bool {
        self.is_edit()
            || (self.topic_share >= 0.5
                && self.only_a.len() + self.only_b.len() <= 2 * MOST_CHANGED)
    }

    fn pair_up(&mut self, a: &Reading, b: &Reading, same: impl Fn(&Token, &Token) -> bool) {
        let mut left = vec![];
        for i in std::mem::take(&mut self.only_a) {
            match self.only_b.iter().position(|j| same(&a.tokens[i], &b.tokens[*j])) {
                Some(at) => self.matched.push((i, self.only_b.remove(at))),
                None => left.push(i),
            }
        }
        self.only_a = left;
    }

    /// "NLP" stands for "natural language processing": a name whose letters are the initials of words in a
    /// row. Two letters are too few unless those words are names too.
    fn match_acronyms(&mut self, a: &Reading, b: &Reading) {
        let meant = |short: &Reading, at: usize, long: &Reading, only: &[usize]| {
            let letters: Vec<char> = short.tokens[at].word.chars().collect();
            let few = letters.len() < 3;
            let fits = short.tokens[at].named && (2..=5).contains(&letters.len());
            only.windows(letters.len().max(1))
                .find(|row| {
                    fits && row.windows(2).all(|w| w[0] + 1 == w[1])
                        && row.iter().zip(&letters).all(|(i, letter)| {
                            let token = &long.tokens[*i];
                            token.word.starts_with(*letter) && (token.named || !few)
                        })
                })
                .map(<[usize]>::to_vec)
        };
        for at in self.only_a.clone() {
            if let Some(row) = meant(a, at, b, &self.only_b) {
                self.only_a.retain(|i| *i != at);
                self.only_b.retain(|j| !row.contains(j));
                self.matched.push((at, row[0]));
            }
        }
        for at in self.only_b.clone() {
            if let Some(row) = meant(b, at, a, &self.only_a) {
                self.only_b.retain(|j| *j != at);
                self.only_a.retain(|i| !row.contains(i));
                self.matched.push((row[0], at));
            }
        }
    }

    /// A misspelt function word looks like a topic word: "waht is ..." against "what is ...".
    fn forgive_structure_slips(&mut self, a: &Reading, b: &Reading) {
        let forgive = |only: &mut Vec<usize>,
                       mine: &Reading,
                       structure: &mut Vec<usize>,
                       theirs: &Reading| {
            only.retain(|i| {
                let token = &mine.tokens[*i];
                let meant = structure.iter().position(|j| {
                    let other = &theirs.tokens[*j].word;
                    other.len() >= 2
                        && !lexicon().knows(&token.word)
                        && (close(&token.word, other) || swapped(&token.word, other))
                });
                meant.map(|at| structure.remove(at)).is_none()
            });
        };
        forgive(&mut self.only_a, a, &mut self.structure_b, b);
        forgive(&mut self.only_b, b, &mut self.structure_a, a);
    }
}

/// Function words of each side that the other side lacks, repeated words counted.
fn structure(a: &Reading, b: &Reading) -> (Vec<usize>, Vec<usize>) {
    let function = |r: &Reading| -> Vec<usize> {
        (0..r.tokens.len()).filter(|i| r.tokens[*i].class == Class::Function).collect()
    };
    let mut theirs = function(b);
    let mut mine = vec![];
    for i in function(a) {
        match theirs.iter().position(|j| b.tokens[*j].same_word(&a.tokens[i])) {
            Some(at) => drop(theirs.remove(at)),
            None => mine.push(i),
        }
    }
    (mine, theirs)
}

/// Whether one word is most likely the other one misspelt or inflected.
fn slip(x: &Token, y: &Token) -> bool {
    let lists = lexicon();
    if (lists.knows(&x.word) && lists.knows(&y.word)) || lists.opposed(&x.stem, &y.stem) {
        return false;
    }
    let script = x.word.chars().next().map_or(Script::None, Script::of);
    if script == Script::Hangul {
        return particles(&x.word, &y.word);
    }
    if !matches!(script, Script::Latin | Script::None) && inflected(&x.word, &y.word) {
        return true;
    }
    // A name one letter away is another name; only a swap of letters is surely a slip.
    if x.named && y.named {
        swapped(&x.word, &y.word)
    } else {
        close(&x.word, &y.word) || shuffled(&x.word, &y.word)
    }
}

/// One edit on words of five letters or more, or one swap of neighbours on three or more; never the
/// first letter replaced.
fn close(x: &str, y: &str) -> bool {
    let (shorter, longer) =
        (x.chars().count().min(y.chars().count()), x.chars().count().max(y.chars().count()));
    if longer - shorter > 1 || shorter < 3 {
        return false;
    }
    if swapped(x, y) {
        return true;
    }
    if longer < 5 || x.chars().next() != y.chars().next() {
        return false;
    }
    let x: Vec<char> = x.chars().collect();
    let y: Vec<char> = y.chars().collect();
    let front = x.iter().zip(&y).take_while(|(a, b)| a == b).count();
    let rest = shorter - front.min(shorter);
    let back = x.iter().rev().zip(y.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    front + back >= longer - 1
}

/// A long word with its letters in another order between the first and the last: "restaraunt".
fn shuffled(x: &str, y: &str) -> bool {
    if x.len() != y.len() || x.len() < 8 || !x.is_ascii() || !y.is_ascii() {
        return false;
    }
    let sorted = |w: &str| {
        let mut letters = w.as_bytes().to_vec();
        letters.sort_unstable();
        letters
    };
    let (a, b) = (x.as_bytes(), y.as_bytes());
    a[0] == b[0] && a[a.len() - 1] == b[b.len() - 1] && sorted(x) == sorted(y)
}

/// Equal but for two neighbouring letters.
pub(super) fn swapped(x: &str, y: &str) -> bool {
    if x.len() != y.len() {
        return false;
    }
    let apart: Vec<(char, char)> = x.chars().zip(y.chars()).filter(|(a, b)| a != b).collect();
    let at = x.chars().zip(y.chars()).position(|(a, b)| a != b);
    let last =
        x.chars().zip(y.chars()).enumerate().filter(|(_, (a, b))| a != b).map(|(i, _)| i).last();
    matches!(apart[..], [(a, b), (c, d)] if a == d && b == c) && last == at.map(|i| i + 1)
}

/// Same beginning, endings of up to three letters: case and gender in Cyrillic, Greek, Arabic,
/// Devanagari.
fn inflected(x: &str, y: &str) -> bool {
    let front = x.chars().zip(y.chars()).take_while(|(a, b)| a == b).count();
    let longest = x.chars().count().max(y.chars().count());
    front >= 4 && longest - front <= 3
}

/// Korean: one word with different particles.
fn particles(x: &str, y: &str) -> bool {
    let front = x.chars().zip(y.chars()).take_while(|(a, b)| a == b).count();
    front >= 2 && x.chars().count().max(y.chars().count()) - front <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aligned(a: &str, b: &str) -> Alignment {
        Alignment::of(&Reading::of(a), &Reading::of(b))
    }

    #[test]
    fn slips_are_matched() {
        for (x, y) in [
            ("receive", "recieve"),
            ("gym", "gmy"),
            ("software", "sofware"),
            ("professional", "professionall"),
        ] {
            assert!(close(x, y), "{x} {y}");
        }
        for (x, y) in
            [("iran", "iraq"), ("cat", "car"), ("jason", "mason"), ("on", "no"), ("form", "firm")]
        {
            assert!(!close(x, y), "{x} {y}");
        }
    }

    #[test]
    fn same_topic_in_any_order() {
        let pair = aligned(
            "What is the best software to edit voices?",
            "Which software edits a voice best?",
        );
        assert_eq!(pair.topic_share, 1.0);
    }

    #[test]
    fn changed_words_are_left_over() {
        let pair =
            aligned("How are Indians treated in Singapore?", "How are Indians treated in Tonga?");
        assert_eq!((pair.only_a.len(), pair.only_b.len()), (1, 1));
        assert!(pair.is_edit());
    }

    #[test]
    fn empty_texts_align() {
        assert_eq!(aligned("", "").topic_share, 1.0);
        assert_eq!(aligned("", "hello world map").topic_share, 0.0);
    }
}
