//! Does a text fit into the model's window?

use tokenizers::{ModelWrapper, NormalizerWrapper, PostProcessor, Tokenizer};

/// A text longer than this many bytes a window's token is judged by its beginning first: prose has
/// about 4.5 bytes a token, so the beginning alone overflows and the rest need not be tokenized.
const BEGINNING_BYTES_PER_TOKEN: usize = 8;

/// Counts tokens, the special ones included, without cutting.
#[derive(Debug)]
pub(super) struct Window {
    tokenizer: Tokenizer,
    tokens: usize,
    /// An ASCII text of at most this many bytes fits for certain.
    ascii_fits_bytes: usize,
}

// === impl Window ===

impl Window {
    /// `tokenizer` is the embedding model's own, so that both agree on each token.
    pub(super) fn new(mut tokenizer: Tokenizer, tokens: usize) -> Result<Self, tokenizers::Error> {
        tokenizer.with_truncation(None)?;
        tokenizer.with_padding(None);
        // WordPiece makes a token of at least one character, and BERT's normalizer only drops or
        // replaces ASCII characters. Other tokenizers may add some (a leading space, a prefix).
        let bytewise = matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_))
            && matches!(
                tokenizer.get_normalizer(),
                None | Some(NormalizerWrapper::BertNormalizer(_) | NormalizerWrapper::Lowercase(_))
            );
        let special = tokenizer.get_post_processor().map_or(0, |post| post.added_tokens(false));
        let ascii_fits_bytes = if bytewise { tokens.saturating_sub(special) } else { 0 };
        Ok(Self { tokenizer, tokens, ascii_fits_bytes })
    }

    /// The window's size in tokens.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// `None` when the text fits, else how many tokens it has: the window plus one where counting
    /// stopped early.
    pub(super) fn overflow(&self, text: &str) -> Result<Option<usize>, tokenizers::Error> {
        if text.len() <= self.ascii_fits_bytes && text.is_ascii() {
            return Ok(None);
        }
        let beginning = beginning(text, self.tokens * BEGINNING_BYTES_PER_TOKEN);
        if beginning.len() < text.len() && self.count(beginning)? > self.tokens {
            return Ok(Some(self.tokens + 1));
        }
        let tokens = self.count(text)?;
        Ok((tokens > self.tokens).then_some(tokens))
    }

    fn count(&self, text: &str) -> Result<usize, tokenizers::Error> {
        Ok(self.tokenizer.encode_fast(text, true)?.len())
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
