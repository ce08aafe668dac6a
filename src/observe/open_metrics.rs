//! The OpenMetrics text format (version 1.0.0): Prometheus' own format with exemplars, for who asks
//! for it. Prometheus does.

use std::{fmt::Write as _, time::UNIX_EPOCH};

use prometheus::proto::{Bucket, Metric, MetricFamily, MetricType};

use super::exemplars::{Exemplar, Exemplars};

/// What the format is called in `Content-Type`.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All families, and the end mark that tells a whole answer from a cut one.
pub(super) fn render(families: &[MetricFamily], exemplars: &Exemplars) -> String {
    let mut out = Out { text: String::with_capacity(64 * 1024), exemplars };
    for family in families {
        out.family(family);
    }
    out.text.push_str("# EOF\n");
    out.text
}

struct Out<'a> {
    text: String,
    exemplars: &'a Exemplars,
}

// Writing to a string does not fail.
impl Out<'_> {
    fn family(&mut self, family: &MetricFamily) {
        let name = family.name();
        // A counter's family goes without the suffix that its samples carry.
        let (base, kind) = match family.get_field_type() {
            MetricType::COUNTER => (name.strip_suffix("_total").unwrap_or(name), "counter"),
            MetricType::HISTOGRAM => (name, "histogram"),
            MetricType::GAUGE => (name, "gauge"),
            MetricType::SUMMARY | MetricType::UNTYPED => (name, "unknown"),
        };
        let _ = writeln!(self.text, "# TYPE {base} {kind}");
        let _ = writeln!(self.text, "# HELP {base} {}", escaped(family.help()));
        for metric in family.get_metric() {
            match family.get_field_type() {
                MetricType::COUNTER => {
                    let value = metric.get_counter().get_value();
                    self.sample(&format!("{base}_total"), metric, None, value);
                }
                MetricType::HISTOGRAM => self.histogram(name, metric),
                MetricType::GAUGE | MetricType::SUMMARY | MetricType::UNTYPED => {
                    self.sample(name, metric, None, metric.get_gauge().get_value());
                }
            }
            self.text.push('\n');
        }
    }

    fn histogram(&mut self, name: &str, metric: &Metric) {
        let histogram = metric.get_histogram();
        let label = metric.get_label().first().map_or("", |pair| pair.value());
        let count = histogram.get_sample_count();
        let bounded = histogram.get_bucket();
        let is_last = |bucket: &Bucket| bucket.upper_bound().is_infinite();
        let bucket_name = format!("{name}_bucket");
        for (index, bucket) in bounded.iter().filter(|one| !is_last(one)).enumerate() {
            let bound = format!("{:?}", bucket.upper_bound());
            let value = bucket.cumulative_count() as f64;
            self.sample(&bucket_name, metric, Some(&bound), value);
            self.exemplar(self.exemplars.of(name, label, index));
        }
        let last = bounded.iter().filter(|one| !is_last(one)).count();
        self.sample(&bucket_name, metric, Some("+Inf"), count as f64);
        self.exemplar(self.exemplars.of(name, label, last));
        self.text.push('\n');
        self.sample(&format!("{name}_sum"), metric, None, histogram.get_sample_sum());
        self.text.push('\n');
        self.sample(&format!("{name}_count"), metric, None, count as f64);
    }

    /// `name{labels} value`, without the end of the line. A bucket's bound is its last label.
    fn sample(&mut self, name: &str, metric: &Metric, bound: Option<&str>, value: f64) {
        if !self.text.ends_with('\n') && !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(name);
        let pairs = metric.get_label().iter().map(|pair| (pair.name(), pair.value()));
        let pairs: Vec<_> = pairs.chain(bound.map(|bound| ("le", bound))).collect();
        for (index, (label, value)) in pairs.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{}\"", escaped(value));
        }
        if !pairs.is_empty() {
            self.text.push('}');
        }
        let _ = write!(self.text, " {value}");
    }

    fn exemplar(&mut self, exemplar: Option<Exemplar>) {
        let Some(Exemplar { trace, seconds, at }) = exemplar else { return };
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let _ = write!(self.text, " # {{trace_id=\"{trace:032x}\"}} {seconds} {at:.3}");
    }
}

/// Quotes, backslashes and line ends, as inside a label's value and a help text.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

    use super::*;

    #[test]
    fn each_kind_is_written_as_the_format_has_it() {
        let registry = Registry::new();
        let counter = IntCounterVec::new(Opts::new("a_total", "Say \"a\"."), &["x"]).unwrap();
        counter.with_label_values(&["1\n\"2\""]).inc_by(5);
        registry.register(Box::new(counter)).unwrap();
        let options = HistogramOpts::new("b_seconds", "B.").buckets(vec![0.1, 1.0]);
        let histogram = HistogramVec::new(options, &["stage"]).unwrap();
        histogram.with_label_values(&["total"]).observe(0.5);
        registry.register(Box::new(histogram)).unwrap();
        let exemplars = Exemplars::new(&[0.1, 1.0]);
        exemplars.note(("b_seconds", "total"), Duration::from_millis(500), 0xab);
        let text = render(&registry.gather(), &exemplars);
        let at = text.split("} 0.5 ").nth(1).unwrap().split('\n').next().unwrap();
        let expected = format!(
            "# TYPE a counter\n# HELP a Say \\\"a\\\".\na_total{{x=\"1\\n\\\"2\\\"\"}} 5\n\
             # TYPE b_seconds histogram\n# HELP b_seconds B.\n\
             b_seconds_bucket{{stage=\"total\",le=\"0.1\"}} 0\n\
             b_seconds_bucket{{stage=\"total\",le=\"1.0\"}} 1 \
             # {{trace_id=\"000000000000000000000000000000ab\"}} 0.5 {at}\n\
             b_seconds_bucket{{stage=\"total\",le=\"+Inf\"}} 1\n\
             b_seconds_sum{{stage=\"total\"}} 0.5\nb_seconds_count{{stage=\"total\"}} 1\n# EOF\n"
        );
        assert_eq!(text, expected);
    }
}
