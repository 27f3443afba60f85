//! CPU time and memory of the daemons and of this program.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use palabre_config::control::{self, Mixing, Request, Response, Status};
use palabre_host::usage;

/// Timeout for the supervisor's answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Kinds of processes, in the order of the report.
pub(crate) const KINDS: [&str; 4] = ["palabre-mixer", "palabre-listener", "palabre-supervisor", "palabre swarm"];

/// The processes whose use is measured: kind and process id.
pub(crate) struct Processes(Vec<(&'static str, u32)>);

/// The processes at one time.
pub(crate) struct Snapshot {
    at: Instant,
    /// Kind, process id and CPU time in ms of each process.
    processes: Vec<(&'static str, u32, u64)>,
    /// The mixer's counters, which the mixer writes every 5 s.
    pub(crate) mixing: Option<Mixing>,
}

/// CPU time and memory that the processes of one kind used.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Used {
    pub(crate) kind: &'static str,
    pub(crate) processes: usize,
    /// CPU time of all these processes, in percent of a core.
    pub(crate) cpu_percent: f64,
    /// CPU time of the busiest of these processes, in percent of a core.
    pub(crate) max_cpu_percent: f64,
    /// Proportional set size of all processes; `None` if it is not readable.
    pub(crate) pss_kib: Option<u64>,
}

impl Processes {
    /// Finds the daemons of the runtime directory `run`. The supervisor examines each listener for this, so call it before the measurement. `daemons`
    /// returns program name and process id of each daemon except listeners.
    pub(crate) fn find(run: &Path, daemons: fn(&Path) -> Vec<(String, u32)>) -> Self {
        let status = status(run);
        let listeners = status.iter().flat_map(|status| &status.participants).filter_map(|one| one.pid);
        let mut processes: Vec<(&'static str, u32)> = listeners.map(|pid| (KINDS[1], pid)).collect();
        for (program, pid) in daemons(run) {
            let kind = KINDS.into_iter().find(|kind| *kind == program);
            processes.extend(kind.map(|kind| (kind, pid)));
        }
        processes.push((KINDS[3], std::process::id()));
        Self(processes)
    }
}

impl Snapshot {
    /// Reads the CPU time of each process, and the counters of the mixer in the runtime directory `run`.
    pub(crate) fn take(run: &Path, processes: &Processes) -> Self {
        let used = |&(kind, pid): &(&'static str, u32)| Some((kind, pid, usage::cpu_ms(pid)?));
        Self {
            at: Instant::now(),
            processes: processes.0.iter().filter_map(used).collect(),
            mixing: Mixing::read(&run.join("rooms")).or_else(|| mixing(run)),
        }
    }

    /// Returns what the processes used between this snapshot and a later one, for each kind that has a process in both.
    pub(crate) fn until(&self, later: &Self) -> Vec<Used> {
        let elapsed_ms = later.at.duration_since(self.at).as_secs_f64() * 1000.0;
        let of_kind = |kind: &'static str| {
            let both = later.processes.iter().filter(|process| process.0 == kind).filter_map(|&(_, pid, after)| {
                let &(_, _, before) = self.processes.iter().find(|process| process.1 == pid)?;
                Some((pid, after.saturating_sub(before) as f64 * 100.0 / elapsed_ms))
            });
            let both: Vec<(u32, f64)> = both.collect();
            let used = Used {
                kind,
                processes: both.len(),
                cpu_percent: both.iter().map(|process| process.1).sum(),
                max_cpu_percent: both.iter().map(|process| process.1).fold(0.0, f64::max),
                pss_kib: both.iter().map(|process| pss_kib(process.0)).sum(),
            };
            (used.processes > 0).then_some(used)
        };
        KINDS.into_iter().filter_map(of_kind).collect()
    }
}

/// Returns the mixer's counters. The mixer writes them every 5 s, and when all talkers have become silent.
pub(crate) fn mixing(run: &Path) -> Option<Mixing> {
    status(run)?.mixing
}

/// Returns the proportional set size of a process: proc_pid_smaps(5). Only root and the owner of the process may read it.
fn pss_kib(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?.split_whitespace().next()?.parse().ok()
}

fn status(run: &Path) -> Option<Status> {
    match control::request(&run.join("control.sock"), &Request::Status, TIMEOUT) {
        Ok(Response::Status(status)) => Some(status),
        _ => None,
    }
}
