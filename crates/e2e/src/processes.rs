//! Memory, descriptors and threads of processes, from proc(5).

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::suite::descendants;

/// Resources that a process uses at one time.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// Proportional set size in KiB.
    pub pss_kib: u64,
    /// Number of open descriptors.
    pub descriptors: usize,
    /// Number of threads.
    pub threads: usize,
}

/// Returns the resources that a process uses; `None` if the process has ended or belongs to another user.
#[must_use]
pub fn usage(pid: u32) -> Option<Use> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let count = |directory: &str| Some(fs::read_dir(format!("/proc/{pid}/{directory}")).ok()?.count());
    Some(Use {
        pss_kib: pss.split_whitespace().next()?.parse().ok()?,
        descriptors: count("fd")?,
        threads: count("task")?,
    })
}

/// Sets the niceness of a process to -10. Has no effect without permission.
pub fn prefer(pid: u32) {
    let _ = Command::new("renice").args(["-n", "-10", "-p", &pid.to_string()]).output();
}

/// Sets the niceness of the calling thread to 19.
pub fn yield_thread() {
    let thread = fs::read_link("/proc/thread-self").unwrap_or_default();
    let _ = Command::new("renice").args(["-n", "19", "-p"]).arg(thread.file_name().unwrap_or_default()).output();
}

/// Returns process id, program name and first argument of a process and of all its descendants.
#[must_use]
pub fn programs(pid: u32) -> Vec<(u32, String, String)> {
    let named = |pid: u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let mut words = line.split('\0');
        let program = Path::new(words.next()?).file_name()?.to_str()?.to_owned();
        Some((pid, program, words.next().unwrap_or_default().to_owned()))
    };
    [vec![pid], descendants(pid)].concat().into_iter().filter_map(named).collect()
}
