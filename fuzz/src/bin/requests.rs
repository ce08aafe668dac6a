//! Any bytes as a call of any dialect: read the same twice, in bounds, its items too.
#![no_main]

use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use reprise_fuzz::{
    PATHS,
    wire::{
        Call, OPENING_MAX, Prompt, Rules, Template,
        dialects::{Dialects, Family},
    },
};

fn check(prompt: &Prompt) {
    assert!(prompt.opening.len() <= OPENING_MAX);
    if let Ok(question) = &prompt.question {
        assert!(!question.is_empty());
    }
}

fuzz_target!(|input: &[u8]| {
    let Some(([at, how], body)) = input.split_first_chunk::<2>() else { return };
    let path = PATHS[usize::from(*at) % PATHS.len()];
    let dialects = Dialects::of(&Family::Auto);
    let dialect = dialects.at(path).unwrap();
    let mut headers = HeaderMap::new();
    if how & 1 == 1 {
        // Where KServe's JSON ends and its tensors begin.
        headers.insert("inference-header-content-length", u16::from(how >> 1).into());
    }
    let templates = [Template { after: "Question:".into(), before: "\nAnswer:".into() }];
    let inputs = ["text_input".to_owned()];
    let rules = Rules { ignored: &[], templates: &templates, text_inputs: &inputs };
    let query = if how & 2 == 2 { "alt=sse" } else { "" };
    let call = Call { path, query, headers: &headers, body, rules };
    let Ok(prompt) = dialect.read(call) else { return };
    check(&prompt);
    let again = dialect.read(call).unwrap();
    assert_eq!((again.context, again.turn), (prompt.context, prompt.turn));
    if let Some(batch) = dialect.items(call) {
        batch.prompts.iter().for_each(check);
        let kept: Vec<_> = (0..batch.prompts.len()).step_by(2).collect();
        dialect.without(body, &kept);
    }
});
