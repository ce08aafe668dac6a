//! The shipped Grafana dashboard and alert rules, held against the metrics that exist: a renamed
//! metric would otherwise leave an empty panel, and an alert that never fires.

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderMap;

use super::{
    BodyEnd, Outcome, Promise, Record, Stage,
    tests::{Rooms, observer},
};
use crate::cache::reason::Reason;

const GRAFANA: &str = include_str!("../../config/grafana/reprise.json");
const ALERTS: &str = include_str!("../../config/alerts.yml");

/// Labels of each series name, with the values that are there.
type Series = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// What a scrape shows when everything has happened once.
fn series() -> Series {
    let observer = observer();
    let route = observer.unrouted();
    observer.promise(&route, Promise { budget: std::time::Duration::from_millis(1), share: 0.9 });
    for outcome in Outcome::ALL {
        let mut guard = observer.begin(observer.request_id(&HeaderMap::new()));
        guard.outcome = outcome;
        let record: &mut Record = &mut guard;
        record.fault = Some(crate::fault::Kind::Cut);
        for stage in Stage::ALL {
            record.stages.record(stage, std::time::Duration::from_millis(1));
        }
        guard.finish(BodyEnd::Complete);
    }
    let mut series = Series::new();
    for line in observer.scrape(&Rooms).unwrap().lines().filter(|line| !line.starts_with('#')) {
        let (name, labels) = match line.split_once('{') {
            Some((name, rest)) => (name, rest.split_once('}').unwrap().0),
            None => (line.split(' ').next().unwrap(), ""),
        };
        let known = series.entry(name.to_owned()).or_default();
        for label in labels.split("\",").filter(|label| !label.is_empty()) {
            let (name, value) = label.split_once("=\"").unwrap();
            known
                .entry(name.to_owned())
                .or_default()
                .insert(value.trim_end_matches('"').to_owned());
        }
    }
    // The reasons of the whole process, where the observer of these tests knows a few.
    let reasons = Reason::NAMES.map(str::to_owned).into();
    series.entry("reprise_bypass_total".into()).or_default().insert("reason".into(), reasons);
    series
}

/// Every expression of the Grafana dashboard.
fn grafana() -> Vec<String> {
    fn walk(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    match value.as_str() {
                        Some(text) if name == "expr" || name == "query" => {
                            found.push(text.to_owned());
                        }
                        _ => walk(value, found),
                    }
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(&serde_json::from_str(GRAFANA).unwrap(), &mut found);
    found
}

/// The metrics that an expression names, each with what its braces ask of labels.
fn selectors(expression: &str) -> Vec<(String, String)> {
    let word = |byte: char| byte.is_ascii_alphanumeric() || byte == '_';
    let mut found = Vec::new();
    for (at, _) in expression.match_indices("reprise_").chain(expression.match_indices("process_"))
    {
        if expression[..at].ends_with(word) {
            continue;
        }
        let rest = &expression[at..];
        let end = rest.find(|byte| !word(byte)).unwrap_or(rest.len());
        let braces = rest[end..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        found.push((rest[..end].to_owned(), braces.map_or("", |(inside, _)| inside).to_owned()));
    }
    found
}

fn check(expression: &str, series: &Series) {
    // Added by Prometheus itself.
    const TARGET: [&str; 2] = ["instance", "job"];
    for (metric, matchers) in selectors(expression) {
        let labels = series.get(&metric).unwrap_or_else(|| panic!("no {metric}: {expression}"));
        for matcher in matchers.split(',').filter(|matcher| !matcher.is_empty()) {
            let (name, value) = matcher.split_once('=').unwrap();
            let name = name.trim_end_matches('!');
            if TARGET.contains(&name) {
                continue;
            }
            let values = labels.get(name).unwrap_or_else(|| panic!("{metric} has no {name}"));
            let wanted = value.trim_start_matches(['~', '=']).trim_matches('"');
            for one in wanted.split('|').filter(|one| !one.contains(['$', '*'])) {
                assert!(values.contains(one), "{metric} has no {name}=\"{one}\"");
            }
        }
    }
}

#[test]
fn every_panel_of_the_grafana_dashboard_shows_metrics_that_exist() {
    let (series, expressions) = (series(), grafana());
    assert!(expressions.len() > 20, "{}", expressions.len());
    for expression in expressions {
        check(&expression, &series);
    }
}

#[test]
fn every_alert_looks_at_metrics_that_exist() {
    let series = series();
    // Expressions are folded over lines, and nothing else in the file names metrics with braces.
    let rules: Vec<_> = ALERTS.split("expr:").skip(1).collect();
    assert!(rules.len() > 5, "{}", rules.len());
    for rule in rules {
        let expression = rule.split("labels:").next().unwrap();
        check(expression, &series);
    }
}

#[test]
fn the_check_itself_notices() {
    assert_eq!(
        selectors(r#"sum(rate(reprise_a_total{x="1"}[5m])) / reprise_b"#),
        [
            ("reprise_a_total".to_owned(), r#"x="1""#.to_owned()),
            ("reprise_b".to_owned(), String::new())
        ]
    );
    let renamed = std::panic::catch_unwind(|| check("rate(reprise_gone_total[5m])", &series()));
    assert!(renamed.is_err());
    let label = r#"reprise_requests_total{outcome="hit_exactly"}"#;
    assert!(std::panic::catch_unwind(|| check(label, &series())).is_err());
}
