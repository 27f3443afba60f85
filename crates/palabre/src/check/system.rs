//! What the machine must have for so many participants: ports, pipes, watches, a clock.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

use palabre_config::Participant;
use palabre_host::sockets;
use palabre_room::PIPE_MS;

use super::limits::{self, DESCRIPTORS};
use super::{Finding, Scene, has_systemd};

const PAGE_BYTES: u64 = 4096;
/// Nobody has built this before.
const FIRST_DAY_S: u64 = 1_767_225_600;

/// All about it.
pub fn look(scene: &Scene<'_>) -> Vec<Finding> {
    let mut findings = ports(scene);
    findings.extend([
        limits::nofile(scene),
        limits::threads(scene),
        pipes(scene),
        watches(scene),
        clock(SystemTime::now()),
    ]);
    findings
}

/// Each participant's port is open by us, or free.
fn ports(scene: &Scene<'_>) -> Vec<Finding> {
    const AREA: &str = "ports";
    let served = scene.status.iter().flat_map(|status| &status.participants).filter(|one| one.pid.is_some());
    let ours: BTreeSet<u16> = served.map(|one| one.port).collect();
    let others = scene.participants.iter().filter(|one| one.port != 0 && !ours.contains(&one.port));
    let mut findings: Vec<Finding> = others
        .filter_map(|one| {
            let error = sockets::listen(scene.server.bind, one.port).err()?;
            let who = format!("port {} of '{}'", one.port, one.name);
            Some(match error.kind() {
                ErrorKind::AddrInUse => {
                    let text = format!("{who} belongs to another program");
                    Finding::fault(AREA, text, format!("ss -ltnp 'sport = :{}'  # says which", one.port))
                }
                ErrorKind::PermissionDenied => {
                    // The daemons may be allowed to what we are not.
                    Finding::warning(
                        AREA,
                        format!("{who} is not ours to try"),
                        format!("sudo {} check", scene.places.palabre()),
                    )
                }
                _ => {
                    let mend = format!("{}  # 'bind'", scene.places.edit(&scene.file(), None));
                    Finding::fault(AREA, format!("{who} can't be opened on '{}': {error}", scene.server.bind), mend)
                }
            })
        })
        .collect();
    let range = scene.server.ports;
    let outside = |one: &&Participant| one.port != 0 && !range.iter().any(|port| port == one.port);
    if let Some(one) = scene.participants.iter().find(outside) {
        let text =
            format!("port {} of '{}' isn't one of {range}, which a firewall may be open for", one.port, one.name);
        let mend = format!("{}  # 'ports', or 'port' in their file", scene.places.edit(&scene.file(), None));
        findings.push(Finding::warning(AREA, text, mend));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(AREA, format!("{} ours, the others free", ours.len())));
    }
    findings
}

fn pipes(scene: &Scene<'_>) -> Finding {
    let bytes = scene.server.format.bytes_in_ms(PIPE_MS) as u64;
    // The kernel rounds up to a power of two.
    let needed = 2 * scene.people() * bytes.div_ceil(PAGE_BYTES).next_power_of_two();
    enough_pipes(needed, number(Path::new("/proc/sys/fs/pipe-user-pages-soft")))
}

/// In pages; 0 and nothing are no limit.
fn enough_pipes(needed: u64, most: Option<u64>) -> Finding {
    const AREA: &str = "pipes";
    let Some(most) = most.filter(|most| *most != 0) else {
        return Finding::ok(AREA, "no limit");
    };
    if most < needed {
        let text = format!("{needed} pages are needed, and a user has {most}: new pipes would hold 8 KiB");
        return Finding::fault(AREA, text, format!("sysctl -w fs.pipe-user-pages-soft={}", needed * 2));
    }
    Finding::ok(AREA, format!("{needed} of {most} pages"))
}

fn watches(scene: &Scene<'_>) -> Finding {
    let needed = 2 * scene.people() + DESCRIPTORS;
    enough_watches(needed, number(Path::new("/proc/sys/fs/inotify/max_user_watches")).unwrap_or(u64::MAX))
}

fn enough_watches(needed: u64, most: u64) -> Finding {
    const AREA: &str = "watches";
    if most < needed {
        let text = format!("the mixer needs {needed}, and a user has {most}");
        return Finding::fault(AREA, text, format!("sysctl -w fs.inotify.max_user_watches={}", needed * 2));
    }
    Finding::ok(AREA, format!("{needed} at most"))
}

/// Certificates and keys end by it.
fn clock(now: SystemTime) -> Finding {
    const AREA: &str = "clock";
    const MEND: &str = "timedatectl set-ntp true";
    if now < SystemTime::UNIX_EPOCH + Duration::from_secs(FIRST_DAY_S) {
        return Finding::fault(AREA, "stands before 2026", MEND);
    }
    let sets_it = ["/run/systemd/timesync/synchronized", "/run/chrony", "/run/ntpd.pid"];
    if has_systemd() && !sets_it.iter().any(|path| Path::new(path).exists()) {
        return Finding::warning(AREA, "nobody is seen to set it", MEND);
    }
    Finding::ok(AREA, "is set")
}

/// The number in a file of the kernel's.
pub fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Level;

    #[test]
    fn what_the_kernel_has_too_little_of_is_a_fault_with_the_command_that_mends_it() {
        assert_eq!(enough_pipes(16_384, Some(16_384)), Finding::ok("pipes", "16384 of 16384 pages"));
        assert_eq!(enough_pipes(1, Some(0)), Finding::ok("pipes", "no limit"));
        let few = enough_pipes(16_400, Some(16_384));
        assert_eq!((few.level, few.mend.as_deref()), (Level::Fault, Some("sysctl -w fs.pipe-user-pages-soft=32800")));
        let few = enough_watches(100, 99);
        assert_eq!((few.level, few.mend.as_deref()), (Level::Fault, Some("sysctl -w fs.inotify.max_user_watches=200")));
        assert_eq!(enough_watches(99, 99).level, Level::Ok);
    }

    #[test]
    fn a_clock_that_nobody_has_set_is_a_fault() {
        let unset = clock(SystemTime::UNIX_EPOCH);
        assert_eq!((unset.level, unset.mend.as_deref()), (Level::Fault, Some("timedatectl set-ntp true")));
        assert_ne!(clock(SystemTime::now()).level, Level::Fault);
    }
}
