//! Covered questions against the same in clear. The guards' own tests look at each of their pairs in
//! both forms.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::cache::guards::differences;

fn veil() -> Veil {
    Veil::new(&[1; 32])
}

fn found(a: &str, b: &str) -> Vec<&'static str> {
    let veil = veil();
    let (a, b) = (veil.cover(a).unwrap(), veil.cover(b).unwrap());
    let found = differences(&veil.read(&a).unwrap(), &veil.read(&b).unwrap());
    found.iter().map(|guard| guard.name()).collect()
}

#[test]
fn nothing_of_a_text_can_be_read() {
    let text = "Is it not safe for Anthony Miller, born 1984, to take \"Zolpidem\" with getDose()?";
    let covered = veil().cover(text).unwrap();
    assert!(Veil::is_covered(&covered) && !Veil::is_covered(text));
    let bytes = BASE64_STANDARD_NO_PAD.decode(covered.strip_prefix(MARK).unwrap()).unwrap();
    let bytes = String::from_utf8_lossy(&bytes).to_lowercase();
    for word in ["safe", "anthony", "miller", "1984", "zolpidem", "getdose", "take", "born"] {
        assert!(!bytes.contains(word) && !covered.to_lowercase().contains(word), "{word}");
    }
    // Who has the key finds what guards know by name, and no more.
    let told = format!("{:?}", veil().read(&covered).unwrap()).to_lowercase();
    assert!(told.contains("\"not\"") && told.contains("\"with\""));
    for word in ["anthony", "miller", "1984", "zolpidem", "dose"] {
        assert!(!told.contains(word), "{word}");
    }
}

#[test]
fn the_same_question_agrees_and_another_does_not() {
    for (a, b) in [
        ("How do I reset my password?", "how do i reset my password"),
        ("What's a shadow register?", "What is a shadow register?"),
        ("Please tell me how to bake bread", "How to bake bread?"),
        ("Translate \"good morning\" to French", "Please translate \"Good morning\" to French"),
        ("What does getUser return?", "what does getUser return?"),
        ("Wake me at 10pm", "Wake me at 10 pm"),
        ("Are you scared of spiders?", "Are you frightened of spiders?"),
    ] {
        assert!(found(a, b).is_empty(), "{a} | {b}: {:?}", found(a, b));
    }
    for (a, b, guard) in [
        ("Is it legal to film here?", "Is it illegal to film here?", "antonym"),
        ("Is Tom careful with tools?", "Is Tom careless with tools?", "antonym"),
        ("Who is the mayor of Lyon?", "Who is the mayor of Nice?", "entity"),
        ("Pay 1984 euros to Ann", "Pay 1948 euros to Ann", "number"),
        ("You like it here, don't you?", "Do you not like it here?", "negation"),
    ] {
        let plain = differences(&Reading::of(a), &Reading::of(b));
        let plain: Vec<_> = plain.iter().map(|one| one.name()).collect();
        assert_eq!(found(a, b).contains(&guard), plain.contains(&guard), "{a} | {b}: {plain:?}");
    }
}

#[test]
fn another_key_damage_and_scripts_without_spaces_have_no_reading() {
    let covered = veil().cover("How do I reset my password?").unwrap();
    assert!(Veil::new(&[2; 32]).read(&covered).is_none());
    assert!(veil().read(&covered[..covered.len() - 8]).is_none());
    assert!(veil().read(&format!("{MARK}???")).is_none());
    assert_eq!(veil().cover("法国的首都是什么"), None);
    assert_eq!(veil().cover(&covered), Some(covered.clone()), "once is enough");
}

/// A word that code asks for by name and that this form does not keep findable would make its guard
/// blind without a sound.
#[test]
fn every_word_that_guards_ask_for_is_on_the_list() {
    let named: HashSet<_> = lexicon().named().collect();
    let affixes = ["un", "in", "im", "il", "ir", "dis", "non", "de", "ful", "less"];
    for code in [
        include_str!("../order.rs"),
        include_str!("../logic.rs"),
        include_str!("../tense.rs"),
        include_str!("../reference.rs"),
        include_str!("../change.rs"),
        include_str!("../number.rs"),
        include_str!("../polarity.rs"),
    ] {
        let code = code.split("#[cfg(test)]").next().unwrap();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in lines {
            for word in line
                .split('"')
                .skip(1)
                .step_by(2)
                .filter(|word| !word.is_empty() && !word.contains(' '))
            {
                assert!(named.contains(word) || affixes.contains(&word), "{word}: {line}");
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_covered_reads_as_it_was_but_for_its_words(text in "\\PC{0,80}") {
        let veil = veil();
        let plain = Reading::of(&text);
        if let Some(covered) = veil.cover(&text) {
            let read = veil.read(&covered).unwrap();
            prop_assert_eq!(read.tokens.len(), plain.tokens.len());
            for (a, b) in read.tokens.iter().zip(&plain.tokens) {
                prop_assert_eq!((a.class, a.named, a.sentence), (b.class, b.named, b.sentence));
            }
            prop_assert_eq!(read.pictographs.is_empty(), plain.pictographs.is_empty());
            prop_assert_eq!((read.script, read.language, read.asked, read.hides),
                (plain.script, plain.language, plain.asked, plain.hides));
            prop_assert!(differences(&read, &veil.read(&covered).unwrap()).is_empty());
        }
    }

    #[test]
    fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = veil().uncover(&bytes);
    }
}
