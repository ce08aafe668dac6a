//! What must agree between a new question and a stored one, whatever their vectors say.

use super::super::reason::Reason;

/// The guards that are on.
#[derive(Clone, Debug)]
pub struct Guards {
    numbers: bool,
    negation: bool,
}

/// Words that negate, and the endings of contracted ones.
const NEGATIONS: [&str; 13] = [
    "not", "no", "never", "none", "nobody", "nothing", "neither", "nor", "without", "cannot",
    "cant", "dont", "wont",
];

impl Guards {
    /// Those named; the config has checked the names.
    pub fn new(names: &[String]) -> Self {
        let on = |name: &str| names.iter().any(|one| one == name);
        Self { numbers: on("numbers"), negation: on("negation") }
    }

    /// The first guard on which the two differ.
    pub fn differ(&self, new: &str, stored: &str) -> Option<Reason> {
        if self.numbers && numbers(new) != numbers(stored) {
            return Some(Reason::GuardNumbers);
        }
        if self.negation && is_negated(new) != is_negated(stored) {
            return Some(Reason::GuardNegation);
        }
        None
    }
}

/// All numbers of a text in a canonical form, sorted: `1,000` and `1000` are one number.
fn numbers(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.next() {
        let Some(digit) = first.to_digit(10) else { continue };
        let mut number = digit.to_string();
        while let Some(next) = chars.peek().copied() {
            match next {
                ',' | '_' | '\'' => {
                    chars.next();
                    if !chars.peek().is_some_and(char::is_ascii_digit) {
                        break;
                    }
                }
                '.' | ':' => {
                    chars.next();
                    if !chars.peek().is_some_and(char::is_ascii_digit) {
                        break;
                    }
                    number.push(next);
                }
                _ => {
                    let Some(digit) = next.to_digit(10) else { break };
                    number.push_str(&digit.to_string());
                    chars.next();
                }
            }
        }
        all.push(number);
    }
    all.sort_unstable();
    all
}

/// Does an odd number of negations stand in the text?
fn is_negated(text: &str) -> bool {
    let lower = text.to_lowercase().replace('\u{2019}', "'");
    let words = lower.split(|char: char| !(char.is_alphanumeric() || char == '\''));
    let negations = words.filter(|word| {
        word.ends_with("n't") || NEGATIONS.contains(&word.replace('\'', "").as_str())
    });
    negations.count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_must_agree() {
        let guards = Guards::new(&["numbers".into()]);
        let differ = |a, b| guards.differ(a, b) == Some(Reason::GuardNumbers);
        assert!(differ("top 5 films", "top 10 films"));
        assert!(differ("python 3.11", "python 3.12"));
        assert!(differ("at 10:30", "at 10:45"));
        assert!(differ("films", "5 films"));
        assert!(!differ("1,000 steps.", "1000 steps"));
        assert!(!differ("from 2 to 7", "to 7 from 2"));
    }

    #[test]
    fn negation_must_agree() {
        let guards = Guards::new(&["negation".into()]);
        let differ = |a, b| guards.differ(a, b) == Some(Reason::GuardNegation);
        assert!(differ("is it safe", "is it not safe"));
        assert!(differ("why does it work", "why doesn\u{2019}t it work"));
        assert!(differ("can I fly with a knife", "can I fly without a knife"));
        assert!(!differ("why don't you", "why do you not"));
        assert!(!differ("notable knots", "remarkable knots"));
    }

    #[test]
    fn a_guard_that_is_off_is_silent() {
        assert_eq!(Guards::new(&[]).differ("1 not", "2"), None);
    }
}
