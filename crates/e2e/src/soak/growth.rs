//! Decides from a quantity's slope, and from the error of the slope, whether the quantity grows.

use serde_json::{Value, json};

use crate::plot::{Curve, svg};
use crate::trend::Trend;

use super::samples::{QUANTITIES, Samples};

/// Part of the measurement, at its beginning, that is ignored, because caches and buffers fill then.
const BEGINNING: f64 = 0.2;
/// Minimum number of points of a trend.
const POINTS_MIN: usize = 4;
/// Minimum slope that counts, in standard errors.
const ERRORS: f64 = 3.0;
/// Minimum growth during the measurement that counts, as a part of the mean.
const GROWTH_MIN: f64 = 0.01;
const COLOURS: [&str; 6] = ["#1d4f91", "#2a6f4e", "#b4541a", "#7b3294", "#444", "#c51b7d"];

/// The growth of a quantity of one kind of process.
#[derive(Clone, Debug)]
pub struct Growth {
    /// Kind of process, or "streams".
    pub kind: String,
    /// Name of the quantity.
    pub quantity: &'static str,
    /// The trend per hour.
    pub trend: Trend,
    /// Difference of the regression line's values at the end and at the beginning.
    pub growth: f64,
}

impl Growth {
    fn of(kind: &str, quantity: &'static str, points: &[(f64, f64)]) -> Option<Self> {
        let end = points.last()?.0;
        let later: Vec<_> = points.iter().copied().filter(|(at, _)| *at >= end * BEGINNING).collect();
        if later.len() < POINTS_MIN {
            return None;
        }
        let trend = Trend::through(&later);
        Some(Self { kind: kind.to_owned(), quantity, trend, growth: trend.slope * (end - later[0].0) })
    }

    /// Returns whether the quantity grows by more than noise.
    #[must_use]
    pub fn grows(&self) -> bool {
        self.trend.slope > ERRORS * self.trend.correlated_error() && self.growth > GROWTH_MIN * self.trend.mean.abs()
    }

    /// Returns a row of a table in Markdown.
    #[must_use]
    pub fn row(&self) -> String {
        let Trend { mean, slope, noise, .. } = self.trend;
        let verdict = if self.grows() { "**grows**" } else { "does not grow" };
        let error = self.trend.correlated_error();
        format!("| {} | {} | {mean:.2} | {slope:+.2} ± {error:.2} | {noise:.2} | {verdict} |", self.kind, self.quantity)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "kind": self.kind, "quantity": self.quantity, "mean": self.trend.mean, "slope_per_hour": self.trend.slope,
            "slope_error": self.trend.correlated_error(), "noise": self.trend.noise, "grows": self.grows(),
        })
    }
}

/// Returns the growth of all quantities.
pub(super) fn of(samples: &Samples, report: &Value) -> Vec<Growth> {
    let mut all = Vec::new();
    for (kind, samples) in &samples.kinds {
        for (number, quantity) in QUANTITIES.into_iter().enumerate() {
            let points: Vec<_> = samples.iter().map(|sample| (sample.at_s / 3600.0, sample.values[number])).collect();
            all.extend(Growth::of(kind, quantity, &points));
        }
    }
    for (quantity, points) in streams(report) {
        let hours: Vec<_> = points.into_iter().map(|(seconds, value)| (seconds / 3600.0, value)).collect();
        all.extend(Growth::of("streams", quantity, &hours));
    }
    all
}

/// Returns delay, lateness and missing records of the swarm's intervals, with the time in seconds.
fn streams(report: &Value) -> Vec<(&'static str, Vec<(f64, f64)>)> {
    let intervals = report["intervals"].as_array().map_or(&[][..], Vec::as_slice);
    // Leave out the last interval, which is shorter than the others.
    let whole = &intervals[..intervals.len().saturating_sub(1)];
    let of = |value: fn(&Value) -> Option<f64>| {
        whole.iter().filter_map(|one| Some((one["until_s"].as_f64()?, value(one)?))).collect()
    };
    vec![
        ("delay, median in ms", of(|one| one["delay_ms"].as_f64())),
        ("lateness p99 in ms", of(|one| one["lateness_ms"]["p99"].as_f64())),
        ("records missing in 10 s", of(|one| one["missing"].as_f64())),
    ]
}

/// Returns name and content of each plot.
pub(super) fn plots(samples: &Samples, report: &Value) -> Vec<(&'static str, String)> {
    let of_processes = |quantity: usize| {
        let kinds = samples.kinds.iter().filter(|(kind, _)| !kind.ends_with("guest") && *kind != "palabre swarm");
        let curves = kinds.zip(COLOURS).map(|((kind, samples), colour)| Curve {
            name: kind,
            colour,
            points: samples.iter().map(|sample| (sample.at_s / 60.0, sample.values[quantity])).collect(),
        });
        svg("", "minutes", QUANTITIES[quantity], &curves.collect::<Vec<_>>())
    };
    let streams = streams(report);
    let curves = streams.iter().zip(COLOURS).map(|((name, points), colour)| Curve {
        name,
        colour,
        points: points.iter().map(|&(seconds, value)| (seconds / 60.0, value)).collect(),
    });
    let streams = svg("Delay and losses", "minutes", "", &curves.collect::<Vec<_>>());
    vec![("memory.svg", of_processes(0)), ("descriptors.svg", of_processes(1)), ("streams.svg", streams)]
}
