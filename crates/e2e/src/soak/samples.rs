//! Samples of the resources that each kind of process uses.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::processes::{Use, programs, usage};

use super::churn::is_restarted;

/// Quantities of each kind of process, in the order of [`Sample::values`].
pub(super) const QUANTITIES: [&str; 4] = ["memory in KiB", "descriptors", "threads", "processes"];

/// The processes of one kind at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at_s: f64,
    /// Means per process of memory, descriptors and threads, and the number of processes.
    pub(super) values: [f64; 4],
}

/// All samples.
pub(super) struct Samples {
    suite: u32,
    others: [(u32, &'static str); 2],
    pub(super) kinds: BTreeMap<String, Vec<Sample>>,
}

impl Samples {
    /// `suite`, `exporter` and `swarm` are process IDs. Samples also the descendants of `suite`.
    pub(super) fn new(suite: u32, exporter: u32, swarm: u32) -> Self {
        let others = [(exporter, "palabre-exporter"), (swarm, "palabre swarm")];
        Self { suite, others, kinds: BTreeMap::new() }
    }

    /// Takes a sample of each kind.
    pub(super) fn take(&mut self, at: Duration) {
        let mut found: BTreeMap<String, Vec<Use>> = BTreeMap::new();
        for (pid, program, argument) in programs(self.suite) {
            found.entry(kind(&program, &argument)).or_default().extend(usage(pid));
        }
        for (pid, kind) in self.others {
            found.entry(kind.to_owned()).or_default().extend(usage(pid));
        }
        for (kind, uses) in found {
            let count = uses.len() as f64;
            let mean = |of: fn(&Use) -> f64| uses.iter().map(of).sum::<f64>() / count.max(1.0);
            let means =
                [|one: &Use| one.pss_kib as f64, |one: &Use| one.descriptors as f64, |one: &Use| one.threads as f64];
            let [memory, descriptors, threads] = means.map(mean);
            let sample = Sample { at_s: at.as_secs_f64(), values: [memory, descriptors, threads, count] };
            self.kinds.entry(kind).or_default().push(sample);
        }
    }

    /// Returns a CSV table with a line for each kind of process and each time.
    pub(super) fn csv(&self) -> String {
        let mut text = "seconds,kind,pss_kib_each,descriptors_each,threads_each,processes\n".to_owned();
        for (kind, samples) in &self.kinds {
            for Sample { at_s, values: [memory, descriptors, threads, count] } in samples {
                let _ = writeln!(text, "{at_s:.1},{kind},{memory:.1},{descriptors:.2},{threads:.2},{count}");
            }
        }
        text
    }
}

/// Returns the kind of a process. Listeners of guests, and those that are restarted, are separate kinds.
fn kind(program: &str, argument: &str) -> String {
    match (program, argument.strip_prefix('p').and_then(|number| number.parse::<usize>().ok())) {
        ("palabre-listener", Some(number)) if is_restarted(number) => "palabre-listener, restarted".to_owned(),
        ("palabre-listener", Some(_)) => "palabre-listener".to_owned(),
        ("palabre-listener", None) => "palabre-listener of a guest".to_owned(),
        ("palabre", _) => "palabre try".to_owned(),
        _ => program.to_owned(),
    }
}
