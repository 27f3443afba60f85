//! The report of a measurement, as text and as JSON.

use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

use palabre_config::control::Mixing;
use serde_json::{Value, json};

use crate::ear;
use crate::histogram::Histogram;
use crate::load::{Outcome, Participant};
use crate::series::Interval;
use crate::spans::{Span, What};
use crate::usage::Used;

/// Maximum number of participants with faults that the text report names.
const NAMED_MAX: usize = 20;

/// The results of a measurement.
pub(crate) struct Report {
    pub(crate) outcome: Outcome,
    /// The mixer's counters before and after the measurement; `None` if they are not readable.
    pub(crate) mixing: Option<(Mixing, Mixing)>,
    pub(crate) used: Vec<Used>,
}

impl Report {
    pub(crate) fn missing(&self) -> u64 {
        self.outcome.participants.iter().map(|one| one.missing).sum()
    }

    pub(crate) fn wrong(&self) -> u64 {
        self.outcome.participants.iter().map(|one| one.wrong).sum()
    }

    /// Returns the text.
    pub(crate) fn text(&self) -> String {
        let outcome = &self.outcome;
        let sum = |of: fn(&Participant) -> u64| outcome.participants.iter().map(of).sum::<u64>();
        let format = outcome
            .format
            .map_or(String::new(), |format| format!(", chunks of {} ms at {} Hz", format.chunk_ms, format.rate_hz));
        let mut text = format!(
            "participants: {}, talkers: {}; {:.1} s{format}\n",
            outcome.participants.len(),
            outcome.talkers.len(),
            outcome.seconds
        );
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "  {name:<12} {value}");
        };
        line(
            "records",
            format!(
                "{} records received, {} missing; gaps announced by listeners: {}",
                sum(|one| one.records),
                self.missing(),
                sum(|one| one.gaps)
            ),
        );
        line(
            "mixes",
            format!(
                "{} mixes checked, {} wrong, {} with an interrupted tone",
                sum(|one| one.checked),
                self.wrong(),
                sum(|one| one.disturbed)
            ),
        );
        line(
            "streams",
            format!(
                "{} streams ended; ended connections on which talkers sent sound: {}",
                sum(|one| one.ended),
                outcome.talkers_ended
            ),
        );
        line("lateness", percentiles(&outcome.lateness));
        if let Some(delays) = self.delays() {
            line("delay", delays);
        }
        if let Some((before, after)) = &self.mixing {
            let late = late_ticks(before, after).into_iter().map(|(bound, count)| match bound {
                Some(bound) => format!("{count} ≤ {} ms", bound as f64 / 1000.0),
                None => format!("{count} later"),
            });
            line("ticks", format!("{} mixed, {} skipped", after.ticks - before.ticks, after.skipped - before.skipped));
            line("tick late", late.collect::<Vec<_>>().join(", "));
            let (underruns, lost) = losses(before, after);
            line(
                "mixer",
                format!(
                    "underruns of talkers' buffers: {underruns}, frames lost because a listener was too slow: {lost}"
                ),
            );
        }
        line("swarm late", percentiles(&outcome.own_lateness));
        text += &self.usage_table();
        text + &self.faults()
    }

    fn delays(&self) -> Option<String> {
        let of = |(name, delays): &(String, Histogram)| {
            (delays.count() > 0).then(|| format!("{name} {:.0}", delays.percentile_ms(50.0)))
        };
        let named: Vec<String> = self.outcome.talkers.iter().filter_map(of).collect();
        (!named.is_empty()).then(|| format!("median in ms: {}", named.join(", ")))
    }

    fn usage_table(&self) -> String {
        let mut text = format!(
            "\n  {:<20} {:>9} {:>12} {:>10} {:>12} {:>10}\n",
            "PROCESS", "NUMBER", "% OF A CORE", "MAXIMUM", "PSS MIB", "MIB EACH"
        );
        for used in &self.used {
            let mib = |kib: Option<u64>, by: usize| {
                kib.map_or_else(|| "-".to_owned(), |kib| format!("{:.2}", kib as f64 / 1024.0 / by as f64))
            };
            let _ = writeln!(
                text,
                "  {:<20} {:>9} {:>12.2} {:>10.2} {:>12} {:>10}",
                used.kind,
                used.processes,
                used.cpu_percent,
                used.max_cpu_percent,
                mib(used.pss_kib, 1),
                mib(used.pss_kib, used.processes)
            );
        }
        text
    }

    /// Returns a line for each fault of a mix, and for each participant with a fault.
    fn faults(&self) -> String {
        let mut text = String::new();
        let faulty: Vec<String> = self.outcome.participants.iter().filter_map(fault).collect();
        if !self.outcome.faults.is_empty() || !faulty.is_empty() {
            text.push_str("\n  FAULTS\n");
        }
        for (fault, count) in &self.outcome.faults {
            let _ = writeln!(text, "  {fault}: {count} records");
        }
        for line in faulty.iter().take(NAMED_MAX) {
            let _ = writeln!(text, "  {line}");
        }
        if faulty.len() > NAMED_MAX {
            let _ = writeln!(text, "  and {} more participants", faulty.len() - NAMED_MAX);
        }
        text
    }

    /// Returns the JSON. Fields may be added in later releases.
    pub(crate) fn json(&self) -> Value {
        let outcome = &self.outcome;
        let participant = |one: &Participant| {
            json!({
                "name": one.name, "records": one.records, "missing": one.missing, "gaps": one.gaps, "checked": one.checked,
                "wrong": one.wrong, "disturbed": one.disturbed, "ended": one.ended, "max_late_ms": rounded(one.max_late_ms),
                "error": one.error, "faults": one.spans.iter().map(span).collect::<Vec<_>>(),
            })
        };
        let talker = |(name, delays): &(String, Histogram)| {
            let delay = (delays.count() > 0).then(|| summary(delays));
            json!({ "name": name, "delay_ms": delay })
        };
        let used = |used: &Used| {
            json!({
                "kind": used.kind, "processes": used.processes, "cpu_percent": rounded(used.cpu_percent),
                "max_cpu_percent": rounded(used.max_cpu_percent), "pss_kib": used.pss_kib,
            })
        };
        let interval = |one: &Interval| {
            let [p50, p99, max] = one.lateness_ms.map(rounded);
            json!({
                "until_s": rounded(one.until_ms / 1000.0), "records": one.records, "missing": one.missing, "wrong": one.wrong,
                "lateness_ms": { "p50": p50, "p99": p99, "max": max }, "delay_ms": one.delay_ms.map(rounded),
            })
        };
        let began = outcome.began.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mixer = self.mixing.as_ref().map(|(before, after)| {
            let (underruns, lost_frames) = losses(before, after);
            json!({
                "ticks": after.ticks - before.ticks, "skipped": after.skipped - before.skipped,
                "late_us": late_ticks(before, after), "underruns": underruns, "lost_frames": lost_frames,
            })
        });
        json!({
            "began_ms": began.as_millis() as u64,
            "seconds": rounded(outcome.seconds),
            "rate_hz": outcome.format.map(|format| format.rate_hz),
            "chunk_ms": outcome.format.map(|format| format.chunk_ms),
            "missing": self.missing(),
            "wrong": self.wrong(),
            "faults": outcome.faults,
            "lateness_ms": summary(&outcome.lateness),
            "swarm_lateness_ms": summary(&outcome.own_lateness),
            "talkers_ended": outcome.talkers_ended,
            "mixer": mixer,
            "intervals": outcome.intervals.iter().map(interval).collect::<Vec<_>>(),
            "processes": self.used.iter().map(used).collect::<Vec<_>>(),
            "talkers": outcome.talkers.iter().map(talker).collect::<Vec<_>>(),
            "participants": outcome.participants.iter().map(participant).collect::<Vec<_>>(),
        })
    }
}

fn span(span: &Span) -> Value {
    let what = match span.what {
        What::Missing => "records are missing".to_owned(),
        What::Unannounced => "records are missing without an announced gap".to_owned(),
        What::Disturbed => "the mix is disturbed".to_owned(),
        What::Mix(fault) => ear::describe(fault),
    };
    json!({
        "what": what, "at_s": rounded(span.begin_ms / 1000.0), "ms": rounded(span.end_ms - span.begin_ms), "records": span.records,
    })
}

/// Returns a line for a participant with a fault.
fn fault(one: &Participant) -> Option<String> {
    let mut parts = Vec::new();
    if one.missing > 0 {
        parts.push(format!("{} records missing", one.missing));
    }
    if one.wrong > 0 {
        parts.push(format!("{} of {} mixes wrong", one.wrong, one.checked));
    }
    if one.ended > 0 {
        parts.push(format!("the stream ended {} times", one.ended));
    }
    if parts.is_empty() {
        return None;
    }
    if one.silent_ms > 1000.0 {
        parts.push(format!("no record in the last {:.1} s", one.silent_ms / 1000.0));
    }
    parts.extend(one.error.clone());
    Some(format!("{}: {}", one.name, parts.join("; ")))
}

/// Returns how many ticks of the mixer fell into each class of lateness during the measurement: the upper bound of the class in µs, and the number.
fn late_ticks(before: &Mixing, after: &Mixing) -> Vec<(Option<u64>, u64)> {
    let classes = before.late.iter().zip(&after.late);
    classes.map(|(before, after)| (after.0, after.1.saturating_sub(before.1))).filter(|class| class.1 > 0).collect()
}

/// Returns the sums of the underruns and of the lost frames of all participants between two readings of the mixer's counters.
fn losses(before: &Mixing, after: &Mixing) -> (u64, u64) {
    let sum = |mixing: &Mixing| {
        let all = mixing.participants.iter();
        all.fold((0, 0), |(underruns, lost), one| (underruns + one.underruns, lost + one.lost_frames))
    };
    let (before, after) = (sum(before), sum(after));
    (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1))
}

fn percentiles(histogram: &Histogram) -> String {
    let at = |percent| histogram.percentile_ms(percent);
    format!(
        "p50 {:.1}, p95 {:.1}, p99 {:.1}, p99.9 {:.1}, maximum {:.1} ms",
        at(50.0),
        at(95.0),
        at(99.0),
        at(99.9),
        histogram.max_ms()
    )
}

fn summary(histogram: &Histogram) -> Value {
    let at = |percent| rounded(histogram.percentile_ms(percent));
    json!({ "p50": at(50.0), "p95": at(95.0), "p99": at(99.0), "p99_9": at(99.9), "max": rounded(histogram.max_ms()) })
}

/// Rounds to two decimals.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
