//! Answers without what does not matter.

use crate::cache::guards::plain;

/// Lower case, one spelling, words and numbers only, single spaces. Signs inside numbers and before
/// them stay: "-5" is not "5".
pub fn normal(text: &str) -> String {
    let plain = plain(text);
    let signs: Vec<char> = plain.chars().collect();
    let mut out = String::with_capacity(plain.len());
    for (at, c) in signs.iter().enumerate() {
        let digit_after = signs.get(at + 1).is_some_and(char::is_ascii_digit);
        let digit_before = at > 0 && signs[at - 1].is_ascii_digit();
        let kept = c.is_alphanumeric()
            || (*c == '-' && digit_after && !digit_before && (at == 0 || signs[at - 1] == ' '))
            || (matches!(c, '.' | ',' | ':' | '/') && digit_before && digit_after)
            || matches!(c, '%' | '$' | '€' | '£' | '+' | '=' | '<' | '>');
        if kept {
            out.extend(c.to_lowercase());
        } else if !out.ends_with(' ') {
            out.push(' ');
        }
    }
    out.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dress_goes_content_stays() {
        assert_eq!(normal("**Paris**, of course!"), "paris of course");
        assert_ne!(normal("-5"), normal("5"));
        assert_ne!(normal("1.5"), normal("15"));
        assert_ne!(normal("a < b"), normal("a > b"));
        assert_eq!(normal("1\u{200b}0 %"), "10 %");
    }

    proptest! {
        #[test]
        fn any_text_normalises(text in "\\PC{0,60}") {
            let once = normal(&text);
            prop_assert!(!once.starts_with(' ') && !once.ends_with(' ') && !once.contains("  "));
        }
    }
}
