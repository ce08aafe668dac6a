//! Does the model see all of a text?

use std::borrow::Cow;

use tokenizers::Tokenizer;

use crate::embed::{is_pictograph, pictographs};

/// A text longer than this many bytes a window's token is judged by its beginning first: prose has
/// about 4.5 bytes a token, so the beginning alone overflows and the rest need not be tokenized.
const BEGINNING_BYTES_PER_TOKEN: usize = 8;

/// What tokenizers call the placeholder of what is not in their vocabulary: BERT's and
/// SentencePiece's name. Byte-level vocabularies have none.
const PLACEHOLDERS: [&str; 2] = ["[UNK]", "<unk>"];

/// The model's tokenizer, without cutting and padding.
#[derive(Debug)]
pub(super) struct Window {
    tokenizer: Tokenizer,
    tokens: usize,
    placeholders: Vec<u32>,
}

/// How much of a text the model sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// All of it.
    Whole,
    /// It has more tokens than the window: this many, or the window plus one where counting stopped.
    Beyond { tokens: usize },
    /// So many of its tokens are placeholders.
    Unknown { tokens: usize },
}

// === impl Window ===

impl Window {
    /// `tokenizer` is the embedding model's own, so that both agree on each token.
    pub(super) fn new(mut tokenizer: Tokenizer, tokens: usize) -> Result<Self, tokenizers::Error> {
        tokenizer.with_truncation(None)?;
        tokenizer.with_padding(None);
        let placeholders =
            PLACEHOLDERS.iter().filter_map(|name| tokenizer.token_to_id(name)).collect();
        Ok(Self { tokenizer, tokens, placeholders })
    }

    /// The window's size in tokens, special ones included.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    pub(super) fn sight(&self, text: &str) -> Result<Sight, tokenizers::Error> {
        let beginning = beginning(text, self.tokens * BEGINNING_BYTES_PER_TOKEN);
        if beginning.len() < text.len() && self.encode(beginning)?.len() > self.tokens {
            return Ok(Sight::Beyond { tokens: self.tokens + 1 });
        }
        let ids = self.encode(text)?;
        if ids.len() > self.tokens {
            return Ok(Sight::Beyond { tokens: ids.len() });
        }
        match ids.iter().filter(|id| self.placeholders.contains(id)).count() {
            0 => Ok(Sight::Whole),
            tokens => Ok(Sight::Unknown { tokens }),
        }
    }

    /// A text as the model sees it best, and how much of it that is: pictographs without a token of
    /// their own would each be the same placeholder, and take the word that they touch along.
    pub(super) fn seen<'t>(
        &self,
        text: &'t str,
    ) -> (Cow<'t, str>, Result<Sight, tokenizers::Error>) {
        let sight = self.sight(text);
        if !matches!(sight, Ok(Sight::Unknown { .. })) || pictographs(text).is_empty() {
            return (text.into(), sight);
        }
        let bare: String = text.chars().map(|c| if is_pictograph(c) { ' ' } else { c }).collect();
        match self.sight(&bare) {
            Ok(Sight::Whole) if !bare.trim().is_empty() => (bare.into(), Ok(Sight::Whole)),
            _ => (text.into(), sight),
        }
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, tokenizers::Error> {
        Ok(self.tokenizer.encode_fast(text, true)?.get_ids().to_vec())
    }
}

/// At most `bytes` of the text, cut where a word ends if there is one: half a word may have more
/// tokens than the whole, and a text must not seem longer than it is.
fn beginning(text: &str, bytes: usize) -> &str {
    let cut = &text[..text.floor_char_boundary(bytes)];
    if cut.len() == text.len() {
        return text;
    }
    cut.rfind(char::is_whitespace).map_or(cut, |space| &cut[..space])
}

#[cfg(test)]
mod tests {
    use super::beginning;

    #[test]
    fn the_beginning_ends_with_a_word() {
        assert_eq!(beginning("one two three", 99), "one two three");
        assert_eq!(beginning("one two three", 13), "one two three");
        assert_eq!(beginning("one two three", 10), "one two");
        assert_eq!(beginning("onetwothree", 5), "onetw");
        assert_eq!(beginning("日本語", 4), "日");
        assert_eq!(beginning("", 4), "");
    }
}
