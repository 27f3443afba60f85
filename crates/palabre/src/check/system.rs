//! What the machine must have for so many participants: ports, descriptors, threads, pipes, watches, a clock.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

use palabre_config::{PARTICIPANTS_DIR, Participant};
use palabre_host::sockets;

use super::{Finding, Scene};
use crate::processes;

/// What a process has open besides what grows with the participants or connections.
const DESCRIPTORS: u64 = 64;
/// Threads of a listener besides one for each connection.
const THREADS: u64 = 4;
const PAGE_BYTES: u64 = 4096;
/// How much sound a pipe holds.
const PIPE_MS: u64 = 400;
/// Nobody has built this before.
const FIRST_DAY_S: u64 = 1_767_225_600;

/// All about it.
pub fn look(scene: &Scene<'_>) -> Vec<Finding> {
    let mut findings = ports(scene);
    findings.extend([nofile(scene), threads(scene), pipes(scene), watches(scene), clock(SystemTime::now())]);
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
                    Finding::fault(AREA, text, format!("ss -ltnp 'sport = :{}' says which", one.port))
                }
                ErrorKind::PermissionDenied => {
                    // The daemons may be allowed to what we are not.
                    Finding::warning(AREA, format!("{who} is not ours to try"), "ask as root")
                }
                _ => {
                    let mend = format!("set 'bind' in '{}'", scene.config.join("palabre.toml").display());
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
        let path = scene.config.join(PARTICIPANTS_DIR).join(format!("{}.toml", one.name));
        findings.push(Finding::warning(
            AREA,
            text,
            format!("set 'ports' in palabre.toml, or 'port' in '{}'", path.display()),
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(AREA, format!("{} ours, the others free", ours.len())));
    }
    findings
}

/// The limit of a process that is ours, else our own: `Max open files` and its kin.
fn limit(scene: &Scene<'_>, program: &str, line: &str) -> u64 {
    let pid =
        processes::others(scene.run).into_iter().find(|(name, _)| name == program).map(|(_, pid)| pid.to_string());
    let of = |who: &str| fs::read_to_string(format!("/proc/{who}/limits")).ok();
    let text = pid.and_then(|pid| of(&pid)).or_else(|| of("self")).unwrap_or_default();
    let hard = text.lines().find_map(|text| text.strip_prefix(line)?.split_whitespace().nth(1));
    hard.and_then(|hard| hard.parse().ok()).unwrap_or(u64::MAX)
}

fn people(scene: &Scene<'_>) -> u64 {
    scene.participants.len() as u64
}

fn nofile(scene: &Scene<'_>) -> Finding {
    const AREA: &str = "descriptors";
    let needed = [
        ("palabre-mixer", 2 * people(scene) + DESCRIPTORS),
        ("palabre-supervisor", people(scene).max(scene.server.limits.connections as u64) + DESCRIPTORS),
    ];
    for (program, needed) in needed {
        let most = limit(scene, program, "Max open files");
        if most < needed {
            let text = format!("{program} may have {most} and needs {needed}");
            return Finding::fault(
                AREA,
                text,
                format!("LimitNOFILE={needed} by systemctl edit {program}, or ulimit -Hn {needed}"),
            );
        }
    }
    Finding::ok(AREA, "enough for every participant")
}

fn threads(scene: &Scene<'_>) -> Finding {
    const AREA: &str = "threads";
    let needed = people(scene) * (scene.server.limits.connections as u64 + THREADS);
    let most = tasks_max(scene).min(limit(scene, "palabre-supervisor", "Max processes"));
    if most < needed {
        let text =
            format!("the listeners may have {most}, and {needed} if everybody makes all connections that they may");
        return Finding::warning(AREA, text, "TasksMax=infinity by systemctl edit palabre-supervisor");
    }
    Finding::ok(AREA, format!("{needed} at most"))
}

/// `pids.max` of the control groups around the supervisor, or around us (cgroups(7), version 2).
fn tasks_max(scene: &Scene<'_>) -> u64 {
    let supervisor = processes::others(scene.run).into_iter().find(|(name, _)| name == "palabre-supervisor");
    let who = supervisor.map_or_else(|| "self".to_owned(), |(_, pid)| pid.to_string());
    let text = fs::read_to_string(format!("/proc/{who}/cgroup")).unwrap_or_default();
    let Some(group) = text.lines().find_map(|line| line.strip_prefix("0::/")) else { return u64::MAX };
    let group = Path::new("/sys/fs/cgroup").join(group);
    let most = |group: &Path| number(&group.join("pids.max"));
    group.ancestors().filter_map(most).min().unwrap_or(u64::MAX)
}

fn pipes(scene: &Scene<'_>) -> Finding {
    let bytes = scene.server.format.bytes_in_ms(PIPE_MS) as u64;
    // The kernel rounds up to a power of two.
    let needed = 2 * people(scene) * bytes.div_ceil(PAGE_BYTES).next_power_of_two();
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
    let needed = 2 * people(scene) + DESCRIPTORS;
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
    let is_systemd = Path::new("/run/systemd/system").exists();
    let sets_it = ["/run/systemd/timesync/synchronized", "/run/chrony", "/run/ntpd.pid"];
    if is_systemd && !sets_it.iter().any(|path| Path::new(path).exists()) {
        return Finding::warning(AREA, "nobody is seen to set it", MEND);
    }
    Finding::ok(AREA, "is set")
}

fn number(path: &Path) -> Option<u64> {
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
