//! The curve that a setting is chosen by: wrong answers per hit against hits, one line a policy.

use std::fmt::Write as _;

use super::report::Row;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 52.0;
const COLOURS: [&str; 6] = ["#1f6feb", "#d1242f", "#1a7f37", "#8250df", "#9a6700", "#57606a"];

/// An SVG document: a line a file and policy. Points carry their level, bars are 95 % intervals,
/// dashed lines the bounds asked for.
pub fn svg(rows: &[Row], bounds: &[f64]) -> String {
    let most_wrong = bounds.iter().copied().fold(0.01_f64, f64::max);
    let most_wrong = rows.iter().map(|r| r.wrong_per_hit).fold(most_wrong, f64::max) * 1.25;
    let most_hits = rows.iter().map(|r| r.hit_rate).fold(0.05_f64, f64::max) * 1.1;
    let x = |hits: f64| LEFT + hits / most_hits * (WIDTH - LEFT - 20.0);
    let y = |wrong: f64| 32.0 + (1.0 - (wrong / most_wrong).min(1.0)) * (HEIGHT - BOTTOM - 32.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"20\" font-size=\"14\">Wrong answers per hit against hits per request</text>\n",
    );
    axes(&mut out, most_hits, most_wrong, x, y);
    for bound in bounds {
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#57606a\" stroke-dasharray=\"6 4\"/>",
            WIDTH - 20.0,
            y(*bound),
            y(*bound)
        );
    }
    let mut series: Vec<(&str, &str)> =
        rows.iter().map(|r| (r.file.as_str(), r.policy.as_str())).collect();
    series.dedup();
    for (n, (file, policy)) in series.into_iter().enumerate() {
        let points = rows.iter().filter(|r| r.file == file && r.policy == policy);
        let colour = COLOURS[n % COLOURS.len()];
        line(&mut out, points.collect(), colour, x, y);
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" fill=\"{colour}\">{} {}</text>",
            LEFT + 16.0,
            52 + 16 * n,
            escape(file),
            escape(policy)
        );
    }
    out.push_str("</svg>\n");
    out
}

/// One policy's levels on one file.
fn line(
    out: &mut String,
    mut points: Vec<&Row>,
    colour: &str,
    x: impl Fn(f64) -> f64,
    y: impl Fn(f64) -> f64,
) {
    points.sort_by(|a, b| a.hit_rate.total_cmp(&b.hit_rate));
    let path: Vec<String> =
        points.iter().map(|r| format!("{:.1},{:.1}", x(r.hit_rate), y(r.wrong_per_hit))).collect();
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        path.join(" ")
    );
    for row in points {
        let (px, py) = (x(row.hit_rate), y(row.wrong_per_hit));
        let (low, high) = (y(row.wrong_per_hit_low), y(row.wrong_per_hit_high));
        let _ = writeln!(
            out,
            "<line x1=\"{px:.1}\" x2=\"{px:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\" stroke=\"{colour}\" opacity=\"0.5\"/><circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3.5\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            px + 6.0,
            py - 6.0,
            row.level
        );
    }
}

fn axes(
    out: &mut String,
    most_hits: f64,
    most_wrong: f64,
    x: impl Fn(f64) -> f64,
    y: impl Fn(f64) -> f64,
) {
    const TICKS: u32 = 5;
    for tick in 0..=TICKS {
        let share = f64::from(tick) / f64::from(TICKS);
        let (hits, wrong) = (most_hits * share, most_wrong * share);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#d0d7de\"/>",
            WIDTH - 20.0,
            y(wrong),
            y(wrong)
        );
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.1} %</text>",
            LEFT - 6.0,
            y(wrong) + 4.0,
            100.0 * wrong
        );
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.0} %</text>",
            x(hits),
            HEIGHT - BOTTOM + 18.0,
            100.0 * hits
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">hits per request; upward: wrong answers per hit</text>",
        WIDTH / 2.0,
        HEIGHT - 12.0
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::verdict::Settings;
    use crate::eval::replay::Run;

    #[test]
    fn every_row_is_a_point_and_names_are_escaped() {
        let run = Run { requests: 100, hits: 40, wrong: 1, ..Run::default() };
        let rows = [
            Row::new("a <b> & c", &Settings::default(), 1, &run),
            Row::new("f", &Settings::default(), 1, &Run::default()),
        ];
        let drawn = svg(&rows, &[0.01]);
        assert_eq!(drawn.matches("<circle").count(), 2);
        assert_eq!(drawn.matches("<polyline").count(), 2, "a line a file");
        assert_eq!(drawn.matches("stroke-dasharray").count(), 1, "the bound");
        assert!(drawn.contains("a &lt;b&gt; &amp; c") && !drawn.contains("NaN"));
    }
}
