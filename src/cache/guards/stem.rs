//! A light English stem: enough that "manages", "managed" and "managing" meet, little enough that
//! names survive.

/// Stem of a lower-case word.
pub(super) fn stem(word: &str) -> String {
    if !word.is_ascii() || word.len() < 4 {
        return irregular(word).unwrap_or(word).to_owned();
    }
    if let Some(base) = irregular(word) {
        return base.to_owned();
    }
    let singular = plural(word);
    let verb = inflection(&singular).unwrap_or(singular);
    spelling(verb)
}

/// Words whose forms share no beginning, each with the stem of its base.
fn irregular(word: &str) -> Option<&'static str> {
    Some(match word {
        "broke" | "broken" => "break",
        "brought" => "bring",
        "built" => "build",
        "bought" => "buy",
        "children" => "child",
        "chose" | "chosen" => "choos",
        "drank" => "drink",
        "drove" | "driven" => "driv",
        "ate" | "eaten" => "eat",
        "fell" | "fallen" => "fall",
        "felt" => "feel",
        "found" => "find",
        "feet" => "foot",
        "forgot" | "forgotten" => "forget",
        "got" => "get",
        "gave" | "given" => "giv",
        "gone" | "went" => "go",
        "held" => "hold",
        "kept" => "keep",
        "knew" | "known" => "know",
        "left" => "leav",
        "lost" => "los",
        "made" => "mak",
        "men" => "man",
        "met" => "meet",
        "mice" => "mous",
        "paid" => "pay",
        "ran" => "run",
        "said" => "say",
        "saw" | "seen" => "see",
        "sold" => "sell",
        "sent" => "send",
        "sang" => "sing",
        "spoke" | "spoken" => "speak",
        "spent" => "spend",
        "stole" | "stolen" => "steal",
        "taken" | "took" => "tak",
        "taught" => "teach",
        "told" => "tell",
        "thought" => "think",
        "teeth" => "tooth",
        "understood" => "understand",
        "used" | "using" | "uses" => "use",
        "won" => "win",
        "women" => "woman",
        "wrote" | "written" => "writ",
        _ => return None,
    })
}

fn plural(word: &str) -> String {
    let long = word.len() > 4;
    if long && let Some(base) = word.strip_suffix("ies") {
        return format!("{base}y");
    }
    for hiss in ["sses", "ches", "shes", "xes", "zes"] {
        if word.ends_with(hiss) {
            return word[..word.len() - 2].to_owned();
        }
    }
    match word.strip_suffix('s') {
        Some(base) if !base.ends_with(['s', 'u', 'i']) => base.to_owned(),
        _ => word.to_owned(),
    }
}

/// Without "-ed" or "-ing", when a vowel is left to carry the word: "bring" and "bed" stay.
fn inflection(word: &str) -> Option<String> {
    let base = word.strip_suffix("ing").or_else(|| word.strip_suffix("ed"))?;
    let carried = base.len() >= 3 && base.contains(['a', 'e', 'i', 'o', 'u', 'y']);
    if !carried || base.ends_with('e') {
        return None;
    }
    if let Some(y) = base.strip_suffix('i') {
        return Some(format!("{y}y"));
    }
    let bytes = base.as_bytes();
    let doubled = bytes[bytes.len() - 1] == bytes[bytes.len() - 2]
        && !base.ends_with(['l', 's', 'z', 'f', 'e', 'o']);
    Some(if doubled { base[..base.len() - 1].to_owned() } else { base.to_owned() })
}

/// British and American spellings meet; a silent final e goes.
fn spelling(word: String) -> String {
    let mut word = word;
    if word.len() > 3 && word.ends_with('e') && !word.ends_with("ee") {
        word.pop();
    }
    if word.len() > 6
        && let Some(base) = word.strip_suffix("is")
    {
        return format!("{base}iz");
    }
    if word.len() > 5
        && let Some(base) = word.strip_suffix("our")
    {
        return format!("{base}or");
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_meet() {
        for forms in [
            &["manage", "manages", "managed", "managing"][..],
            &["stop", "stops", "stopped", "stopping"],
            &["study", "studies", "studied", "studying"],
            &["organise", "organize", "organising", "organized"],
            &["colour", "color", "colors"],
            &["lose", "lost", "losing"],
            &["box", "boxes"],
        ] {
            let first = stem(forms[0]);
            for form in forms {
                assert_eq!(stem(form), first, "{form}");
            }
        }
    }

    #[test]
    fn short_words_and_names_survive() {
        for word in ["red", "bed", "bring", "gas", "paris", "chess", "texas", "was"] {
            assert!(stem(word).len() >= word.len() - 1, "{word} -> {}", stem(word));
        }
        assert_ne!(stem("bring"), stem("bred"));
    }
}
