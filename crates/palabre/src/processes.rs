//! Finds the running daemons that use a runtime directory, by their command lines in proc(5).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use palabre_host::access::User;
use palabre_host::usage::{self, stat};
use palabre_room::{LISTENER_USER, MIXER_USER};

use crate::cli::RUN;
use crate::permission;

/// Name of the signer's own user in the package. A signer that the supervisor starts has the supervisor's user.
pub(crate) const SIGNER_USER: &str = "palabre-signer";
/// Flags of palabre-listener that have no value.
const FLAGS_WITHOUT_VALUE: [&str; 5] =
    ["--make-room", "--check-certificate", "--probe", "--settings-on-stdin", "--verbose"];

/// Returns program name and process id of each daemon that uses the runtime directory `run`, except listeners. Ignores processes of users
/// other than root, the owner of the directory and the daemon's own user, because a process can have any name.
pub(crate) fn daemons(run: &Path) -> Vec<(String, u32)> {
    let mut pids = pids();
    pids.sort_unstable();
    let uses_run = |(program, pid): &(String, u32)| match program.as_str() {
        "palabre-supervisor" | "palabre-exporter" | "palabre-launcher" | "palabre-signer" => {
            uses_directory(*pid, "--run", run, Some(RUN))
        }
        "palabre-mixer" => uses_directory(*pid, "--rooms", &run.join("rooms"), None),
        _ => false,
    };
    let programs = |pid: u32| Some((program(pid).filter(|program| may_serve(program, pid, run))?, pid));
    let all: Vec<(String, u32)> = pids.into_iter().filter_map(programs).collect();
    let daemons: Vec<(String, u32)> = all.iter().filter(|process| uses_run(process)).cloned().collect();
    let supervisors: Vec<u32> =
        daemons.iter().filter(|(program, _)| program == "palabre-supervisor").map(|(_, pid)| *pid).collect();
    let is_recorder = |(program, pid): &&(String, u32)| {
        program == "palabre-recorder" && parent(*pid).is_some_and(|parent| supervisors.contains(&parent))
    };
    let recorders: Vec<(String, u32)> = all.iter().filter(is_recorder).cloned().collect();
    daemons.into_iter().chain(recorders).collect()
}

/// Returns the process id of the supervisor of the runtime directory `run` if the process is stopped, for example by SIGSTOP.
pub(crate) fn stopped_supervisor(run: &Path) -> Option<u32> {
    let is_it = |(program, pid): &(String, u32)| program == "palabre-supervisor" && usage::is_stopped(*pid);
    daemons(run).into_iter().find(is_it).map(|(_, pid)| pid)
}

/// Returns the process id of a participant's listener that uses the runtime directory `run` and is no child of a supervisor or a launcher.
pub(crate) fn listener_without_supervisor(name: &str, run: &Path) -> Option<u32> {
    listeners_without_supervisor(run).into_iter().find(|(of, _)| of == name).map(|(_, pid)| pid)
}

/// Returns participant and process id of each listener that uses the runtime directory `run` and is no child of a supervisor or a launcher.
pub(crate) fn listeners_without_supervisor(run: &Path) -> Vec<(String, u32)> {
    let is_alone =
        |pid: u32| !matches!(parent(pid).and_then(program).as_deref(), Some("palabre-supervisor" | "palabre-launcher"));
    listeners(run).filter(|(_, pid)| is_alone(*pid)).collect()
}

/// Returns whether the listener of `name` runs with the runtime directory `run`.
pub(crate) fn has_listener(name: &str, run: &Path) -> bool {
    listeners(run).any(|(of, _)| of == name)
}

/// Returns participant and process id of each listener that uses the runtime directory `run`. Ignores processes as [`daemons`] does.
fn listeners(run: &Path) -> impl Iterator<Item = (String, u32)> {
    let is_listener = |pid: &u32| {
        program(*pid).as_deref() == Some("palabre-listener")
            && may_serve("palabre-listener", *pid, run)
            && uses_directory(*pid, "--run", run, Some(RUN))
    };
    pids().into_iter().filter(is_listener).filter_map(|pid| Some((participant(&arguments(pid))?.to_owned(), pid)))
}

/// Returns the first argument of a listener that is neither a flag nor the value of a flag.
fn participant(arguments: &[String]) -> Option<&str> {
    let is_flag = |word: &str| word.starts_with('-');
    let takes_value =
        |word: &str| word.starts_with("--") && !word.contains('=') && !FLAGS_WITHOUT_VALUE.contains(&word);
    let pairs = arguments.iter().zip(arguments.iter().skip(1));
    pairs
        .map(|(before, word)| (before.as_str(), word.as_str()))
        .find(|(before, word)| !is_flag(word) && !takes_value(before))
        .map(|(_, name)| name)
}

/// Returns whether the process belongs to root, to the owner of the runtime directory, or to the program's own user. The owner of /proc/PID doesn't
/// tell the user: it is root for each process that isn't dumpable, and every process can make itself so.
fn may_serve(program: &str, pid: u32, run: &Path) -> bool {
    let owner = || fs::metadata(run).ok().map(|directory| directory.uid());
    let is_own = |uid| own_user(program).is_some_and(|name| permission::user_name(uid) == name);
    User::of_process(pid).is_some_and(|user| user.uid == 0 || Some(user.uid) == owner() || is_own(user.uid))
}

/// Returns the name of the user with which a daemon runs in the package, if it is a user other than the supervisor's.
fn own_user(program: &str) -> Option<&'static str> {
    match program {
        "palabre-exporter" => Some("palabre-exporter"),
        "palabre-launcher" | "palabre-listener" => Some(LISTENER_USER),
        "palabre-mixer" => Some(MIXER_USER),
        "palabre-signer" => Some(SIGNER_USER),
        _ => None,
    }
}

/// Returns program name and process id of each process that has a socket that listens on the TCP port `port`. Only root can see the sockets
/// of other users' processes.
pub(crate) fn holders(port: u16) -> Vec<(String, u32)> {
    let sockets: Vec<PathBuf> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|table| sockets(table, port)).map(PathBuf::from).collect();
    let has_it = |pid: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        descriptors.filter_map(|it| fs::read_link(it.path()).ok()).any(|file| sockets.contains(&file))
    };
    let holders = pids().into_iter().filter(|_| !sockets.is_empty()).filter(has_it);
    holders.filter_map(|pid| Some((program(pid)?, pid))).collect()
}

/// Returns whether the process is a listener or the supervisor of the runtime directory `run`.
pub(crate) fn serves((program, pid): &(String, u32), run: &Path) -> bool {
    matches!(program.as_str(), "palabre-listener" | "palabre-supervisor")
        && uses_directory(*pid, "--run", run, Some(RUN))
}

/// Returns the sockets that listen on `port`, as links in /proc/PID/fd show them. `table` is /proc/net/tcp or /proc/net/tcp6: proc_net(5).
fn sockets(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let text = fs::read_to_string(table).unwrap_or_default();
    let end = format!(":{port:04X}");
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields.get(1)?.ends_with(&end) && *fields.get(3)? == LISTEN;
        listens.then(|| Some(format!("socket:[{}]", fields.get(9)?))).flatten()
    };
    text.lines().skip(1).filter_map(socket).collect()
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Returns the program name from the command line of a process.
fn program(pid: u32) -> Option<String> {
    let first = arguments(pid).into_iter().next()?;
    Some(Path::new(&first).file_name()?.to_str()?.to_owned())
}

fn arguments(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).split_terminator('\0').map(str::to_owned).collect()
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.split(' ').nth(1)?.parse().ok()
}

/// Returns whether the value of `flag` on the process's command line is `directory`. Without the flag, compares `default`.
fn uses_directory(pid: u32, flag: &str, directory: &Path, default: Option<&str>) -> bool {
    let arguments = arguments(pid);
    let separate =
        arguments.iter().zip(arguments.iter().skip(1)).find(|(word, _)| *word == flag).map(|(_, value)| value.as_str());
    let joined = || arguments.iter().find_map(|word| word.strip_prefix(flag)?.strip_prefix('='));
    // A relative path is relative to the process's working directory.
    let value = separate.or_else(joined).or(default).map(|value| PathBuf::from(format!("/proc/{pid}/cwd")).join(value));
    let real = |path: &Path| path.canonicalize().ok();
    value.and_then(|path| real(&path)).is_some_and(|path| real(directory) == Some(path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn process_serves_if_its_user_is_root_the_owner_of_the_directory_or_the_programs_own() {
        assert_eq!(own_user("palabre-mixer"), Some(MIXER_USER));
        assert_eq!(own_user("palabre-listener"), Some(LISTENER_USER));
        assert_eq!(own_user("palabre-supervisor"), None);
        let run = tempfile::tempdir().unwrap();
        let own = std::process::id();
        assert!(may_serve("palabre-mixer", own, run.path()));
        if User::of_process(own).unwrap().uid != 0 {
            return palabre_testing::not_shown("a process of another user", "only root can start one");
        }
        // Test a process of user 1, first while root owns the runtime directory, then while user 1 owns it.
        let mut other = Command::new("sleep").arg("60").uid(1).spawn().unwrap();
        let in_roots = may_serve("palabre-mixer", other.id(), run.path());
        std::os::unix::fs::chown(run.path(), Some(1), None).unwrap();
        let in_its_own = may_serve("palabre-mixer", other.id(), run.path());
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!((in_roots, in_its_own), (false, true));
    }

    #[test]
    fn name_of_a_listener_s_participant_may_follow_its_flags() {
        for line in [
            "palabre-listener alice --config /etc/palabre --run /run/palabre --make-room",
            "palabre-listener --config bob --run=/run/palabre --make-room alice -v",
            "palabre-listener -v --port 9001 alice",
        ] {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(participant(&arguments), Some("alice"), "{line}");
        }
        assert_eq!(participant(&["palabre-listener".to_owned(), "--source".to_owned(), "a.wav".to_owned()]), None);
    }
}
