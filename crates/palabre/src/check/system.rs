//! Checks resources of the machine: ports, pipes, inotify watches, the clock.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use palabre_config::{Participant, port};
use palabre_host::sockets;
use palabre_room::{EarFrames, PIPE_MS};

use super::context::{Context, has_systemd, number};
use super::finding::Finding;
use super::limits::{self, DESCRIPTORS};
use crate::{command, processes};

const PAGE_BYTES: u64 = 4096;
/// Timeout for timedatectl(1).
const TIMEOUT: Duration = Duration::from_secs(2);
/// 1 January 2026, in seconds since 1970. An earlier time of the clock is wrong, since the first release is later.
const MIN_TIME_S: u64 = 1_767_225_600;

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let mut findings = ports(context);
    findings.extend([
        limits::open_files(context),
        limits::threads(context),
        pipes(context),
        watches(context),
        clock(SystemTime::now(), is_synchronized()),
    ]);
    findings
}

/// Checks that on each participant's port either a listener serves or no program listens.
fn ports(context: &Context<'_>) -> Vec<Finding> {
    const AREA: &str = "ports";
    let served = context.status.iter().flat_map(|status| &status.participants).filter(|one| one.pid.is_some());
    let mut served_ports: BTreeSet<u16> = served.map(|one| one.port).collect();
    let others = context.participants.iter().filter(|one| one.port != 0 && !served_ports.contains(&one.port));
    let mut findings = Vec::new();
    for one in others.collect::<Vec<_>>() {
        let Err(error) = sockets::listen(context.server.bind, one.port) else { continue };
        if error.kind() == ErrorKind::AddrInUse && is_served(context, one) {
            served_ports.insert(one.port);
        } else {
            findings.push(not_free(context, one, &error));
        }
    }
    findings.extend(context.participants.iter().filter_map(|one| unusual(context, one)));
    if findings.is_empty() {
        findings.push(Finding::ok(
            AREA,
            format!(
                "number of ports with a listener: {}; the ports of all other participants are free",
                served_ports.len()
            ),
        ));
    }
    findings
}

/// Returns a finding for a participant's port that clients may not be able to use.
fn unusual(context: &Context<'_>, one: &Participant) -> Option<Finding> {
    const AREA: &str = "ports";
    let (port, range) = (format!("port {} of '{}'", one.port, one.name), context.server.ports);
    if context.server.links.is_direct() && port::is_refused_by_browsers(one.port) {
        let text = format!("browsers don't connect to {port}, which belongs to another protocol");
        let edit = context.directories.edit(&Participant::path(context.directories.config, &one.name), None);
        return Some(Finding::fault(
            AREA,
            text,
            format!("{edit}  # change 'port'; the link then has another port too"),
        ));
    }
    let text = format!("{port} is outside the range {range}, so a firewall may block it");
    let edit = context.directories.edit(&context.server_file(), None);
    let remedy = format!("{edit}  # extend 'ports', or change 'port' in the participant's file");
    (context.server.links.is_direct() && one.port != 0 && !range.contains(one.port))
        .then(|| Finding::warning(AREA, text, remedy))
}

/// Returns whether the participant's port is open in a listener or in the supervisor, or the participant's listener runs.
fn is_served(context: &Context<'_>, one: &Participant) -> bool {
    let run = context.directories.run;
    processes::holders(one.port).iter().any(|holder| processes::serves(holder, run))
        || processes::has_listener(one.name.as_str(), run)
}

/// Returns a finding for a participant's port that can't be opened.
fn not_free(context: &Context<'_>, one: &Participant, error: &io::Error) -> Finding {
    const AREA: &str = "ports";
    let port = format!("port {} of '{}'", one.port, one.name);
    match (error.kind(), processes::holders(one.port).first()) {
        (ErrorKind::AddrInUse, None) => {
            let text = format!("can't see as this user which program uses {port}");
            Finding::unseen(AREA, text, context.directories)
        }
        // Process 1 is the service manager if systemd runs. Otherwise, as in a container, process 1 may be any program.
        (ErrorKind::AddrInUse, Some((_, 1))) if has_systemd() => {
            let text = format!("the service manager has {port} open for a supervisor that doesn't run");
            Finding::warning(AREA, text, "systemctl restart palabre-supervisor")
        }
        (ErrorKind::AddrInUse, Some((program, pid))) => {
            let text = format!("{port} is in use by another program: '{program}' (process {pid})");
            let file = Participant::path(context.directories.config, &one.name);
            let remedy = format!(
                "end that program, or change 'port' in '{}'; the link then has another port too",
                file.display()
            );
            Finding::fault(AREA, text, remedy)
        }
        // A warning only, since the daemons may have the permission to use this port.
        (ErrorKind::PermissionDenied, _) => {
            Finding::unseen(AREA, format!("unable to test {port}: no permission"), context.directories)
        }
        _ => {
            let edit = context.directories.edit(&context.server_file(), None);
            let text = format!("unable to listen on {port} at the address '{}': {error}", context.server.bind);
            Finding::fault(AREA, text, format!("{edit}  # set 'bind' to an address of this machine"))
        }
    }
}

fn pipes(context: &Context<'_>) -> Finding {
    let bytes = |ms| context.server.format.bytes_in_ms(ms) as u64;
    // The kernel rounds the size of a pipe up to a number of pages that is a power of two.
    let pages = |ms| bytes(ms).div_ceil(PAGE_BYTES).next_power_of_two();
    let of_ear = pages(EarFrames::of_chunk(context.server.chunk_ms).pipe_ms());
    let needed = context.participant_count() * (pages(PIPE_MS) + of_ear);
    enough_pipes(needed, number(Path::new("/proc/sys/fs/pipe-user-pages-soft")))
}

/// Compares the number of pages that all pipes need with the user's limit. 0 and `None` mean that there is no limit.
fn enough_pipes(needed: u64, max: Option<u64>) -> Finding {
    const AREA: &str = "pipes";
    let Some(max) = max.filter(|max| *max != 0) else {
        return Finding::ok(AREA, "the kernel doesn't limit the memory for the pipes of a user");
    };
    if max < needed {
        let text = format!(
            "the pipes need {needed} pages of memory, a user may have {max}: further pipes would hold only 8 KiB"
        );
        return Finding::fault(AREA, text, format!("sysctl -w fs.pipe-user-pages-soft={}", needed * 2));
    }
    Finding::ok(
        AREA,
        format!("the memory for pipes suffices: they need {needed} of the {max} pages that a user may have"),
    )
}

fn watches(context: &Context<'_>) -> Finding {
    let needed = 2 * context.participant_count() + DESCRIPTORS;
    enough_watches(needed, number(Path::new("/proc/sys/fs/inotify/max_user_watches")).unwrap_or(u64::MAX))
}

fn enough_watches(needed: u64, max: u64) -> Finding {
    const AREA: &str = "watches";
    if max < needed {
        let text = format!("the mixer needs {needed} inotify watches, but only {max} are allowed per user");
        return Finding::fault(AREA, text, format!("sysctl -w fs.inotify.max_user_watches={}", needed * 2));
    }
    Finding::ok(AREA, format!("the limit of inotify watches suffices: the mixer needs at most {needed}"))
}

/// Checks the clock, which decides when certificates and keys expire.
fn clock(now: SystemTime, is_synchronized: Option<bool>) -> Finding {
    const AREA: &str = "clock";
    // A container has the clock of its host and can't set it.
    let in_container = Path::new("/run/systemd/container").exists();
    let remedy =
        if in_container { "synchronize the clock of this container's host" } else { "timedatectl set-ntp true" };
    if now < SystemTime::UNIX_EPOCH + Duration::from_secs(MIN_TIME_S) {
        return Finding::fault(AREA, "the time is before 2026", remedy);
    }
    match is_synchronized {
        Some(false) => Finding::warning(AREA, "the kernel's clock is not synchronized", remedy),
        Some(true) => Finding::ok(AREA, "the clock is synchronized"),
        None => Finding::ok(AREA, "the clock is set; can't see whether it is synchronized"),
    }
}

/// Returns whether the kernel says that its clock is synchronized; `None` if timedatectl(1), which calls adjtimex(2), can't tell.
fn is_synchronized() -> Option<bool> {
    let mut command = Command::new("timedatectl");
    let ended = command::run(command.args(["show", "--property=NTPSynchronized", "--value"]), TIMEOUT)?;
    match ended.stdout.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::finding::Level;

    #[test]
    fn low_kernel_limit_is_a_fault_with_a_remedy() {
        assert_eq!(
            enough_pipes(16_384, Some(16_384)),
            Finding::ok(
                "pipes",
                "the memory for pipes suffices: they need 16384 of the 16384 pages that a user may have"
            )
        );
        assert_eq!(
            enough_pipes(1, Some(0)),
            Finding::ok("pipes", "the kernel doesn't limit the memory for the pipes of a user")
        );
        let few = enough_pipes(16_400, Some(16_384));
        assert_eq!((few.level, few.remedy.as_deref()), (Level::Fault, Some("sysctl -w fs.pipe-user-pages-soft=32800")));
        let few = enough_watches(100, 99);
        assert_eq!(
            (few.level, few.remedy.as_deref()),
            (Level::Fault, Some("sysctl -w fs.inotify.max_user_watches=200"))
        );
        assert_eq!(enough_watches(99, 99).level, Level::Ok);
    }

    #[test]
    fn clock_that_is_not_set_is_a_fault() {
        let unset = clock(SystemTime::UNIX_EPOCH, Some(true));
        assert_eq!((unset.level, unset.text.as_str()), (Level::Fault, "the time is before 2026"));
        for (is_synchronized, level) in [(Some(true), Level::Ok), (Some(false), Level::Warning), (None, Level::Ok)] {
            assert_eq!(clock(SystemTime::now(), is_synchronized).level, level);
        }
    }
}
