//! Checks the limits of file descriptors and threads, of processes and of their control groups.

use std::fs;
use std::path::{Path, PathBuf};

use super::context::{Context, has_systemd, number, word};
use super::finding::Finding;
use crate::processes;

/// Number of descriptors that a process needs in addition to those for participants and connections.
pub(super) const DESCRIPTORS: u64 = 64;
/// Number of threads of a listener without connections.
const IDLE_THREADS: u64 = 1;
/// Maximum number of threads of a listener, in addition to one per connection.
const LISTENER_THREADS: u64 = 4;
/// Number of threads that mixer, supervisor, exporter and recorders need together.
const OTHER_THREADS: u64 = 16;
/// Mount point of control groups, version 2: cgroups(7).
const GROUPS: &str = "/sys/fs/cgroup";

/// A limit, and a shell command that raises it.
struct Limit {
    max: u64,
    remedy: String,
}

/// Checks the limits of open files of the mixer, the supervisor and the listeners.
pub(super) fn open_files(context: &Context<'_>) -> Finding {
    const AREA: &str = "descriptors";
    let connections = context.server.limits.connections as u64;
    let needed = [
        ("palabre-mixer", 2 * context.participant_count() + DESCRIPTORS),
        ("palabre-supervisor", 2 * context.participant_count() + DESCRIPTORS),
        (of_listeners(context), connections + DESCRIPTORS),
    ];
    for (program, needed) in needed {
        let limit = Process::of(context, program).limit("Max open files", "NOFILE", needed);
        if limit.max < needed {
            let text = format!("{program} needs {needed} open files, but its limit is {}", limit.max);
            return Finding::fault(AREA, text, limit.remedy);
        }
    }
    Finding::ok(AREA, "the limits of open files suffice for all participants")
}

/// Checks the limit of threads. A limit that is too low for listeners without connections is a fault; a limit that is too low for all
/// connections is a warning.
pub(super) fn threads(context: &Context<'_>) -> Finding {
    const AREA: &str = "threads";
    let idle = context.participant_count() * IDLE_THREADS + OTHER_THREADS;
    let all =
        context.participant_count() * (LISTENER_THREADS + context.server.limits.connections as u64) + OTHER_THREADS;
    let process = Process::of(context, of_listeners(context));
    let own = process.limit("Max processes", "NPROC", all);
    let limit = match process.group().and_then(|group| lowest(Path::new(GROUPS), &group)) {
        Some(group) if group.max < own.max => group,
        _ => own,
    };
    let max = limit.max;
    if max < idle {
        return Finding::fault(
            AREA,
            format!("the limit is {max} threads, but Palabre needs {idle} even without connections"),
            limit.remedy,
        );
    }
    if max < all {
        let text = format!(
            "the limit is {max} threads, but Palabre needs {all} if all participants use all their connections"
        );
        return Finding::warning(AREA, text, limit.remedy);
    }
    Finding::ok(AREA, format!("the limit of threads suffices: at most {all} are needed"))
}

/// Returns the name of the daemon that starts the listeners, which inherit its limits.
fn of_listeners(context: &Context<'_>) -> &'static str {
    let daemons = processes::daemons(context.directories.run);
    let has_launcher = daemons.iter().any(|(program, _)| program == "palabre-launcher");
    if has_launcher { "palabre-launcher" } else { "palabre-supervisor" }
}

/// A daemon whose limits are checked. It need not run.
struct Process<'a> {
    program: &'a str,
    pid: Option<u32>,
    palabre: String,
}

impl<'a> Process<'a> {
    fn of(context: &Context<'_>, program: &'a str) -> Self {
        let found = processes::daemons(context.directories.run).into_iter().find(|(name, _)| name == program);
        Self { program, pid: found.map(|(_, pid)| pid), palabre: context.directories.palabre() }
    }

    /// Reads a file in /proc/PID of the daemon. If the daemon doesn't run, reads the file of this process, whose limits the daemon would
    /// inherit.
    fn proc_file(&self, file: &str) -> String {
        let read = |pid: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        self.pid.and_then(|pid| read(&pid.to_string())).or_else(|| read("self")).unwrap_or_default()
    }

    /// Returns the hard limit in the line `line` of proc_pid_limits(5), and a shell command that raises the limit to `needed`.
    fn limit(&self, line: &str, resource: &str, needed: u64) -> Limit {
        let text = self.proc_file("limits");
        let hard = text.lines().find_map(|text| text.strip_prefix(line)?.split_whitespace().nth(1));
        Limit { max: hard.and_then(|hard| hard.parse().ok()).unwrap_or(u64::MAX), remedy: self.raise(resource, needed) }
    }

    fn raise(&self, resource: &str, needed: u64) -> String {
        let program = self.program;
        let unit = format!("/etc/systemd/system/{program}.service.d");
        match (has_systemd(), self.pid) {
            (true, _) => format!(
                "mkdir -p {unit} && printf '[Service]\\nLimit{resource}={needed}\\n' >{unit}/{}.conf && \
                 systemctl daemon-reload && systemctl restart {program}",
                resource.to_lowercase()
            ),
            // Listeners that already run keep their limits, so they must be restarted too.
            (false, Some(pid)) => {
                let (flag, palabre) = (resource.to_lowercase(), &self.palabre);
                let again = if resource == "NPROC" { format!(" && {palabre} restart --all") } else { String::new() };
                format!("prlimit --pid {pid} --{flag}={needed}:{needed}{again}")
            }
            (false, None) => {
                // A daemon raises its soft limit of open files itself, but not its soft limit of processes.
                let flag = if resource == "NOFILE" { "Hn" } else { "u" };
                format!("ulimit -{flag} {needed}  # as root, in the shell that starts {program}")
            }
        }
    }

    /// Returns the path of the daemon's control group, relative to the mount point.
    fn group(&self) -> Option<String> {
        self.proc_file("cgroup").lines().find_map(|line| line.strip_prefix("0::/")).map(str::to_owned)
    }
}

/// Returns the lowest `pids.max` of a control group and its ancestors.
fn lowest(root: &Path, group: &str) -> Option<Limit> {
    let group = root.join(group);
    let groups = group.ancestors().take_while(|path| path.starts_with(root));
    let limits = groups.filter_map(|path| Some((number(&path.join("pids.max"))?, path.to_owned())));
    let (max, path) = limits.min()?;
    Some(Limit { max, remedy: unlimited(&path) })
}

/// Returns a shell command that removes the limit. For a systemd unit the command is systemctl(1), because systemd would undo a direct
/// change.
fn unlimited(group: &Path) -> String {
    let unit = group.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_unit = [".service", ".slice", ".scope"].iter().any(|end| unit.ends_with(end));
    match is_unit && has_systemd() {
        true => format!("systemctl set-property {unit} TasksMax=infinity"),
        false => format!("echo max >{}", word(&PathBuf::from(group).join("pids.max"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lowest_limit_of_all_ancestors_applies() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("outer/inner");
        fs::create_dir_all(&inner).unwrap();
        assert!(lowest(root.path(), "outer/inner").is_none());
        fs::write(inner.join("pids.max"), "max\n").unwrap();
        fs::write(root.path().join("outer/pids.max"), "52\n").unwrap();
        let limit = lowest(root.path(), "outer/inner").unwrap();
        assert_eq!(limit.max, 52);
        assert!(
            Path::new("/run/systemd/system").exists() || limit.remedy.ends_with("/outer/pids.max"),
            "{}",
            limit.remedy
        );
    }
}
