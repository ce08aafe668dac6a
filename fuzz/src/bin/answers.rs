//! Any bytes as an answer in any dialect: heard the same in any chunking; in another shape or in
//! fresh dress it says the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use reprise_fuzz::{
    PATHS,
    wire::{
        Answer, Dialect, NotStorable, Shape,
        dialects::{Dialects, Family},
        dress::{Dress, dressed},
        reshaped,
    },
};

fn heard(dialect: &dyn Dialect, shape: Shape, pieces: &[&[u8]]) -> Result<Answer, NotStorable> {
    let mut ears = dialect.listener(shape);
    pieces.iter().for_each(|piece| ears.hear(piece));
    ears.finish(&pieces.concat())
}

fuzz_target!(|input: &[u8]| {
    let Some(([at, how, cut], body)) = input.split_first_chunk::<3>() else { return };
    let dialects = Dialects::of(&Family::Auto);
    let dialect = &**dialects.at(PATHS[usize::from(*at) % PATHS.len()]).unwrap();
    let shape = match how % 4 {
        0 => Shape::Whole,
        1 => Shape::Array,
        2 => Shape::Stream { usage: false },
        _ => Shape::Stream { usage: true },
    };
    let (one, other) = body.split_at(usize::from(*cut) * body.len() / 255);
    let answer = heard(dialect, shape, &[body]);
    assert_eq!(answer, heard(dialect, shape, &[one, other]));
    let body = Bytes::copy_from_slice(body);
    let parts = dialect.apart(&body).unwrap_or_default();
    dialect.together(&parts, Some(&body));
    let Ok(answer) = answer else { return };
    let fresh = dressed(dialect, shape, &body, Dress { fresh: true, uncounted: true });
    assert_eq!(heard(dialect, shape, &[&fresh]).map(|it| it.text), Ok(answer.text.clone()));
    let other = if shape == Shape::Whole { Shape::Stream { usage: true } } else { Shape::Whole };
    if let Some(reshaped) = reshaped(dialect, shape, &body, other) {
        assert_eq!(heard(dialect, other, &[&reshaped]).map(|it| it.text), Ok(answer.text));
    }
});
