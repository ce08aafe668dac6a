//! What a run says, for people and for programs.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::replay::{Run, level};
use crate::cache::interval::clopper_pearson;
use crate::cache::verdict::Settings;

/// One policy at one level. Rates are shares of 1; the interval is Clopper and Pearson's at 95 %,
/// all orders pooled.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Row {
    /// File that was replayed.
    pub file: String,
    /// Policy by its stable name.
    pub policy: String,
    /// Bound, or similarity.
    pub level: f64,
    /// Random orders pooled.
    pub orders: usize,
    /// Requests in all orders together.
    pub requests: u64,
    /// Hits per request.
    pub hit_rate: f64,
    /// Wrong answers per request.
    pub wrong_per_request: f64,
    /// Wrong answers per hit.
    pub wrong_per_hit: f64,
    /// Lower limit.
    pub wrong_per_hit_low: f64,
    /// Upper limit.
    pub wrong_per_hit_high: f64,
    /// Counts behind the rates; not part of the JSON contract.
    #[serde(skip)]
    pub counts: Run,
    /// By kind of pair, for files that name kinds.
    #[serde(skip)]
    pub kinds: Vec<KindRow>,
}

/// One kind of labelled pair.
#[derive(Clone, Debug, PartialEq)]
pub struct KindRow {
    /// Its name in the file.
    pub kind: String,
    /// Whether such pairs may share an answer.
    pub same: bool,
    /// Pairs of this kind.
    pub pairs: u64,
    /// Share that was served.
    pub served: f64,
    /// Of those that were similar enough, the share that guards kept back.
    pub lost_to_guards: f64,
}

impl Row {
    pub(super) fn new(file: &str, settings: &Settings, orders: usize, run: &Run) -> Self {
        let interval = clopper_pearson(run.wrong, run.hits);
        let per_request = |count: u64| count as f64 / run.requests.max(1) as f64;
        Self {
            file: file.to_owned(),
            policy: settings.policy.name().to_owned(),
            level: level(settings),
            orders,
            requests: run.requests,
            hit_rate: per_request(run.hits),
            wrong_per_request: per_request(run.wrong),
            wrong_per_hit: interval.point,
            wrong_per_hit_low: interval.low,
            wrong_per_hit_high: interval.high,
            counts: run.clone(),
            kinds: vec![],
        }
    }

    pub(super) fn with_kinds(mut self, kinds: Vec<KindRow>) -> Self {
        self.kinds = kinds;
        self
    }
}

/// The rows as the JSON that scripts read.
pub fn json(rows: &[Row]) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(rows)
}

/// The rows as a Markdown table, and one by kind below it where there are kinds.
pub fn markdown(rows: &[Row]) -> String {
    let mut out = String::from(
        "| File | Policy | Level | Orders | Requests | Hits % | Wrong % of requests | Wrong % of hits | 95 % interval | Audited, wrong | Guarded % |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for cells in rows.iter().map(cells) {
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    for row in rows.iter().filter(|r| !r.kinds.is_empty()) {
        let _ = write!(
            out,
            "\n{} {}, by kind:\n\n| Kind | May share | Pairs | Served % | Lost to guards % of similar ones |\n|---|---|---|---|---|\n",
            row.policy, row.level
        );
        for kind in &row.kinds {
            let may = if kind.same { "yes" } else { "no" };
            let _ = writeln!(
                out,
                "| {} | {may} | {} | {:.1} | {:.1} |",
                kind.kind,
                kind.pairs,
                100.0 * kind.served,
                100.0 * kind.lost_to_guards
            );
        }
    }
    out
}

/// The rows in columns, for a terminal.
pub fn table(rows: &[Row]) -> String {
    let head = [
        "file",
        "policy",
        "level",
        "orders",
        "requests",
        "hits %",
        "wrong % req",
        "wrong % hits",
        "95 % interval",
        "audited, wrong",
        "guarded %",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let widths: Vec<usize> = (0..head.len())
        .map(|c| lines.iter().map(|l| l[c].chars().count()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for line in lines {
        let padded: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        let _ = writeln!(out, "{}", padded.join("  "));
    }
    out
}

fn cells(row: &Row) -> [String; 11] {
    let percent = |share: f64| format!("{:.2}", 100.0 * share);
    [
        row.file.clone(),
        row.policy.clone(),
        row.level.to_string(),
        row.orders.to_string(),
        row.requests.to_string(),
        format!("{:.1}", 100.0 * row.hit_rate),
        percent(row.wrong_per_request),
        percent(row.wrong_per_hit),
        format!("{} - {}", percent(row.wrong_per_hit_low), percent(row.wrong_per_hit_high)),
        format!("{}, {}", row.counts.audits, row.counts.audits_wrong),
        format!("{:.1}", 100.0 * row.counts.guarded as f64 / row.counts.requests.max(1) as f64),
    ]
}

/// The setting with the most hits among those whose upper limit stays within a bound on wrong
/// answers per hit.
pub fn advice(rows: &[Row], bound: f64) -> String {
    let kept = rows.iter().filter(|r| r.counts.hits > 0 && r.wrong_per_hit_high <= bound);
    match kept.max_by(|a, b| a.hit_rate.total_cmp(&b.hit_rate)) {
        Some(row) => format!(
            "policy {} at {} keeps wrong answers below {:.2} % of hits (95 % limit {:.2} %) with {:.1} % of requests served",
            row.policy,
            row.level,
            100.0 * bound,
            100.0 * row.wrong_per_hit_high,
            100.0 * row.hit_rate
        ),
        None => format!(
            "no setting tried keeps wrong answers below {:.2} % of hits: serve exact matches only",
            100.0 * bound
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::verdict::Policy;

    fn row(hits: u64, wrong: u64) -> Row {
        let settings =
            Settings { policy: Policy::Threshold, min_similarity: 0.9, ..Settings::default() };
        Row::new("x.jsonl", &settings, 1, &Run { requests: 1000, hits, wrong, ..Run::default() })
    }

    #[test]
    fn json_holds_the_contract_and_no_more() {
        let value: serde_json::Value =
            serde_json::from_str(&json(&[row(400, 2)]).unwrap()).unwrap();
        let mut names: Vec<&str> =
            value[0].as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        let mut contract = [
            "file",
            "policy",
            "level",
            "orders",
            "requests",
            "hit_rate",
            "wrong_per_request",
            "wrong_per_hit",
            "wrong_per_hit_low",
            "wrong_per_hit_high",
        ];
        contract.sort_unstable();
        assert_eq!(names, contract);
        assert_eq!(value[0]["level"], 0.9);
        assert_eq!(value[0]["wrong_per_hit"], 0.005);
    }

    #[test]
    fn advice_counts_the_upper_limit() {
        let rows = [row(400, 2), row(200, 0)];
        assert!(advice(&rows, 0.02).contains("40.0 %"));
        assert!(advice(&rows, 0.001).contains("exact matches only"));
        assert!(advice(&[row(0, 0)], 0.5).contains("exact matches only"));
    }

    #[test]
    fn tables_line_up() {
        let text = table(&[row(400, 2)]);
        let widths: Vec<usize> = text.lines().map(|l| l.chars().count()).collect();
        assert_eq!(widths[0], widths[1]);
        assert!(markdown(&[row(1, 0)]).starts_with("| File |"));
    }
}
