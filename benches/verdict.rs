//! What a verdict with guards costs beside its embedding: `cargo bench --bench verdict`.
//!
//! Times of single decisions over the repository's own pairs as questions and stored neighbours, so
//! that no branch is learned by heart. The question is new, its neighbours have mostly been read
//! before. For a gate see `counts verdict`.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers")]

use std::{hint::black_box, time::Instant};

use reprise::cache::{
    guards::{Reading, alone},
    readings::Readings,
    verdict::{
        Agreement, AnswerId, Namespace, Neighbour, Settings, Wording,
        first_prior::{DEFAULT_MODEL, first_prior},
    },
};

const ROUNDS: usize = 20;

fn main() {
    let pairs: Vec<serde_json::Value> = include_str!("../tests/data/adversarial.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let text = |at: usize, side: &str| pairs[at % pairs.len()][side].as_str().unwrap();
    for keys in [8, 16] {
        let readings = Readings::default();
        let mut space = Namespace::new(Settings::default(), first_prior(DEFAULT_MODEL));
        let (mut reading_ns, mut decide_ns) = (Vec::new(), Vec::new());
        for at in 0..ROUNDS * pairs.len() {
            let begun = Instant::now();
            let question = Reading::of(black_box(text(at, "b")));
            black_box(alone(&question));
            reading_ns.push(begun.elapsed().as_nanos());
            // The other side of the pair is nearest; behind it texts about something else.
            let near: Vec<Neighbour<'_>> = (0..keys)
                .map(|key| Neighbour {
                    answer: AnswerId((at % 70 + key / 4) as u128),
                    similarity: 0.985 - 0.012 * key as f32,
                    text: Wording::Text(text(at + key, "a"), &readings),
                })
                .collect();
            let begun = Instant::now();
            let decision = black_box(space.decide(&question, &near, 0.5));
            decide_ns.push(begun.elapsed().as_nanos());
            if at % 3 == 0 {
                let said = if at % 9 == 0 { Agreement::Different } else { Agreement::Same };
                space.learn(&decision, &[(near[0].answer, said)]);
            }
        }
        println!(
            "{keys} neighbours: reading {}, verdict {}",
            spread(reading_ns),
            spread(decide_ns)
        );
    }
}

fn spread(mut ns: Vec<u128>) -> String {
    ns.sort_unstable();
    let at = |share: f64| ns[(share * (ns.len() - 1) as f64) as usize] as f64 / 1e3;
    format!("p50 {:.1} us, p99 {:.1} us", at(0.5), at(0.99))
}
