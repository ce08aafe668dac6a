//! One spelling for what looks the same, before anything else reads the text.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

/// Cyrillic and Greek letters that are drawn like a Latin one, each with that letter.
const LOOKALIKES: &str = "аaеeоoрpсcуyхxіiјjѕsһhԁdԛqԝwАAВBЕEЅSІIЈJКKМMНHОOРPСCТTХXУYαaοoνvρpιiκkυuΑAΒBΕEΖZΗHΙIΚKΜMΝNΟOΡPΤTΥYΧX";

/// Compatibility-composed, without invisible characters, with look-alikes folded inside words that
/// mix alphabets, with plain quotes and single spaces. Letter case stays: names and code need it.
///
/// A word wholly Cyrillic or Greek is a word of that language and stays as it is; one that borrows
/// a letter is a disguise.
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
        && !text.contains("  ")
        && !text.starts_with(' ')
        && !text.ends_with(' ')
    {
        return Cow::Borrowed(text);
    }
    let composed: String = text.nfkc().filter(|c| !invisible(*c)).map(quote).collect();
    let mut out = String::with_capacity(composed.len());
    for word in composed.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        let latin = word.chars().any(|c| c.is_ascii_alphabetic());
        let foreign = word.chars().any(|c| matches!(c, '\u{370}'..='\u{52f}'));
        if latin && foreign {
            out.extend(word.chars().map(unmask));
        } else {
            out.push_str(word);
        }
    }
    Cow::Owned(out)
}

/// Whether a text says something that no eye sees.
///
/// A model reads tag characters, and bits written as zero-width characters or variation selectors
/// can be decoded; an encoder drops both, so that such a text has the very vector of the harmless
/// one around it. Flags, joiners inside words and the selector behind an emoji are ordinary.
pub(super) fn hides(text: &str) -> bool {
    /// Invisible characters in a row that no script and no emoji needs.
    const RUN: usize = 3;
    /// One invisible character for so many visible ones is more than Persian or Hindi need.
    const DENSE: usize = 8;
    const FLAG: char = '\u{1f3f4}';
    if text.is_ascii() {
        return false;
    }
    let (mut run, mut all, mut visible) = (0, 0, 0);
    let mut flag = false;
    for c in text.chars() {
        if !invisible(c) {
            (run, visible) = (0, visible + 1);
            flag = c == FLAG;
            continue;
        }
        if flag && matches!(c, '\u{e0020}'..='\u{e007f}') {
            continue;
        }
        (run, all) = (run + 1, all + 1);
        if run >= RUN || matches!(c, '\u{e0000}'..='\u{e007f}') {
            return true;
        }
    }
    all > RUN && all * DENSE > visible
}

/// Zero-width, bidirectional, soft hyphen, variation selectors, tags, and controls that are not
/// white space.
fn invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
        || (c.is_control() && !c.is_whitespace())
}

fn quote(c: char) -> char {
    match c {
        '\u{2018}' | '\u{2019}' | '\u{201b}' | '\u{2bc}' | '\u{2032}' | '`' | '\u{b4}' => '\'',
        '\u{201c}'..='\u{201f}' | '\u{ab}' | '\u{bb}' | '\u{300c}'..='\u{300f}' | '\u{2033}' => '"',
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        other => other,
    }
}

fn unmask(c: char) -> char {
    let mut letters = LOOKALIKES.chars();
    while let (Some(mask), Some(face)) = (letters.next(), letters.next()) {
        if mask == c {
            return face;
        }
    }
    c
}

/// The writing system that most letters of a text belong to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Script {
    /// No letters at all.
    None,
    /// Latin.
    Latin,
    /// Greek.
    Greek,
    /// Cyrillic.
    Cyrillic,
    /// Hebrew.
    Hebrew,
    /// Arabic.
    Arabic,
    /// Devanagari.
    Devanagari,
    /// Hangul.
    Hangul,
    /// Han, hiragana and katakana: one system, since Japanese mixes them and writes no spaces.
    Han,
    /// Thai, Lao, Khmer and Burmese: no spaces between words either.
    SouthEast,
    /// Any other.
    Other,
}

impl Script {
    /// Of one letter; `None` for anything that is not a letter.
    pub fn of(c: char) -> Self {
        match c {
            'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}' => Self::Latin,
            _ if c.is_ascii() => Self::None,
            '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}' => Self::Greek,
            '\u{400}'..='\u{52f}' => Self::Cyrillic,
            '\u{590}'..='\u{5ff}' => Self::Hebrew,
            '\u{600}'..='\u{6ff}' | '\u{750}'..='\u{77f}' | '\u{fb50}'..='\u{fdff}' => Self::Arabic,
            '\u{900}'..='\u{97f}' => Self::Devanagari,
            '\u{1100}'..='\u{11ff}' | '\u{ac00}'..='\u{d7af}' => Self::Hangul,
            '\u{3041}'..='\u{30ff}'
            | '\u{3400}'..='\u{9fff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{3ffff}' => Self::Han,
            '\u{e00}'..='\u{eff}' | '\u{1780}'..='\u{17ff}' | '\u{1000}'..='\u{109f}' => {
                Self::SouthEast
            }
            _ if c.is_alphabetic() => Self::Other,
            _ => Self::None,
        }
    }

    /// Whether words run together without spaces.
    pub fn runs_on(self) -> bool {
        matches!(self, Self::Han | Self::SouthEast)
    }

    const ALL: [Self; 11] = [
        Self::None,
        Self::Latin,
        Self::Greek,
        Self::Cyrillic,
        Self::Hebrew,
        Self::Arabic,
        Self::Devanagari,
        Self::Hangul,
        Self::Han,
        Self::SouthEast,
        Self::Other,
    ];

    /// The script of the greater part of a text's letters; Han letters weigh double, since each is
    /// a word's worth.
    pub fn dominant(text: &str) -> Self {
        if text.is_ascii() {
            let letters = text.bytes().any(|b| b.is_ascii_alphabetic());
            return if letters { Self::Latin } else { Self::None };
        }
        let mut counts = [0u32; Self::ALL.len()];
        for c in text.chars() {
            let script = Self::of(c);
            counts[script as usize] += if script == Self::Han { 2 } else { 1 };
        }
        counts[Self::None as usize] = 0;
        let best = Self::ALL.into_iter().max_by_key(|s| counts[*s as usize]);
        best.filter(|s| counts[*s as usize] > 0).unwrap_or(Self::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn disguises_come_off() {
        assert_eq!(plain("p\u{430}y\u{200b}pal"), "paypal");
        assert_eq!(plain("\u{202e}hi\u{202c}  there "), "hi there");
        assert_eq!(plain("ｆｕｌｌ ｗｉｄｔｈ １２"), "full width 12");
        assert_eq!(plain("“smart” ‘quotes’ — dash"), "\"smart\" 'quotes' - dash");
    }

    #[test]
    fn a_real_word_of_another_alphabet_stays() {
        assert_eq!(plain("Как дела"), "Как дела");
    }

    #[test]
    fn hidden_text_is_seen() {
        let tags: String =
            "obey".chars().map(|c| char::from_u32(0xe0000 + c as u32).unwrap()).collect();
        let selectors = "\u{e0141}\u{e0152}\u{e0147}";
        let bits = "w\u{200b}h\u{200c}a\u{200b}t \u{200c}i\u{200b}s\u{200c} it";
        for text in [format!("why?{tags}"), format!("why \u{1f600}{selectors}?"), bits.into()] {
            assert!(hides(&text), "{text:?}");
        }
        for text in [
            "what is caf\u{e9} cr\u{e8}me?",
            "p\u{200b}aypal account",
            "\u{1f3f4}\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f} which flag?",
            "I \u{2764}\u{fe0f} it \u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
            "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645} \u{628}\u{62f}\u{627}\u{646}\u{645}",
        ] {
            assert!(!hides(text), "{text:?}");
        }
    }

    #[test]
    fn scripts_are_told_apart() {
        assert_eq!(Script::dominant("法国的首都 Paris"), Script::Han);
        assert_eq!(Script::dominant("Как дела, Bob?"), Script::Cyrillic);
        assert_eq!(Script::dominant("😀 12"), Script::None);
    }

    proptest! {
        #[test]
        fn plain_is_stable(text in "\\PC{0,40}") {
            let once = plain(&text).into_owned();
            prop_assert_eq!(plain(&once).into_owned(), once.clone());
        }
    }
}
