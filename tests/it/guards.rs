//! The project's own adversarial pairs: by the guards alone, and with real vectors.

use std::{collections::BTreeMap, sync::Arc};

use reprise::{
    cache::{
        guards::{Alone, Guard, GuardSet, Reading, Veil, alone, differences},
        verdict::{
            AnswerId, Namespace, Neighbour, Policy, Ruling, Settings, Wording,
            first_prior::{DEFAULT_MODEL, first_prior},
        },
    },
    embed::{
        Embedded, Embedder as _, Vector, cosine,
        local::{Local, LocalOptions},
    },
};

#[derive(serde::Deserialize)]
struct Row {
    a: String,
    b: String,
    same: bool,
    case: String,
}

#[derive(serde::Deserialize)]
struct Prompt {
    prompt: String,
    alone: String,
}

fn pairs() -> Vec<Row> {
    let text = include_str!("../data/adversarial.jsonl");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn guards_tell_every_pair_apart() {
    let rows = pairs();
    assert!(rows.len() >= 400);
    let mut failed = vec![];
    for row in &rows {
        let found = differences(&Reading::of(&row.a), &Reading::of(&row.b)).and(GuardSet::DEFAULT);
        if found.is_empty() != row.same {
            failed.push(format!(
                "{} {:?}: {} | {}",
                row.case,
                found.iter().map(Guard::name).collect::<Vec<_>>(),
                row.a,
                row.b
            ));
        }
    }
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), rows.len(), failed.join("\n"));
}

/// A store that may not hold prompts must not make a guard blind.
#[test]
fn guards_tell_the_same_pairs_apart_when_questions_are_covered() {
    let veil = Veil::new(&[7; 32]);
    let (mut looked, mut blind, mut stricter) = (0, vec![], 0);
    for row in pairs() {
        let Some((a, b)) = veil.read(&row.a).zip(veil.read(&row.b)) else { continue };
        let found = differences(&a, &b).and(GuardSet::DEFAULT);
        looked += 1;
        stricter += usize::from(row.same && !found.is_empty());
        if !row.same && found.is_empty() {
            blind.push(format!("{}: {} | {}", row.case, row.a, row.b));
        }
    }
    println!("{looked} pairs, {stricter} that may share an answer do not when covered");
    assert!(looked >= 350, "{looked}");
    assert!(blind.is_empty(), "{} of {looked}:\n{}", blind.len(), blind.join("\n"));
}

#[test]
fn prompts_are_classed() {
    for line in include_str!("../data/alone.jsonl").lines() {
        let row: Prompt = serde_json::from_str(line).unwrap();
        let class = alone(&Reading::of(&row.prompt)).map_or("none", Alone::name);
        assert_eq!(class, row.alone, "{}", row.prompt);
    }
}

/// The same pairs with real vectors, through the namespace that serves: no pair that must not share
/// an answer is served, by a threshold of 0.90 or by the default policy, and guards cost no pair
/// that may and is similar enough. Prints the table by case.
#[test]
fn no_pair_is_served_that_must_not_be() {
    let rows = pairs();
    let texts: Vec<&str> = rows.iter().flat_map(|row| [row.a.as_str(), row.b.as_str()]).collect();
    let vectors = real_vectors(&texts);
    let threshold = Settings {
        policy: Policy::Threshold,
        min_similarity: 0.9,
        audit: 0.0,
        ..Settings::default()
    };
    let verified = Settings { audit: 0.0, ..Settings::default() };
    let mut table: BTreeMap<(bool, &str), [u32; 4]> = BTreeMap::new();
    let mut failed = vec![];
    for (row, vectors) in rows.iter().zip(vectors.chunks_exact(2)) {
        let counts = table.entry((row.same, &row.case)).or_default();
        counts[0] += 1;
        let (asked, stored) = (Reading::of(&row.b), Arc::new(Reading::of(&row.a)));
        let (Some(a), Some(b)) = (&vectors[0], &vectors[1]) else { continue };
        if alone(&asked).or(alone(&stored)).is_some() {
            continue;
        }
        let near = [Neighbour {
            answer: AnswerId(1),
            similarity: cosine(a, b),
            text: Wording::Read(&stored),
        }];
        counts[1] += u32::from(near[0].similarity >= 0.9);
        for (settings, at) in [(&threshold, 2), (&verified, 3)] {
            let mut space = Namespace::new(settings.clone(), first_prior(DEFAULT_MODEL));
            let ruling = space.decide(&asked, &near, 0.5).ruling;
            counts[at] += u32::from(ruling.would_serve());
            let wrong = ruling.would_serve() && !row.same;
            if wrong || (ruling == Ruling::Guarded && row.same) {
                failed.push(format!(
                    "{} {ruling:?} at {:.3} by {}: {} | {}",
                    row.case,
                    near[0].similarity,
                    settings.policy.name(),
                    row.a,
                    row.b
                ));
            }
        }
    }
    println!("may share, case: pairs, similar >= 0.90, served by threshold 0.90, by verified 0.01");
    for ((same, case), counts) in table {
        println!("{:>3} {case:<22} {counts:?}", if same { "yes" } else { "no" });
    }
    assert!(failed.is_empty(), "{}:\n{}", failed.len(), failed.join("\n"));
}

/// One vector a text, by the model that ships; `None` where it gives none.
fn real_vectors(texts: &[&str]) -> Vec<Option<Vector>> {
    let local = Local::open(LocalOptions::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let embed = |text: &&str| match runtime.block_on(local.embed(Arc::from(*text))).unwrap() {
        Embedded::Vector(vector) => Some(vector),
        Embedded::BeyondWindow { .. } | Embedded::UnknownWords { .. } => None,
    };
    texts.iter().map(embed).collect()
}
