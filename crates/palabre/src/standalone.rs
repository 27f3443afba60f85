//! Listeners that run without a supervisor: as `palabre-listener@NAME.service`, or started by hand. Such a listener reads the participant's
//! file only when it starts.

use std::fs;
use std::path::Path;
use std::process::Command;

use palabre_host::exit::Failure;

use crate::processes;

/// What has happened to a participant's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Edited,
    Removed,
}

impl Change {
    /// Returns the command that restarts the unit of the listener. If the participant's file was removed, returns the command that stops and
    /// disables the unit.
    fn command(self, name: &str) -> Vec<String> {
        let verb = match self {
            Self::Edited => &["restart"][..],
            Self::Removed => &["disable", "--now"],
        };
        let words = ["systemctl"].into_iter().chain(verb.iter().copied()).map(str::to_owned);
        words.chain([unit(name)]).collect()
    }
}

fn unit(name: &str) -> String {
    format!("palabre-listener@{name}.service")
}

/// Makes the listener of `name` act on the change of the participant's file, if it runs without a supervisor. Returns false if no such
/// listener runs.
pub(crate) fn apply(run: &Path, name: &str, change: Change) -> Result<bool, Failure> {
    let Some(pid) = processes::listener_without_supervisor(name, run) else {
        return Ok(false);
    };
    let done = if change == Change::Removed { "removed" } else { "changed" };
    let still = format!(
        "the participant's file was {done}, but the listener of '{name}' (process {pid}) still uses the previous file"
    );
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    if !cgroup.trim_end().ends_with(&unit(name)) {
        let remedy = if change == Change::Removed {
            "end the listener's process"
        } else {
            "end the listener's process, and start the listener again"
        };
        return Err(Failure::refused(format!(
            "{still}: neither a supervisor nor systemd restarts this listener; {remedy}"
        )));
    }
    let command = change.command(name);
    match Command::new(&command[0]).args(&command[1..]).status() {
        Ok(status) if status.success() => Ok(true),
        _ => Err(Failure::refused(format!("{still}; run '{}' as root", command.join(" ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_file_restarts_the_unit_and_removed_file_disables_it() {
        let command = |change: Change| change.command("alice").join(" ");
        assert_eq!(command(Change::Edited), "systemctl restart palabre-listener@alice.service");
        assert_eq!(command(Change::Removed), "systemctl disable --now palabre-listener@alice.service");
    }
}
