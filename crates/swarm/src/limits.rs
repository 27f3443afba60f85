//! How many participants the limits of the machine allow.

use std::fs;
use std::path::Path;

use palabre_host::exit::Failure;
use palabre_host::process;

/// Number of open files that this program or the mixer needs, in addition to those for each participant and talker.
const OTHER_FILES: u64 = 64;
/// Maximum number of threads of a listener with a stream and a talker.
const LISTENER_THREADS: u64 = 6;
/// Number of threads that all processes except the listeners have together.
const OTHER_THREADS: u64 = 32;
/// Memory of a listener with a stream, in KiB, with a reserve.
const LISTENER_KIB: u64 = 1_500;

/// A limit of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Limit {
    /// Maximum number of participants.
    participants: u64,
    /// The value of the limit, and how the administrator can raise it.
    text: String,
}

/// Raises the limit of open files to its hard limit. Returns an error if the limits of the machine don't allow this number of participants.
/// `is_own_room`: this program also starts their listeners.
pub(crate) fn check(participants: u64, talkers: u64, is_own_room: bool) -> Result<(), Failure> {
    let files = process::raise_nofile()
        .map_err(|error| Failure::system(format!("unable to raise the limit of open files: {error}")))?;
    let mut limits = vec![open_files(files, participants, talkers, is_own_room)];
    if is_own_room {
        limits.extend([threads(participants), group(), memory()].into_iter().flatten());
    }
    match limits.into_iter().min_by_key(|limit| limit.participants) {
        Some(limit) if limit.participants < participants => Err(Failure::refused(format!(
            "unable to run {participants} participants: this machine allows {}; {}",
            limit.participants, limit.text
        ))),
        _ => Ok(()),
    }
}

/// Returns the number of participants for whom `files` open files are enough, and how to raise the limit for `wanted` participants.
///
/// This program needs a descriptor for each stream. With a room of its own, two are counted for each participant, because the mixer inherits
/// the limit and needs two.
fn open_files(files: u64, wanted: u64, talkers: u64, is_own_room: bool) -> Limit {
    let each = if is_own_room { 2 } else { 1 };
    let participants = files.saturating_sub(OTHER_FILES + talkers) / each;
    let needed = wanted.saturating_mul(each).saturating_add(OTHER_FILES + talkers);
    Limit {
        participants,
        text: format!("the hard limit of open files is {files}; as root, run 'ulimit -Hn {needed}' in the shell first"),
    }
}

fn threads(wanted: u64) -> Option<Limit> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    // No program raises its soft limit of processes, so the soft limit counts.
    let soft: u64 =
        limits.lines().find_map(|line| line.strip_prefix("Max processes")?.split_whitespace().next())?.parse().ok()?;
    let needed = wanted.saturating_mul(LISTENER_THREADS).saturating_add(OTHER_THREADS);
    let text = format!("the limit of processes is {soft}; as root, run 'ulimit -u {needed}' in the shell first");
    Some(Limit { participants: soft.saturating_sub(OTHER_THREADS) / LISTENER_THREADS, text })
}

/// Returns the lowest limit of threads of the control group and its ancestors: cgroups(7).
fn group() -> Option<Limit> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = Path::new("/sys/fs/cgroup").join(groups.lines().find_map(|line| line.strip_prefix("0::/"))?);
    let max = |group: &Path| fs::read_to_string(group.join("pids.max")).ok()?.trim().parse::<u64>().ok();
    let lowest = path.ancestors().filter_map(max).min()?;
    let text = format!(
        "the control group '{}' allows {lowest} threads; raise pids.max of this control group and those above it",
        path.display()
    );
    Some(Limit { participants: lowest.saturating_sub(OTHER_THREADS) / LISTENER_THREADS, text })
}

fn memory() -> Option<Limit> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    let text = format!("the machine has {} MiB of available memory", kib / 1024);
    Some(Limit { participants: kib / LISTENER_KIB, text })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn open_files_limit_the_participants_and_the_message_says_how_many() {
        assert_eq!(open_files(1024, 500, 10, true).participants, 475);
        assert_eq!(open_files(1024, 500, 10, false).participants, 950);
        for is_own_room in [true, false] {
            let text = open_files(1024, 1000, 10, is_own_room).text;
            let needed = text.split("'ulimit -Hn ").nth(1).unwrap().split('\'').next().unwrap();
            assert_eq!(open_files(needed.parse().unwrap(), 1000, 10, is_own_room).participants, 1000, "{text}");
        }
        let error = check(u64::MAX, 0, true).map_err(|failure| failure.to_string()).unwrap_err();
        assert!(error.contains("participants: this machine allows ") && error.contains("; the "), "{error}");
        assert_eq!(check(1, 0, true), Ok(()));
    }
}
