//! What is asked for, in Milvus' boolean expressions.

use super::rows::{Marked, field, mark};
use crate::store::Selector;

/// What a selector means, as Milvus' boolean expression; empty: everything.
pub(super) fn expression(selector: &Selector) -> String {
    let marked =
        |kind, text: &str| format!("array_contains({}, \"{}\")", field::MARKS, mark(kind, text));
    // Times beyond what Milvus can hold are cut to its last one, when written and when asked for.
    let time = |ms: &u64| i64::try_from(*ms).unwrap_or(i64::MAX);
    match selector {
        Selector::All => String::new(),
        Selector::Answer(id) => format!("{} == \"{id}\"", field::ANSWER),
        Selector::Model(name) => marked(Marked::Model, name),
        Selector::Route(name) => marked(Marked::Route, name),
        Selector::Tenant(name) => marked(Marked::Tenant, name),
        Selector::Tag(name) => marked(Marked::Tag, name),
        Selector::Both(both) => {
            let parts = [expression(&both.0), expression(&both.1)];
            let said = parts.iter().filter(|part| !part.is_empty()).map(|part| format!("({part})"));
            said.collect::<Vec<_>>().join(" and ")
        }
        Selector::Before(ms) => format!("{} < {}", field::GENERATED_MS, time(ms)),
        Selector::ExpiredAt(ms) => format!("{} <= {}", field::EXPIRES_MS, time(ms)),
    }
}

/// A text inside an expression; `None` for what no partition holds.
pub(super) fn quoted(text: &str) -> Option<String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    plain.then(|| format!("\"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_hold_no_text_that_people_choose() {
        let nasty = "\" or id != \"";
        for selector in [
            Selector::Model(nasty.into()),
            Selector::Route(nasty.into()),
            Selector::Tenant(nasty.into()),
            Selector::Tag(nasty.into()),
        ] {
            assert!(!expression(&selector).contains("or id"), "{selector:?}");
        }
        assert_eq!(quoted(nasty), None);
        assert_eq!(quoted("0af-9").as_deref(), Some("\"0af-9\""));
    }
}
