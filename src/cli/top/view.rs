//! What `reprise top` draws.

use std::time::Instant;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Bar, BarChart, Block, Cell, Gauge, Paragraph, Row, Table},
};
use serde_json::Value;

use crate::cli::stats::{ms, span};

const OUTCOMES: [&str; 7] =
    ["hit_exact", "hit_semantic", "hit_stale", "collapsed", "miss", "bypass", "error"];
const PARTS: [&str; 5] = ["pre_processing", "network", "queueing", "inference", "post_processing"];

/// The latest numbers and those before them, for rates.
pub(super) struct View {
    base: String,
    now: Value,
    at: Instant,
    rates: [f64; OUTCOMES.len()],
    trouble: Option<String>,
}

impl View {
    pub(super) fn new(base: String, stats: Value) -> Self {
        Self { base, now: stats, at: Instant::now(), rates: [0.0; OUTCOMES.len()], trouble: None }
    }

    pub(super) fn update(&mut self, stats: Value) {
        let seconds = self.at.elapsed().as_secs_f64().max(1e-3);
        let count = |stats: &Value, outcome| stats["requests"][outcome].as_u64().unwrap_or(0);
        self.rates = OUTCOMES.map(|outcome| {
            // Less than before: it was restarted.
            let new = count(&stats, outcome).saturating_sub(count(&self.now, outcome));
            new as f64 / seconds
        });
        (self.now, self.at, self.trouble) = (stats, Instant::now(), None);
    }

    pub(super) fn lost(&mut self, why: String) {
        self.rates = [0.0; OUTCOMES.len()];
        self.trouble = Some(why);
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        // All of it fits the usual 24 lines; a lower window goes without what is less urgent.
        let bordered = if area.height >= 28 { 3 } else { 1 };
        let halves = if area.height >= 24 { 7 } else { 0 };
        let rows = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(bordered),
            Constraint::Length(10),
            Constraint::Length(halves),
            Constraint::Min(4),
            Constraint::Length(1),
        ])
        .split(area);
        self.head(frame, rows[0]);
        self.hit_rate(frame, rows[1]);
        self.outcomes(frame, rows[2]);
        let halves = Layout::horizontal([Constraint::Percentage(55), Constraint::Percentage(45)]);
        let halves = halves.split(rows[3]);
        self.budget(frame, halves[0]);
        self.savings(frame, halves[1]);
        self.upstreams(frame, rows[4]);
        frame.render_widget(Line::from(" q: quit").style(Style::new().dim()), rows[5]);
    }

    fn head(&self, frame: &mut Frame<'_>, area: Rect) {
        let text = match &self.trouble {
            Some(why) => Line::from(format!(" {why}")).style(Style::new().fg(Color::Red)),
            None => Line::from(format!(
                " reprise {} at {}, up {}",
                self.now["version"].as_str().unwrap_or("?"),
                self.base,
                span(self.now["uptime_seconds"].as_f64().unwrap_or(0.0)),
            )),
        };
        frame.render_widget(text, area);
    }

    fn hit_rate(&self, frame: &mut Frame<'_>, area: Rect) {
        let rate = self.now["hit_rate"].as_f64().unwrap_or(0.0).clamp(0.0, 1.0);
        let mut gauge = Gauge::default()
            .gauge_style(Style::new().fg(Color::Green))
            .ratio(rate)
            .label(format!("hit rate {:.1} %", rate * 100.0));
        if area.height > 1 {
            gauge = gauge.block(Block::bordered());
        }
        frame.render_widget(gauge, area);
    }

    fn outcomes(&self, frame: &mut Frame<'_>, area: Rect) {
        let rows = OUTCOMES.iter().zip(self.rates).map(|(outcome, rate)| {
            let latency = &self.now["latency"][outcome];
            let first = &self.now["first_token"][outcome];
            Row::new([
                Cell::from(*outcome),
                Cell::from(self.now["requests"][outcome].to_string()),
                Cell::from(format!("{rate:.1}")),
                Cell::from(ms(&latency["p50_ms"])),
                Cell::from(ms(&latency["p95_ms"])),
                Cell::from(ms(&latency["p99_ms"])),
                Cell::from(ms(&first["p50_ms"])),
            ])
        });
        let widths = [13, 10, 8, 9, 9, 9, 10].map(Constraint::Length);
        let table = Table::new(rows, widths)
            .header(
                Row::new(["outcome", "requests", "per s", "p50", "p95", "p99", "first p50"])
                    .style(Style::new().add_modifier(Modifier::BOLD)),
            )
            .block(Block::bordered().title(" requests "));
        frame.render_widget(table, area);
    }

    /// The mean miss in five parts: where the time goes that a hit saves.
    fn budget(&self, frame: &mut Frame<'_>, area: Rect) {
        let parts = &self.now["parts"]["miss"];
        let total = self.now["stages"]["miss"]["total"]["count"].as_f64().unwrap_or(0.0);
        let bars: Vec<_> = PARTS
            .iter()
            .map(|name| {
                let part = &parts[name];
                let (mean, count) = (part["mean_ms"].as_f64(), part["count"].as_f64());
                let adds =
                    mean.zip(count).map_or(0.0, |(mean, count)| mean * count / total.max(1.0));
                // Bars are whole numbers: microseconds keep the small parts apart.
                Bar::with_label(*name, (adds * 1e3) as u64).text_value(ms(&adds.into()))
            })
            .collect();
        let chart = BarChart::horizontal(bars)
            .bar_width(1)
            .bar_gap(0)
            .block(Block::bordered().title(" latency budget of the mean miss "));
        frame.render_widget(chart, area);
    }

    fn savings(&self, frame: &mut Frame<'_>, area: Rect) {
        let saved = &self.now["saved"];
        let mut lines = vec![
            Line::from(format!("tokens   {}", saved["tokens"])),
            Line::from(format!(
                "upstream {}",
                span(saved["upstream_seconds"].as_f64().unwrap_or(0.0))
            )),
            Line::from(format!("money    ${:.2}", saved["usd"].as_f64().unwrap_or(0.0))),
        ];
        for slo in self.now["slo"].as_array().into_iter().flatten() {
            let burn = slo["burn_rate_5m"].as_f64().unwrap_or(0.0);
            let style = if burn > 1.0 { Style::new().fg(Color::Red) } else { Style::new() };
            let route = slo["route"].as_str().unwrap_or("?");
            lines.push(Line::from(format!("budget   {route}: burns {burn:.2}")).style(style));
        }
        let text = Paragraph::new(lines).block(Block::bordered().title(" saved "));
        frame.render_widget(text, area);
    }

    fn upstreams(&self, frame: &mut Frame<'_>, area: Rect) {
        let upstreams = self.now["upstreams"].as_array().into_iter().flatten();
        let rows = upstreams.flat_map(|upstream| {
            let name = upstream["name"].as_str().unwrap_or("?");
            let replicas = upstream["replicas"].as_array().into_iter().flatten();
            replicas.map(move |replica| {
                let state = replica["state"].as_str().unwrap_or("?").to_owned();
                let style = match state.as_str() {
                    "ejected" => Style::new().fg(Color::Red),
                    _ => Style::new(),
                };
                let first = replica["first_byte_us"].as_f64().unwrap_or(0.0) / 1e3;
                Row::new([
                    name.to_owned(),
                    replica["url"].as_str().unwrap_or("?").to_owned(),
                    state,
                    replica["in_flight"].to_string(),
                    ms(&first.into()),
                    replica["failures_total"].to_string(),
                ])
                .style(style)
            })
        });
        let widths = [12, 30, 10, 9, 11, 8].map(Constraint::Length);
        let table = Table::new(rows, widths)
            .header(
                Row::new(["upstream", "replica", "state", "running", "first byte", "failed"])
                    .style(Style::new().add_modifier(Modifier::BOLD)),
            )
            .block(Block::bordered().title(" upstreams "));
        frame.render_widget(table, area);
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};
    use serde_json::json;

    use super::*;

    fn drawn(view: &View) -> String {
        let mut terminal = Terminal::new(TestBackend::new(100, 32)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_real_statistics_fill_the_screen() {
        let observer = crate::observe::tests::observer();
        let stats = serde_json::to_value(observer.stats(&crate::observe::tests::Rooms)).unwrap();
        let screen = drawn(&View::new("http://here".into(), stats));
        for word in ["hit rate", "hit_semantic", "http://a", "latency budget", "inference", "money"]
        {
            assert!(screen.contains(word), "{word}\n{screen}");
        }
    }

    #[test]
    fn rates_are_of_the_time_between_and_a_lost_proxy_is_said() {
        let stats = |misses: u64| json!({"requests": {"miss": misses}, "hit_rate": 0.25});
        let mut view = View::new("http://here".into(), stats(10));
        view.update(stats(5));
        assert_eq!(view.rates, [0.0; 7], "a restart is no rate");
        view.update(stats(1_000));
        assert!(view.rates[4] > 0.0);
        assert!(drawn(&view).contains("25.0 %"));
        view.lost("no answer".into());
        assert!(drawn(&view).contains("no answer"));
        assert_eq!(view.rates, [0.0; 7]);
    }

    #[test]
    fn the_usual_terminal_shows_all_of_it() {
        let observer = crate::observe::tests::observer();
        let stats = serde_json::to_value(observer.stats(&crate::observe::tests::Rooms)).unwrap();
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let view = View::new("http://here".into(), stats);
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let screen = terminal.backend().to_string();
        for word in ["hit rate", "hit_semantic ", "error", "post_processing", "money", "http://a"] {
            assert!(screen.contains(word), "{word}\n{screen}");
        }
    }

    #[test]
    fn a_small_terminal_is_no_reason_to_fail() {
        let view = View::new("x".into(), json!({}));
        let mut terminal = Terminal::new(TestBackend::new(10, 4)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
    }
}
