use proptest::prelude::*;

use super::*;

fn found(a: &str, b: &str) -> Vec<&'static str> {
    differences(&Reading::of(a), &Reading::of(b)).iter().map(Guard::name).collect()
}

#[track_caller]
fn caught(guard: &str, a: &str, b: &str) {
    let names = found(a, b);
    assert!(names.contains(&guard), "{a} | {b}: {names:?} lacks {guard}");
    let veil = Veil::new(&[7; 32]);
    let Some((x, y)) = veil.read(a).zip(veil.read(b)) else { return };
    let covered: Vec<_> = differences(&x, &y).iter().map(Guard::name).collect();
    assert!(covered.contains(&guard), "{a} | {b}, covered: {covered:?} lacks {guard}");
}

#[track_caller]
fn passes(a: &str, b: &str) {
    let names = found(a, b);
    assert!(names.is_empty(), "{a} | {b}: {names:?}");
}

#[test]
fn names_are_stable_and_unique() {
    for guard in Guard::ALL {
        assert_eq!(Guard::from_name(guard.name()), Some(guard));
    }
    assert_eq!(Guard::from_name("nonsense"), None);
}

#[test]
fn numbers() {
    caught("number", "What are the best phones of 2023?", "What are the best phones of 2024?");
    caught("number", "Is Python 3.10 supported?", "Is Python 3.11 supported?");
    caught("number", "Wake me at 10pm", "Wake me at 10 am");
    caught("number", "List three causes of the war", "List four causes of the war");
    passes("How far is 1,000 km?", "How far is 1000 km?");
    passes("Wake me at 10pm", "Wake me at 10 pm");
    caught("qualifier", "Convert 5 miles to feet", "Convert 5 miles to meters");
    caught("qualifier", "Sort a list in Python", "Sort a list in Rust");
    caught("qualifier", "What does it cost in euros?", "What does it cost in dollars?");
}

#[test]
fn yes_and_no() {
    caught("negation", "Is it safe to swim here?", "Is it not safe to swim here?");
    caught("negation", "Can I eat this mushroom raw?", "Can't I eat this mushroom raw?");
    caught("antonym", "How do I enable dark mode?", "How do I disable dark mode?");
    caught("antonym", "How do I turn the alarm on?", "How do I turn the alarm off?");
    caught("antonym", "Is it safe to eat before surgery?", "Is it safe to eat after surgery?");
    caught(
        "role",
        "Is it better to buy low and sell high?",
        "Is it better to sell low and buy high?",
    );
    passes("How can I become less pessimistic?", "How can I become more optimistic?");
    passes("It is not difficult", "It is easy");
}

#[test]
fn roles() {
    caught("role", "Is Anthony loyal to Angela?", "Is Angela loyal to Anthony?");
    caught("role", "Does Michelle recognize Christina?", "Is Michelle recognized by Christina?");
    caught("role", "Flights from Paris to Rome", "Flights from Rome to Paris");
    passes("Did Natalie manage the newspaper?", "Was the newspaper managed by Natalie?");
    passes("Is Rachel a friend of Jordan?", "Is Jordan a friend of Rachel?");
    passes("Flights from Paris to Rome", "Flights to Rome from Paris");
}

#[test]
fn structure() {
    caught("logic", "Is Ann a nurse or a pilot?", "Is Ann a nurse and a pilot?");
    caught("logic", "Can all birds fly?", "Can some birds fly?");
    caught("tense", "Is Ann a pilot?", "Did Ann use to be a pilot?");
    caught("tense", "Was the shop open on Sunday?", "Is the shop open on Sunday?");
    caught("reference", "Would he reject her?", "Would she reject him?");
    caught("addition", "Is Ann an actor?", "Is Ann a bad actor?");
    caught("substitution", "Can I feed my cat rice?", "Can I feed my dog rice?");
    caught("entity", "Who is the mayor of Lyon?", "Who is the mayor of Nice?");
    caught("question", "When did the war end?", "Why did the war end?");
    caught("code", "What does x == y do?", "What does x != y do?");
    caught("code", "What does getUser return?", "What does getUsers return?");
    caught("quoted", "Translate \"good morning\"", "Translate \"good evening\"");
}

#[test]
fn what_must_hit() {
    passes("What is the best software to edit video?", "What is teh best software to edit video?");
    passes("Where is the best place to eat?", "Where is the bestp lace to eat?");
    passes("What's a shadow register?", "What is a shadow register?");
    passes("Please tell me how to bake bread", "How to bake bread?");
    passes("How do I learn chess?", "What is a good way to learn chess?");
    passes("Is that lizard on the table?", "Is that lizard actually on the table?");
    passes(
        "My dog eats rice. Is it normal for animals to eat rice?",
        "My cat eats rice. Is it normal for animals to eat rice?",
    );
    passes("paypal account", "p\u{430}y\u{200b}pal account");
}

/// What GPTCache's pairs showed to be vetoed without need, each beside what must stay vetoed.
#[test]
fn only_what_differs_is_vetoed() {
    passes("What is NLP used for?", "What is natural language processing used for?");
    caught("entity", "What is NLP used for?", "What is NLU used for?");
    passes("How do I upload a file to the Hub?", "How do I upload a file to the Hub, to the Hub?");
    passes("Is this fixed in v2.10.0 of it?", "Is this fixed in 2.10.0 of it?");
    caught("number", "Is this fixed in v2.10.0 of it?", "Is this fixed in 2.11.0 of it?");
    passes("Can it be decoded in real time?", "Can it be decoded on the fly in real time?");
    caught("qualifier", "What does it cost in real?", "What does it cost in euros?");
    passes(
        "In the absence of a script, all files in the folder are loaded.",
        "If there is no script, all files in the folder are loaded.",
    );
    caught(
        "negation",
        "In the absence of a script, are all of the files in the folder loaded?",
        "In the absence of a script, are all of the files in the folder not loaded?",
    );
    passes(
        "When the flag is set, the extracted files will be deleted.",
        "When the flag is set, the extracted files are deleted.",
    );
    caught("tense", "Will the extracted files be deleted?", "Are the extracted files deleted?");
    caught(
        "tense",
        "When I am in town I will visit the museum again.",
        "When I am in town I visit the museum again.",
    );
    passes(
        "Iter_archive() walks files in an archive.",
        "What iter_archive() walks: files in an archive",
    );
    caught("code", "What does GetUser() return?", "What does getUser() return?");
    passes("Is the sound of it good? \u{1f642}", "Is the sound of it good?");
    passes("What are the different types of rice?", "What are the types of rice?");
    caught("substitution", "What happens the following day?", "What happens the previous day?");
    passes(
        "The method is used to pick a field by its name.",
        "The method is used to pick a field either by its name.",
    );
    assert_eq!(alone(&Reading::of("What is the sampling rate of a compact disc?")), None);
}

#[test]
fn other_scripts() {
    caught("substitution", "法国的首都是什么", "德国的首都是什么");
    caught("negation", "这个药可以吃吗", "这个药不可以吃吗");
    caught("antonym", "饭前可以喝酒吗", "饭后可以喝酒吗");
    passes("法国的首都是什么", "请告诉我法国的首都是什么");
    caught("negation", "Можно ли есть это?", "Нельзя ли есть это?");
    caught("antonym", "Как включить звук на телефоне?", "Как выключить звук на телефоне?");
    caught("script", "What is Moscow?", "Что такое Москва?");
    caught(
        "language",
        "What is the capital of the country?",
        "Was ist die Hauptstadt von dem Land?",
    );
    passes("मुंबई की जनसंख्या कितनी है?", "कृपया मुंबई की जनसंख्या कितनी है?");
    caught("entity", "Wo ist der Bahnhof in Köln?", "Wo ist der Bahnhof in Bonn?");
}

#[test]
fn alone_classes() {
    let class = |text: &str| alone(&Reading::of(text)).map(Alone::name);
    assert_eq!(class("yes"), Some("too_short"));
    assert_eq!(class("continue please"), Some("too_short"));
    assert_eq!(class("😀😀"), Some("no_words"));
    assert_eq!(class(""), Some("no_words"));
    assert_eq!(class("What is the weather in Paris?"), Some("volatile"));
    assert_eq!(class("今天天气怎么样"), Some("volatile"));
    assert_eq!(class("What is the capital of France?"), None);
    assert_eq!(class("法国的首都是什么"), None);
}

/// A few words of every kind, and the same with some of them replaced, added, left out or moved.
fn edited() -> impl Strategy<Value = (String, String)> {
    const WORDS: [&str; 48] = [
        "is",
        "was",
        "will",
        "how",
        "why",
        "the",
        "a",
        "not",
        "without",
        "absence",
        "or",
        "and",
        "only",
        "all",
        "some",
        "from",
        "to",
        "before",
        "after",
        "more",
        "less",
        "than",
        "Alice",
        "Bob",
        "NLP",
        "natural",
        "language",
        "processing",
        "Paris",
        "dog",
        "cat",
        "big",
        "large",
        "10",
        "two",
        "v2.1.0",
        "km",
        "real",
        "euros",
        "he",
        "she",
        "loved",
        "by",
        "following",
        "getUser()",
        "\"quoted\"",
        "\u{1f642}",
        "different",
    ];
    let word = || proptest::sample::select(WORDS.to_vec());
    let step = (0..4u8, any::<prop::sample::Index>(), any::<prop::sample::Index>(), word());
    let text = proptest::collection::vec(word(), 2..10);
    (text, proptest::collection::vec(step, 0..4), any::<bool>()).prop_map(|(a, steps, asks)| {
        let mut b = a.clone();
        for (step, at, other, word) in steps {
            let (at, other) = (at.index(b.len()), other.index(b.len()));
            match step {
                0 => b[at] = word,
                1 => b.insert(at, word),
                2 if b.len() > 1 => drop(b.remove(at)),
                _ => b.swap(at, other),
            }
        }
        let end = if asks { "?" } else { "." };
        (a.join(" ") + end, b.join(" ") + end)
    })
}

proptest! {
    #[test]
    fn order_of_the_two_is_irrelevant(a in "[a-z ]{0,30}", b in "[a-z ]{0,30}") {
        let (x, y) = (Reading::of(&a), Reading::of(&b));
        let (there, back) = (differences(&x, &y), differences(&y, &x));
        prop_assert_eq!(there.is_empty(), back.is_empty());
    }

    /// The same with words that guards have opinions on.
    #[test]
    fn order_is_irrelevant_to_every_guard((a, b) in edited()) {
        let (x, y) = (Reading::of(&a), Reading::of(&b));
        let (there, back) = (differences(&x, &y), differences(&y, &x));
        prop_assert_eq!(there.is_empty(), back.is_empty(), "{} | {}: {:?} {:?}", a, b,
            there.iter().collect::<Vec<_>>(), back.iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_text_never_differs_from_itself(a in "\\PC{0,40}") {
        let x = Reading::of(&a);
        prop_assert!(differences(&x, &x).is_empty());
    }

    #[test]
    fn any_two_texts_can_be_compared(a in "\\PC{0,40}", b in "\\PC{0,40}") {
        differences(&Reading::of(&a), &Reading::of(&b));
        alone(&Reading::of(&a));
    }
}

#[test]
fn what_is_said_twice_adds_nothing() {
    let differ = |a: &str, b: &str| !differences(&Reading::of(a), &Reading::of(b)).is_empty();
    for (a, b) in [
        ("What is the capital of France?", "What is the capital city of France?"),
        ("How do I change my PIN?", "How do I change my PIN number?"),
        ("Where is the nearest ATM?", "Where is the nearest ATM machine?"),
    ] {
        assert!(!differ(a, b) && !differ(b, a), "{a} | {b}");
    }
    assert!(differ("What is the capital of Spain?", "What is the capital city of France?"));
    assert!(differ("How many cities are in France?", "How many capital cities are in France?"));
    assert!(differ("What is my account?", "What is my account number?"));
}
