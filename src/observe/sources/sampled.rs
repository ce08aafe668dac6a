//! Families made of values that were read just now, for as long as one scrape.

use prometheus::{Counter, GaugeVec, Opts, core::Collector, proto::MetricFamily};

/// What handing over one family comes to.
pub(in crate::observe) type Done = Result<(), prometheus::Error>;

/// What kind of metric a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::observe) enum Family {
    /// Goes up and down.
    Gauge,
    /// Only goes up.
    Counter,
}

/// Families made of values that were read just now.
pub(in crate::observe) struct Sampled(pub(in crate::observe) Vec<MetricFamily>);

impl Sampled {
    pub(in crate::observe) fn gauge(&mut self, name: &str, help: &str, value: u64) -> Done {
        self.labelled(Family::Gauge, name, help, &[], [(Vec::new(), value as f64)])
    }

    pub(in crate::observe) fn counter(&mut self, name: &str, help: &str, value: u64) -> Done {
        self.labelled(Family::Counter, name, help, &[], [(Vec::new(), value as f64)])
    }

    /// One family with a series for each set of label values. Nothing to show, no family.
    pub(in crate::observe) fn labelled(
        &mut self,
        family: Family,
        name: &str,
        help: &str,
        labels: &[&str],
        series: impl IntoIterator<Item = (Vec<String>, f64)>,
    ) -> Done {
        let options = Opts::new(name, help);
        let mut collected = match family {
            Family::Gauge => {
                let vec = GaugeVec::new(options, labels)?;
                for (values, value) in series {
                    vec.get_metric_with_label_values(&values)?.set(value);
                }
                vec.collect()
            }
            Family::Counter => {
                let vec = prometheus::CounterVec::new(options, labels)?;
                for (values, value) in series {
                    let counter: Counter = vec.get_metric_with_label_values(&values)?;
                    // `inc_by` panics below zero.
                    counter.inc_by(value.max(0.0));
                }
                vec.collect()
            }
        };
        collected.retain(|family| !family.get_metric().is_empty());
        self.0.append(&mut collected);
        Ok(())
    }
}
