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
    /// Share in which one of the two is only repeated exactly: too short, or moving with the clock.
    pub alone: f64,
}

impl Row {
    pub(super) fn new(file: &str, settings: &Settings, orders: usize, run: &Run) -> Self {
        let interval = clopper_pearson(run.wrong, run.hits - run.unjudged);
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

/// What the columns of every table are called.
const HEAD: [&str; 13] = [
    "File",
    "Policy",
    "Level",
    "Orders",
    "Requests",
    "Hits %",
    "Wrong % of requests",
    "Wrong % of hits",
    "95 % interval",
    "Worst order %",
    "Audited, wrong",
    "Guarded %",
    "Exact only %",
];

fn cells(row: &Row) -> [String; 13] {
    let percent = |share: f64| format!("{:.2}", 100.0 * share);
    let of_requests = |count: u64| 100.0 * count as f64 / row.counts.requests.max(1) as f64;
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
        percent(row.counts.worst_order),
        format!("{}, {}", row.counts.audits, row.counts.audits_wrong),
        format!("{:.1}", of_requests(row.counts.guarded)),
        format!("{:.1}", of_requests(row.counts.alone + row.counts.exact_only)),
    ]
}

const KIND_HEAD: [&str; 6] =
    ["Kind", "May share", "Pairs", "Served %", "Lost to guards % of similar ones", "Exact only %"];

fn kind_cells(kind: &KindRow) -> [String; 6] {
    [
        kind.kind.clone(),
        if kind.same { "yes" } else { "no" }.to_owned(),
        kind.pairs.to_string(),
        format!("{:.2}", 100.0 * kind.served),
        format!("{:.2}", 100.0 * kind.lost_to_guards),
        format!("{:.2}", 100.0 * kind.alone),
    ]
}

/// The rows as a Markdown table, and one by kind below it where there are kinds.
pub fn markdown(rows: &[Row]) -> String {
    let mut out = marked(HEAD, rows.iter().map(cells));
    for row in rows.iter().filter(|r| !r.kinds.is_empty()) {
        let _ = write!(out, "\n{} {} {}, by kind:\n\n", row.file, row.policy, row.level);
        out.push_str(&marked(KIND_HEAD, row.kinds.iter().map(kind_cells)));
    }
    out
}

fn marked<const N: usize>(head: [&str; N], lines: impl Iterator<Item = [String; N]>) -> String {
    let mut out = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(N));
    for cells in lines {
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out
}

/// The rows in columns, for a terminal.
pub fn table(rows: &[Row]) -> String {
    columns(HEAD, rows.iter().map(cells))
}

/// A row's kinds of pairs in columns; empty where the file names none.
pub fn kinds(row: &Row) -> String {
    if row.kinds.is_empty() {
        return String::new();
    }
    let title = format!("{} {} {}, by kind:\n", row.file, row.policy, row.level);
    title + &columns(KIND_HEAD, row.kinds.iter().map(kind_cells))
}

fn columns<const N: usize>(head: [&str; N], cells: impl Iterator<Item = [String; N]>) -> String {
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(cells);
    let widths: [usize; N] = std::array::from_fn(|column| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
    });
    let mut out = String::new();
    for line in lines {
        let padded: Vec<String> =
            line.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        let _ = writeln!(out, "{}", padded.join("  "));
    }
    out
}

/// For each file the setting with the most hits among those whose upper limit stays within a bound
/// on wrong answers per hit, and what happened to those that did not.
pub fn advice(rows: &[Row], bounds: &[f64]) -> String {
    let mut out = String::new();
    let mut files: Vec<&str> = rows.iter().map(|r| r.file.as_str()).collect();
    files.dedup();
    for file in files {
        let own: Vec<&Row> = rows.iter().filter(|r| r.file == file).collect();
        for bound in bounds {
            let _ = writeln!(out, "{file}: {}", best(&own, *bound));
        }
        for row in own {
            notes(&mut out, row);
        }
    }
    out
}

fn best(rows: &[&Row], bound: f64) -> String {
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
            "no setting tried is proven to keep wrong answers below {:.2} % of hits: serve exact matches only",
            100.0 * bound
        ),
    }
}

/// What a reader of the row must know beside its figures.
fn notes(out: &mut String, row: &Row) {
    /// Hits below which a policy has in effect given up on similarity.
    const FEW: f64 = 0.01;
    let setting = format!("{}: {} at {}", row.file, row.policy, row.level);
    let counts = &row.counts;
    if counts.exact_only > 0 {
        let share = 100.0 * counts.exact_only as f64 / counts.requests.max(1) as f64;
        let _ = writeln!(
            out,
            "{setting} fell back to exact matches only in {} of {} orders, for {share:.1} % of requests: its audits showed more wrong answers than the target, or hits were too rare to be audited",
            counts.fallen_orders, row.orders
        );
    } else if row.hit_rate < FEW {
        let _ = writeln!(
            out,
            "{setting} serves next to nothing but exact matches: similarity does not tell right from wrong here",
        );
    }
    if counts.unjudged > 0 {
        let _ = writeln!(
            out,
            "{setting}: of {} of {} hits the judge cannot tell whether they were right; they are in no rate of wrong answers",
            counts.unjudged, counts.hits
        );
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
        assert!(advice(&rows, &[0.02]).contains("40.0 %"));
        assert!(advice(&rows, &[0.001]).contains("exact matches only"));
        assert!(advice(&[row(0, 0)], &[0.5]).contains("exact matches only"));
    }

    #[test]
    fn advice_is_given_for_each_file_and_each_bound() {
        let mut other = row(100, 50);
        other.file = "y.jsonl".into();
        let said = advice(&[row(400, 2), other], &[0.02, 0.05]);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 4, "{said}");
        assert!(lines[0].starts_with("x.jsonl: policy") && lines[3].starts_with("y.jsonl: no"));
    }

    #[test]
    fn a_fall_back_is_said() {
        let mut fallen = row(100, 0);
        fallen.counts = Run { exact_only: 500, fallen_orders: 1, ..fallen.counts };
        assert!(advice(&[fallen], &[0.01]).contains("fell back"));
        assert!(advice(&[row(2, 0)], &[0.01]).contains("next to nothing"));
    }

    #[test]
    fn hits_that_nobody_can_judge_are_in_no_rate() {
        let settings = Settings::default();
        let run = Run { requests: 1000, hits: 100, wrong: 2, unjudged: 60, ..Run::default() };
        let row = Row::new("x", &settings, 1, &run);
        assert_eq!((row.hit_rate, row.wrong_per_hit), (0.1, 0.05));
        assert!(advice(&[row], &[0.01]).contains("60 of 100"));
    }

    #[test]
    fn tables_line_up() {
        let kind = KindRow {
            kind: "number".into(),
            same: false,
            pairs: 9,
            served: 0.0,
            lost_to_guards: 1.0,
            alone: 0.0,
        };
        let row = row(400, 2).with_kinds(vec![kind]);
        for text in [table(std::slice::from_ref(&row)), kinds(&row)] {
            let widths: Vec<usize> =
                text.lines().rev().take(2).map(|l| l.chars().count()).collect();
            assert_eq!(widths[0], widths[1], "{text}");
        }
        let marked = markdown(&[row]);
        assert!(marked.starts_with("| File |") && marked.contains("| number | no | 9 |"));
    }
}
