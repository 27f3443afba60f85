//! Writes metric families in the text format OpenMetrics 1.0.0, with `prometheus-client`.

use std::fmt;
use std::sync::Mutex;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

/// Names and values of labels.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// A metric family: metrics with one name and different labels.
#[derive(Debug)]
pub(crate) struct Family {
    /// The name of the family without the prefix `palabre_`, the unit and the suffix `_total`.
    pub(crate) name: &'static str,
    /// The help text: one sentence without a full stop.
    pub(crate) help: &'static str,
    pub(crate) unit: Option<Unit>,
    pub(crate) samples: Samples,
}

/// The type and the values of a family.
#[derive(Debug)]
pub(crate) enum Samples {
    Gauge(Vec<(Labels, f64)>),
    Counter(Vec<(Labels, f64)>),
    Histogram {
        /// For each bucket: its upper bound, and the number of values in this bucket alone, above the previous bound. The last bound is `f64::MAX`.
        buckets: Vec<(f64, u64)>,
        /// Sum of all values.
        sum: f64,
    },
}

const PREFIX: &str = "palabre";

/// Returns the families as OpenMetrics text, which is the response to a scrape.
pub(crate) fn text(families: Vec<Family>) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Collected(Mutex::new(families))));
    let mut text = String::new();
    // Writing to a string can't fail, and all names of metrics and labels are constants.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

/// The families of one scrape. They are in a mutex because `Collector` requires `Sync`.
#[derive(Debug)]
struct Collected(Mutex<Vec<Family>>);

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let families = self.0.lock().map_err(|_| fmt::Error)?;
        families.iter().try_for_each(|family| encode(family, &mut encoder))
    }
}

fn encode(family: &Family, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let kind = match family.samples {
        Samples::Gauge(_) => MetricType::Gauge,
        Samples::Counter(_) => MetricType::Counter,
        Samples::Histogram { .. } => MetricType::Histogram,
    };
    let mut metric = encoder.encode_descriptor(family.name, family.help, family.unit.as_ref(), kind)?;
    match &family.samples {
        Samples::Gauge(samples) => each(&mut metric, samples, gauge),
        Samples::Counter(samples) => each(&mut metric, samples, counter),
        Samples::Histogram { buckets, sum } => {
            let count = buckets.iter().map(|(_, count)| count).sum();
            metric.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
        }
    }
}

fn gauge(metric: &mut MetricEncoder, value: &f64) -> fmt::Result {
    metric.encode_gauge(value)
}

fn counter(metric: &mut MetricEncoder, value: &f64) -> fmt::Result {
    metric.encode_counter::<NoLabelSet, _, f64>(value, None)
}

fn each(
    metric: &mut MetricEncoder,
    samples: &[(Labels, f64)],
    encode: impl Fn(&mut MetricEncoder, &f64) -> fmt::Result,
) -> fmt::Result {
    samples.iter().try_for_each(|(labels, value)| match labels.is_empty() {
        true => encode(metric, value),
        false => encode(&mut metric.encode_family(labels)?, value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_metric_follows_the_format() {
        let alice = vec![("name", "alice".to_owned())];
        let text = text(vec![
            Family { name: "up", help: "Whether", unit: None, samples: Samples::Gauge(vec![(Vec::new(), 1.0)]) },
            Family {
                name: "sent",
                help: "How much",
                unit: Some(Unit::Bytes),
                samples: Samples::Counter(vec![(alice, 12.0)]),
            },
            Family {
                name: "late",
                help: "How late",
                unit: Some(Unit::Seconds),
                samples: Samples::Histogram { buckets: vec![(0.5, 2), (f64::MAX, 1)], sum: 1.5 },
            },
        ]);
        for line in [
            "# TYPE palabre_up gauge",
            "palabre_up 1.0",
            "# UNIT palabre_sent_bytes bytes",
            "palabre_sent_bytes_total{name=\"alice\"} 12.0",
            "palabre_late_seconds_bucket{le=\"0.5\"} 2",
            "palabre_late_seconds_bucket{le=\"+Inf\"} 3",
            "palabre_late_seconds_count 3",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
    }
}
