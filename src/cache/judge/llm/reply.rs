//! What the judge said, whatever dress it came in.

use serde::Deserialize;

use crate::cache::verdict::Agreement;

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

/// The verdict in a chat completion's body; `None` for anything that is not clearly one.
pub(super) fn agreement(body: &[u8]) -> Option<Agreement> {
    let completion: Completion = serde_json::from_slice(body).ok()?;
    word(completion.choices.first()?.message.content.as_deref()?)
}

/// The one verdict that a text names: "same", "**Different**", `{"verdict": "same"}`, "Yes.". A text
/// that names both or denies one names none.
fn word(text: &str) -> Option<Agreement> {
    // What a model thinks aloud weighs both sides.
    let said = text.rsplit("</think>").next().unwrap_or(text);
    let mut found = None;
    for word in said.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()) {
        let one = match word.to_lowercase().as_str() {
            "same" | "yes" => Agreement::Same,
            "different" | "no" => Agreement::Different,
            "not" | "neither" | "unsure" | "unclear" => return None,
            _ => continue,
        };
        if found.is_some_and(|before| before != one) {
            return None;
        }
        found = Some(one);
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_clear_word_is_heard_in_any_dress() {
        for same in ["same", "Same.", "**SAME**", "{\"verdict\": \"same\"}", "Yes, the same.\n"] {
            assert_eq!(word(same), Some(Agreement::Same), "{same}");
        }
        for different in ["different", "Answer: Different!", "No"] {
            assert_eq!(word(different), Some(Agreement::Different), "{different}");
        }
        let thinking = "<think>same? or different?</think>\n\ndifferent";
        assert_eq!(word(thinking), Some(Agreement::Different));
    }

    #[test]
    fn what_is_not_clear_is_nothing() {
        for unclear in ["", "not the same", "same or different?", "I cannot tell", "unclear: same"]
        {
            assert_eq!(word(unclear), None, "{unclear}");
        }
        for body in ["", "{}", "{\"choices\": []}", "{\"choices\": [{\"message\": {}}]}", "[1]"] {
            assert_eq!(agreement(body.as_bytes()), None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_reply_panics(body in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,80}") {
            let _ = agreement(&body);
            let _ = word(&text);
        }
    }
}
