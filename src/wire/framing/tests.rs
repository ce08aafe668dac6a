use proptest::prelude::*;

use super::*;

const ALL: [Framing; 4] = [Framing::Sse, Framing::Ndjson, Framing::JsonArray, Framing::EventStream];

fn write(framing: Framing, documents: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    match framing {
        Framing::Sse => documents.iter().for_each(|one| sse::write(&mut out, one.as_bytes())),
        Framing::Ndjson => out = documents.join("\n").into_bytes(),
        Framing::JsonArray => out = format!("[{}\n]", documents.join(",\r\n")).into_bytes(),
        Framing::EventStream => {
            documents.iter().for_each(|one| event_stream::write(&mut out, "k", one.as_bytes()));
        }
    }
    out
}

fn split(framing: Framing, chunks: &[&[u8]], limit: usize) -> (Vec<Vec<u8>>, State) {
    let mut splitter = Splitter::new(framing, limit);
    let mut events = Vec::new();
    for chunk in chunks {
        splitter.feed(chunk, |event| events.push(event.data.to_vec()));
    }
    splitter.finish(|event| events.push(event.data.to_vec()));
    (events, splitter.state())
}

/// Cuts `bytes` at these places.
pub(in crate::wire) fn chunked<'b>(bytes: &'b [u8], cuts: &[usize]) -> Vec<&'b [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.push(bytes.len());
    cuts.sort_unstable();
    let mut from = 0;
    let mut chunks = Vec::new();
    for cut in cuts {
        chunks.push(&bytes[from..cut]);
        from = cut;
    }
    chunks
}

#[test]
fn a_cut_list_or_message_is_open() {
    let documents = ["{\"a\":\"]}\\\"\"}".to_owned(), "{\"b\":[{}]}".to_owned()];
    for framing in [Framing::JsonArray, Framing::EventStream] {
        let bytes = write(framing, &documents);
        assert_eq!(split(framing, &[&bytes], 1000).1, State::Even);
        assert_eq!(
            split(framing, &[&bytes[..bytes.len() - 1]], 1000).1,
            State::Open,
            "{framing:?}"
        );
    }
}

#[test]
fn what_is_broken_or_too_large_is_said() {
    let mut bytes = write(Framing::EventStream, &["{}".to_owned()]);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert_eq!(split(Framing::EventStream, &[&bytes], 1000), (vec![], State::Broken));
    assert_eq!(split(Framing::JsonArray, &[b"{\"error\":1}"], 1000).1, State::Broken);
    for framing in ALL {
        let bytes = write(framing, &[format!("{{\"a\":\"{}\"}}", "x".repeat(200))]);
        assert_eq!(split(framing, &[&bytes], 64), (vec![], State::Broken), "{framing:?}");
    }
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_events(
        texts in proptest::collection::vec("[a-z\\\\\"\\]\\}\\{\\[ é]{0,12}", 1..6),
        cuts in proptest::collection::vec(0_usize..5000, 0..12),
    ) {
        let documents: Vec<_> =
            texts.iter().map(|text| serde_json::json!({"t": text, "l": [{}]}).to_string()).collect();
        for framing in ALL {
            let bytes = write(framing, &documents);
            let (events, state) = split(framing, &chunked(&bytes, &cuts), 1 << 20);
            prop_assert_eq!(state, State::Even);
            let events: Vec<_> =
                events.into_iter().map(|one| String::from_utf8(one).unwrap()).collect();
            prop_assert_eq!(&events, &documents, "{:?}", framing);
        }
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for framing in ALL {
            split(framing, &[&bytes], 100);
            let _ = super::events(framing, &bytes);
        }
    }
}
