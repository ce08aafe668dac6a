//! The embedding alone: what a semantic hit is measured against. Prints one line a length:
//! `tokens p50_us p99_us`. One caller at a time, one thread, no HTTP.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for developers"
)]

use std::{sync::Arc, time::Instant};

use reprise::embed::{
    Embedder as _,
    local::{Local, LocalOptions},
};

const TEXTS: [(&str, &str, usize); 3] = [
    ("9", "What is the capital city of France?", 1),
    ("52", "Please tell me in plain words how a letter travels across the whole country. ", 3),
    ("252", "Please tell me in plain words how a letter travels across the whole country. ", 16),
];

fn main() {
    let local = match Local::open(LocalOptions { threads: 1, ..LocalOptions::default() }) {
        Ok(local) => local,
        Err(error) => return eprintln!("no embedding model: {error}"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (tokens, text, times) in TEXTS {
        let text: Arc<str> = text.repeat(times).into();
        let mut spans: Vec<_> = (0..400)
            .map(|_| {
                let begun = Instant::now();
                runtime.block_on(local.embed(text.clone())).unwrap();
                begun.elapsed().as_nanos() / 1000
            })
            .collect();
        spans.sort_unstable();
        println!("{tokens} {} {}", spans[spans.len() / 2], spans[spans.len() * 99 / 100]);
    }
}
