//! The project's own adversarial pairs, by the guards alone.
use reprise::cache::guards::{Alone, Clock, Guard, GuardSet, Reading, alone, differences};

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

#[test]
fn guards_tell_every_pair_apart() {
    let text = include_str!("../data/adversarial.jsonl");
    let rows: Vec<Row> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
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

#[test]
fn prompts_are_classed() {
    for line in include_str!("../data/alone.jsonl").lines() {
        let row: Prompt = serde_json::from_str(line).unwrap();
        let class = alone(&Reading::of(&row.prompt), &Clock::default()).map_or("none", Alone::name);
        assert_eq!(class, row.alone, "{}", row.prompt);
    }
}
