//! Checks resources of the machine: ports, pipes, inotify watches, the clock.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

use palabre_config::Participant;
use palabre_host::sockets;
use palabre_room::PIPE_MS;

use super::context::{Context, has_systemd, number};
use super::finding::Finding;
use super::limits::{self, DESCRIPTORS};

const PAGE_BYTES: u64 = 4096;
/// 1 January 2026, in seconds since 1970. An earlier time of the clock is wrong, since the first release is later.
const MIN_TIME_S: u64 = 1_767_225_600;

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let mut findings = ports(context);
    findings.extend([
        limits::open_files(context),
        limits::threads(context),
        pipes(context),
        watches(context),
        clock(SystemTime::now()),
    ]);
    findings
}

/// Checks that on each participant's port either a listener serves or no program listens.
fn ports(context: &Context<'_>) -> Vec<Finding> {
    const AREA: &str = "ports";
    let served = context.status.iter().flat_map(|status| &status.participants).filter(|one| one.pid.is_some());
    let served_ports: BTreeSet<u16> = served.map(|one| one.port).collect();
    let others = context.participants.iter().filter(|one| one.port != 0 && !served_ports.contains(&one.port));
    let mut findings: Vec<Finding> = others
        .filter_map(|one| {
            let error = sockets::listen(context.server.bind, one.port).err()?;
            let (port, name) = (one.port, &one.name);
            Some(match error.kind() {
                ErrorKind::AddrInUse => {
                    let text = format!("port {port} of '{name}' is in use by another program");
                    Finding::fault(AREA, text, format!("ss -ltnp 'sport = :{port}'  # shows the program"))
                }
                ErrorKind::PermissionDenied => {
                    // A warning only, since the daemons may have the permission to use this port.
                    Finding::warning(
                        AREA,
                        format!("unable to test port {port} of '{name}': no permission"),
                        format!("sudo {} check", context.directories.palabre()),
                    )
                }
                _ => {
                    let remedy = format!(
                        "{}  # set 'bind' to an address of this machine",
                        context.directories.edit(&context.server_file(), None)
                    );
                    Finding::fault(
                        AREA,
                        format!(
                            "unable to listen on port {port} of '{name}' at the address '{}': {error}",
                            context.server.bind
                        ),
                        remedy,
                    )
                }
            })
        })
        .collect();
    let range = context.server.ports;
    let outside = |one: &&Participant| one.port != 0 && !range.iter().any(|port| port == one.port);
    if let Some(one) = context.participants.iter().find(outside) {
        let text =
            format!("port {} of '{}' is outside the range {range}, so a firewall may block it", one.port, one.name);
        let remedy = format!(
            "{}  # change 'ports', or 'port' in the participant's file",
            context.directories.edit(&context.server_file(), None)
        );
        findings.push(Finding::warning(AREA, text, remedy));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            AREA,
            format!("listeners serve {} ports, and the ports of all other participants are free", served_ports.len()),
        ));
    }
    findings
}

fn pipes(context: &Context<'_>) -> Finding {
    let bytes = context.server.format.bytes_in_ms(PIPE_MS) as u64;
    // The kernel rounds the size of a pipe up to a power of two pages.
    let needed = 2 * context.participant_count() * bytes.div_ceil(PAGE_BYTES).next_power_of_two();
    enough_pipes(needed, number(Path::new("/proc/sys/fs/pipe-user-pages-soft")))
}

/// Compares the number of pages that all pipes need with the user's limit. 0 and `None` mean that there is no limit.
fn enough_pipes(needed: u64, max: Option<u64>) -> Finding {
    const AREA: &str = "pipes";
    let Some(max) = max.filter(|max| *max != 0) else {
        return Finding::ok(AREA, "the size of pipes has no limit");
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
fn clock(now: SystemTime) -> Finding {
    const AREA: &str = "clock";
    const REMEDY: &str = "timedatectl set-ntp true";
    if now < SystemTime::UNIX_EPOCH + Duration::from_secs(MIN_TIME_S) {
        return Finding::fault(AREA, "the time is before 2026", REMEDY);
    }
    let synchronized = ["/run/systemd/timesync/synchronized", "/run/chrony", "/run/ntpd.pid"];
    if has_systemd() && !synchronized.iter().any(|path| Path::new(path).exists()) {
        return Finding::warning(AREA, "no time synchronization found", REMEDY);
    }
    Finding::ok(AREA, "the clock is set")
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
        assert_eq!(enough_pipes(1, Some(0)), Finding::ok("pipes", "the size of pipes has no limit"));
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
        let unset = clock(SystemTime::UNIX_EPOCH);
        assert_eq!((unset.level, unset.remedy.as_deref()), (Level::Fault, Some("timedatectl set-ntp true")));
        assert_ne!(clock(SystemTime::now()).level, Level::Fault);
    }
}
