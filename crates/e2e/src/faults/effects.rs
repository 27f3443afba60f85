//! What shows that a fault has an effect: states of processes, full pipes, and the use of the cores.

use std::fs::{self, File};
use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Returns whether each of these processes has the state `state`, as in proc_pid_stat(5). A process that no longer exists has the state `Z`. Returns
/// `false` if there are no processes.
pub(super) fn all_have_state(pids: &[u32], state: char) -> bool {
    let state_of = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The second field is the program's name in parentheses, which may contain spaces.
        stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next()).unwrap_or('Z')
    };
    !pids.is_empty() && pids.iter().all(|pid| state_of(pid) == state)
}

/// Returns whether a write to the pipe would block.
pub(super) fn is_full(pipe: &File) -> bool {
    let mut polled = [PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|writable| writable == 0)
}

/// The idle time and the total time of all cores together, from `/proc/stat`.
#[derive(Debug, Default)]
pub(super) struct Cores {
    idle: f64,
    total: f64,
}

impl Cores {
    /// Returns the times from the start of the machine until now.
    pub(super) fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let times = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let times: Vec<f64> = times.map(|time| time.parse().unwrap_or_default()).collect();
        // The fourth time is that of idle cores, the fifth that of cores that wait for a disk.
        Self { idle: times.iter().skip(3).take(2).sum(), total: times.iter().take(8).sum() }
    }

    /// Returns the share of idle time since an earlier moment, in percent.
    pub(super) fn idle_percent_since(&self, earlier: &Self) -> f64 {
        100.0 * (self.idle - earlier.idle) / (self.total - earlier.total).max(1.0)
    }
}
