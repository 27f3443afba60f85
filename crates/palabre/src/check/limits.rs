//! What a process may have: descriptors and threads, by its own limits and by those of the control groups around it.

use std::fs;
use std::path::{Path, PathBuf};

use super::system::number;
use super::{Finding, Scene, has_systemd, word};
use crate::processes;

/// What a process has open besides what grows with the participants or connections.
pub const DESCRIPTORS: u64 = 64;
/// Threads of a listener to which nobody is connected.
const IDLE_THREADS: u64 = 1;
/// Threads of a listener besides one for each connection, at most.
const LISTENER_THREADS: u64 = 4;
/// Threads of mixer, supervisor, exporter and recorders.
const OTHER_THREADS: u64 = 16;
/// Control groups, version 2: cgroups(7).
const GROUPS: &str = "/sys/fs/cgroup";

/// A limit, and what raises it.
struct Limit {
    most: u64,
    mend: String,
}

/// Whether mixer and supervisor may open enough.
pub fn nofile(scene: &Scene<'_>) -> Finding {
    const AREA: &str = "descriptors";
    let connections = scene.server.limits.connections as u64;
    let needed = [
        ("palabre-mixer", 2 * scene.people() + DESCRIPTORS),
        ("palabre-supervisor", scene.people().max(connections) + DESCRIPTORS),
    ];
    for (program, needed) in needed {
        let limit = Process::of(scene, program).limit("Max open files", "NOFILE", needed);
        if limit.most < needed {
            let text = format!("{program} may have {} and needs {needed}", limit.most);
            return Finding::fault(AREA, text, limit.mend);
        }
    }
    Finding::ok(AREA, "enough for every participant")
}

/// Whether the listeners may have enough threads: below what they need before anybody comes it is a fault.
pub fn threads(scene: &Scene<'_>) -> Finding {
    const AREA: &str = "threads";
    let rest = scene.people() * IDLE_THREADS + OTHER_THREADS;
    let all = scene.people() * (LISTENER_THREADS + scene.server.limits.connections as u64) + OTHER_THREADS;
    let process = Process::of(scene, "palabre-supervisor");
    let own = process.limit("Max processes", "NPROC", all);
    let limit = match process.group().and_then(|group| tightest(Path::new(GROUPS), &group)) {
        Some(group) if group.most < own.most => group,
        _ => own,
    };
    let most = limit.most;
    if most < rest {
        return Finding::fault(AREA, format!("all may have {most}, and need {rest} before anybody comes"), limit.mend);
    }
    if most < all {
        let text = format!("all may have {most}, and need {all} if everybody makes all connections that they may");
        return Finding::warning(AREA, text, limit.mend);
    }
    Finding::ok(AREA, format!("{all} at most"))
}

/// A program of ours, which may run.
struct Process<'a> {
    program: &'a str,
    pid: Option<u32>,
    palabre: String,
}

impl<'a> Process<'a> {
    fn of(scene: &Scene<'_>, program: &'a str) -> Self {
        let found = processes::others(scene.places.run).into_iter().find(|(name, _)| name == program);
        Self { program, pid: found.map(|(_, pid)| pid), palabre: scene.places.palabre() }
    }

    /// A file about it in /proc; about us, whose limits it would inherit, where it doesn't run.
    fn about(&self, file: &str) -> String {
        let of = |who: &str| fs::read_to_string(format!("/proc/{who}/{file}")).ok();
        self.pid.and_then(|pid| of(&pid.to_string())).or_else(|| of("self")).unwrap_or_default()
    }

    /// The hard limit of this line of proc_pid_limits(5), and what raises it to `needed`.
    fn limit(&self, line: &str, resource: &str, needed: u64) -> Limit {
        let text = self.about("limits");
        let hard = text.lines().find_map(|text| text.strip_prefix(line)?.split_whitespace().nth(1));
        Limit { most: hard.and_then(|hard| hard.parse().ok()).unwrap_or(u64::MAX), mend: self.raise(resource, needed) }
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
            // Children have what their parent had when they were born.
            (false, Some(pid)) => {
                let (flag, palabre) = (resource.to_lowercase(), &self.palabre);
                let again = if resource == "NPROC" { format!(" && {palabre} restart --all") } else { String::new() };
                format!("prlimit --pid {pid} --{flag}={needed}:{needed}{again}")
            }
            (false, None) => {
                let flag = if resource == "NOFILE" { "n" } else { "u" };
                format!("ulimit -H{flag} {needed}  # in the shell that starts {program}")
            }
        }
    }

    /// Its control group, below the mount point.
    fn group(&self) -> Option<String> {
        self.about("cgroup").lines().find_map(|line| line.strip_prefix("0::/")).map(str::to_owned)
    }
}

/// The lowest `pids.max` of a control group and those around it.
fn tightest(root: &Path, group: &str) -> Option<Limit> {
    let group = root.join(group);
    let around = group.ancestors().take_while(|path| path.starts_with(root));
    let limits = around.filter_map(|path| Some((number(&path.join("pids.max"))?, path.to_owned())));
    let (most, path) = limits.min()?;
    Some(Limit { most, mend: unlimited(&path) })
}

/// What systemd made is for systemd to change, or it would undo it.
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
    fn the_tightest_of_the_control_groups_around_holds() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("outer/inner");
        fs::create_dir_all(&inner).unwrap();
        assert!(tightest(root.path(), "outer/inner").is_none());
        fs::write(inner.join("pids.max"), "max\n").unwrap();
        fs::write(root.path().join("outer/pids.max"), "52\n").unwrap();
        let limit = tightest(root.path(), "outer/inner").unwrap();
        assert_eq!(limit.most, 52);
        assert!(Path::new("/run/systemd/system").exists() || limit.mend.ends_with("/outer/pids.max"), "{}", limit.mend);
    }
}
