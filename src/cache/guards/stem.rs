//! A light English stem: enough that "manages", "managed" and "managing" meet, little enough that
//! names survive.

use compact_str::CompactString;

/// Stem of a lower-case word.
pub(super) fn stem(word: &str) -> CompactString {
    if let Some(base) = irregular(word) {
        return CompactString::const_new(base);
    }
    let mut stem = CompactString::from(word);
    if word.is_ascii() && word.len() >= 4 {
        plural(&mut stem);
        inflection(&mut stem);
        spelling(&mut stem);
    }
    stem
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

/// Another ending.
fn replace(word: &mut CompactString, ending: &str, by: &str) {
    word.truncate(word.len() - ending.len());
    word.push_str(by);
}

fn plural(word: &mut CompactString) {
    if word.len() > 4 && word.ends_with("ies") {
        return replace(word, "ies", "y");
    }
    for hiss in ["sses", "ches", "shes", "xes", "zes"] {
        if word.ends_with(hiss) {
            return replace(word, "es", "");
        }
    }
    let singular = word.strip_suffix('s').is_some_and(|base| !base.ends_with(['s', 'u', 'i']));
    if singular {
        word.pop();
    }
}

/// Without "-ed" or "-ing", when a vowel is left to carry the word: "bring" and "bed" stay.
fn inflection(word: &mut CompactString) {
    let Some(base) = word.strip_suffix("ing").or_else(|| word.strip_suffix("ed")) else { return };
    let carried = base.len() >= 3 && base.contains(['a', 'e', 'i', 'o', 'u', 'y']);
    if !carried || base.ends_with('e') {
        return;
    }
    let bytes = base.as_bytes();
    let doubled = bytes[bytes.len() - 1] == bytes[bytes.len() - 2]
        && !base.ends_with(['i', 'l', 's', 'z', 'f', 'e', 'o']);
    let length = base.len() - usize::from(doubled);
    word.truncate(length);
    if word.ends_with('i') {
        replace(word, "i", "y");
    }
}

/// British and American spellings meet; a silent final e goes.
fn spelling(word: &mut CompactString) {
    if word.len() > 3 && word.ends_with('e') && !word.ends_with("ee") {
        word.pop();
    }
    if word.len() > 6 && word.ends_with("is") {
        replace(word, "is", "iz");
    } else if word.len() > 5 && word.ends_with("our") {
        replace(word, "our", "or");
    }
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
