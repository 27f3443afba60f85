//! Checks whether systemd could set up the sandbox of each unit, and whether each daemon has the user of its unit. In a container without the
//! permission to mount, systemd can't set up a sandbox.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use palabre_config::SandboxSetting;
use palabre_config::control::Status;
use palabre_host::access::User;

use super::context::word;
use super::finding::Finding;
use crate::cli;
use crate::permission::user_name;
use crate::table;
use crate::units::{self, Unit};

const AREA: &str = "sandbox";
/// Path to which the remedy copies the drop-in [`drop_in`]. There it applies to all units whose names begin with `palabre-`: systemd.unit(5).
const DROP_IN: &str = "/etc/systemd/system/palabre-.service.d/container.conf";

/// The remedy for an incomplete sandbox.
const KERNEL: &str = "use a kernel with Landlock (Linux 5.13) and seccomp  # 'sandbox' in [security] of palabre.toml";

/// Checks the units. They use the default runtime directory, so for another directory nothing is checked.
pub(super) fn check(run: &Path) -> Vec<Finding> {
    if run != Path::new(cli::RUN) {
        return Vec::new();
    }
    let units = units::query(&units::PROGRAMS);
    let users = units.iter().filter_map(|(program, unit)| {
        let user = User::of_process(unit.pid?)?;
        other_user(program, unit, &user_name(user.uid))
    });
    refused(&units, &drop_in()).into_iter().chain(users).collect()
}

/// Reports a daemon whose user isn't the user of its unit, as after an upgrade that gave the unit another user: a process keeps its user when it
/// replaces its program.
fn other_user(program: &str, unit: &Unit, user: &str) -> Option<Finding> {
    let wanted = unit.user.as_deref().filter(|wanted| *wanted != user)?;
    let text = format!("{program} runs as user '{user}', but its systemd unit names the user '{wanted}'");
    Some(Finding::warning(AREA, text, format!("systemctl restart {program}")))
}

fn refused(units: &BTreeMap<String, Unit>, drop_in: &Path) -> Option<Finding> {
    let (program, exit) = units.iter().find_map(|(program, unit)| Some((program, unit.sandbox_exit()?)))?;
    let text = format!("systemd is unable to set up the sandbox of {program}.service: {exit}; usual in a container");
    let remedy = format!(
        "install -D -m 644 {} {DROP_IN} && systemctl daemon-reload && systemctl restart palabre.target",
        word(drop_in)
    );
    Some(Finding::fault(AREA, text, remedy))
}

/// Checks whether the kernel enforces the listeners' own sandboxes. Returns `None` if no listener has reported which parts are enforced.
pub(super) fn listeners(status: &Status, setting: SandboxSetting) -> Option<Finding> {
    let reports = status.participants.iter().filter_map(|one| Some((one.name.as_str(), one.report.as_ref()?)));
    // The text comes from a listener, which an attacker may have taken over. So control characters are replaced.
    let reported: Vec<(&str, String)> = reports
        .map(|(name, report)| (name, table::printable(&report.sandbox)))
        .filter(|(_, sandbox)| !sandbox.is_empty())
        .collect();
    let (_, first) = reported.first()?;
    if setting == SandboxSetting::Off {
        return Some(Finding::ok(AREA, "the listeners have no sandbox of their own, as palabre.toml says"));
    }
    let Some((name, sandbox)) = reported.iter().find(|(_, sandbox)| !is_whole(sandbox)) else {
        return Some(Finding::ok(AREA, format!("each listener runs in its own sandbox: {first}")));
    };
    let text = format!("the sandbox of the listener of '{name}' is incomplete: {sandbox}");
    Some(Finding::warning(AREA, text, KERNEL))
}

/// Checks whether the mixer's sandbox is as the setting `sandbox` says, and whether the kernel enforces all of it. The mixer gets the
/// setting only when it starts.
pub(super) fn mixer(status: &Status, setting: SandboxSetting) -> Option<Finding> {
    let sandbox = crate::status::mixer_sandbox(status)?;
    let restart = "systemctl restart palabre-mixer  # the setting 'sandbox' applies at the start of the mixer";
    Some(match setting {
        SandboxSetting::Off if sandbox == "off" => {
            Finding::ok(AREA, "the mixer has no sandbox of its own, as palabre.toml says")
        }
        SandboxSetting::Off => Finding::warning(
            AREA,
            format!("palabre.toml turns the sandbox off, but the mixer has it: {sandbox}"),
            restart,
        ),
        _ if is_whole(&sandbox) => Finding::ok(AREA, format!("the mixer runs in its own sandbox: {sandbox}")),
        _ if sandbox == "off" => Finding::warning(AREA, "the mixer has no sandbox", restart),
        _ => Finding::warning(AREA, format!("the sandbox of the mixer is incomplete: {sandbox}"), KERNEL),
    })
}

fn is_whole(sandbox: &str) -> bool {
    sandbox.contains("Landlock") && sandbox.contains("seccomp")
}

/// Returns the path of the drop-in that is installed with this program. systemd doesn't read it there.
fn drop_in() -> PathBuf {
    let program = env::current_exe().unwrap_or_default();
    let prefix = program.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
    prefix.join("lib/palabre/container.conf")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_config::control::{ListenerReport, Mixing};

    #[test]
    fn incomplete_sandbox_of_a_listener_is_a_warning_unless_it_is_off() {
        let (mut status, _) = crate::status::tests::scene();
        let mut found = |sandbox: &str, setting| {
            status.participants[0].report =
                Some(ListenerReport { sandbox: sandbox.into(), ..ListenerReport::default() });
            listeners(&status, setting).map(|finding| finding.row()[0].clone())
        };
        assert_eq!(found("", SandboxSetting::BestEffort), None);
        assert_eq!(found("Landlock 6, seccomp", SandboxSetting::BestEffort).unwrap(), "ok");
        assert_eq!(found("seccomp", SandboxSetting::BestEffort).unwrap(), "warning");
        assert_eq!(found("off", SandboxSetting::BestEffort).unwrap(), "warning");
        assert_eq!(found("off", SandboxSetting::Off).unwrap(), "ok");
    }

    #[test]
    fn sandbox_of_the_mixer_is_compared_with_the_setting() {
        let (mut status, _) = crate::status::tests::scene();
        let mut found = |sandbox: &str, setting| {
            status.mixing = Some(Mixing { sandbox: sandbox.into(), ..Mixing::default() });
            mixer(&status, setting).map(|finding| finding.row()[0].clone())
        };
        assert_eq!(found("", SandboxSetting::BestEffort), None);
        assert_eq!(found("Landlock 6, seccomp", SandboxSetting::Required).unwrap(), "ok");
        assert_eq!(found("seccomp", SandboxSetting::BestEffort).unwrap(), "warning");
        assert_eq!(found("off", SandboxSetting::Required).unwrap(), "warning");
        assert_eq!(found("seccomp", SandboxSetting::Off).unwrap(), "warning");
        assert_eq!(found("off", SandboxSetting::Off).unwrap(), "ok");
    }

    #[test]
    fn unit_without_a_sandbox_is_a_fault_with_the_drop_in_as_remedy() {
        let unit = |last_exit: &str| Unit {
            state: "auto-restart".to_owned(),
            pid: None,
            restarts: 9,
            last_exit: Some(last_exit.to_owned()),
            user: None,
        };
        let units = |exit: &str| BTreeMap::from([("palabre-mixer".to_owned(), unit(exit))]);
        let drop_in = Path::new("/usr/lib/palabre/container.conf");
        let expected = Finding::fault(
            AREA,
            "systemd is unable to set up the sandbox of palabre-mixer.service: exit code 226/NAMESPACE; usual in a container",
            "install -D -m 644 /usr/lib/palabre/container.conf /etc/systemd/system/palabre-.service.d/container.conf && \
             systemctl daemon-reload && systemctl restart palabre.target",
        );
        assert_eq!(refused(&units("exit code 226/NAMESPACE"), drop_in), Some(expected));
        assert_eq!(refused(&units("exit code 78"), drop_in), None);
    }

    #[test]
    fn daemon_with_another_user_than_its_unit_is_a_warning() {
        let mut unit = Unit {
            state: "running".to_owned(),
            pid: Some(42),
            restarts: 0,
            last_exit: None,
            user: Some("palabre-mixer".to_owned()),
        };
        assert_eq!(other_user("palabre-mixer", &unit, "palabre-mixer"), None);
        let expected = Finding::warning(
            AREA,
            "palabre-mixer runs as user 'palabre', but its systemd unit names the user 'palabre-mixer'",
            "systemctl restart palabre-mixer",
        );
        assert_eq!(other_user("palabre-mixer", &unit, "palabre"), Some(expected));
        unit.user = None;
        assert_eq!(other_user("palabre-mixer", &unit, "palabre"), None);
    }
}
