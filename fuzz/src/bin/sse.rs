//! Any chunking of a stream gives the same events, and an event is never larger than its limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reprise_fuzz::wire::sse::Splitter;

const LIMIT: usize = 4096;

fn events(pieces: &[&[u8]]) -> (Vec<(Vec<u8>, Vec<u8>)>, bool) {
    let mut splitter = Splitter::new(LIMIT);
    let mut events = Vec::new();
    for piece in pieces {
        splitter.feed(piece, |event| events.push((event.kind.to_vec(), event.data.to_vec())));
    }
    splitter.finish(|event| events.push((event.kind.to_vec(), event.data.to_vec())));
    (events, splitter.overflowed())
}

fuzz_target!(|input: &[u8]| {
    let Some((cuts, bytes)) = input.split_first_chunk::<4>() else { return };
    let mut places: Vec<_> =
        cuts.iter().map(|cut| usize::from(*cut) * bytes.len() / 255).collect();
    places.sort_unstable();
    let mut pieces = Vec::new();
    let mut from = 0;
    for place in places {
        pieces.push(&bytes[from..place]);
        from = place;
    }
    pieces.push(&bytes[from..]);
    let (whole, overflowed) = events(&[bytes]);
    assert!(whole.iter().all(|(_, data)| data.len() <= LIMIT));
    let (cut, cut_overflowed) = events(&pieces);
    if !overflowed && !cut_overflowed {
        assert_eq!(whole, cut);
    }
});
