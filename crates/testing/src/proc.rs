//! Reads from `/proc` how long processes waited for a CPU. A value that can't be read counts as zero.

use std::fs;
use std::time::Duration;

/// Returns the CPU time that other virtual machines took from this one: the eighth number of the first line of `/proc/stat`, in clock ticks
/// (proc(5)).
pub(crate) fn steal() -> Duration {
    const CLOCK_TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = stat.split_whitespace().nth(8).and_then(|ticks| ticks.parse().ok());
    CLOCK_TICK * ticks.unwrap_or(0)
}

/// Returns the time in which at least one task of the machine waited for a CPU: `some` in `/proc/pressure/cpu` (Documentation/accounting/psi.rst).
pub(crate) fn pressure() -> Duration {
    let text = fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let total = text.lines().next().and_then(|some| some.rsplit_once("total=")?.1.parse().ok());
    Duration::from_micros(total.unwrap_or(0))
}

/// Returns every thread of this process and of its descendants, each with the time for which it has waited for a CPU since it began.
pub(crate) fn run_delays() -> Vec<(u32, Duration)> {
    let mut delays = Vec::new();
    let mut processes = vec![std::process::id()];
    while let Some(process) = processes.pop() {
        for entry in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
            let path = entry.path();
            let read = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
            let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            processes.extend(read("children").split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            delays.push((thread, run_delay(&read("schedstat"))));
        }
    }
    delays
}

/// Returns the time for which a thread has waited for a CPU: the second number of its `schedstat`, in ns (Documentation/scheduler/sched-stats.rst).
fn run_delay(schedstat: &str) -> Duration {
    let delay = schedstat.split_whitespace().nth(1).and_then(|ns| ns.parse().ok());
    Duration::from_nanos(delay.unwrap_or(0))
}
