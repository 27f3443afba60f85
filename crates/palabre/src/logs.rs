//! `palabre logs`: shows the log of a listener or of all daemons by journalctl(1).
//!
//! Each listener sets the journal field `PALABRE_INSTANCE` to the participant's name, and the supervisor does so in its lines about a
//! participant. The lines are selected by this field.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use palabre_config::Participant;
use palabre_host::exit::Failure;
use palabre_room::Name;

use crate::cli::{Cli, Logs};

/// The socket of journald: systemd-journald.service(8).
const JOURNALD: &str = "/run/systemd/journal/socket";
/// Number of earlier log lines that are shown without `--since`.
const LINES: &str = "200";

/// Replaces this process by journalctl(1).
pub(crate) fn run(cli: &Cli, logs: &Logs) -> Result<(), Failure> {
    if !Path::new(JOURNALD).exists() {
        let cause = "journald is not running; read what the daemons write to standard error; those of 'palabre try --dir DIR' write to the file DIR/log";
        return Err(Failure::refused(format!("unable to show the log: {cause}")));
    }
    if let Some(name) = &logs.name
        && !Participant::path(cli.config_dir(), name).exists()
        && !is_in_journal(name).map_err(|error| unable(&error))?
    {
        let cause = "there is no such participant, and the log has no lines about this name";
        return Err(Failure::refused(format!("unable to show the log of '{name}': {cause}; see 'palabre list'")));
    }
    Err(unable(&Command::new("journalctl").args(arguments(logs)).exec()))
}

/// Returns whether the journal has a line about the participant, who may have been revoked.
fn is_in_journal(name: &Name) -> io::Result<bool> {
    let mut command = Command::new("journalctl");
    command.args(["--quiet", "--lines=1", "--output=cat"]).args(selection(name));
    Ok(!command.stdin(Stdio::null()).stderr(Stdio::null()).output()?.stdout.is_empty())
}

fn unable(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => {
            let path = env::var("PATH").unwrap_or_default();
            Failure::system(format!(
                "unable to run 'journalctl': it is in no directory of PATH, which is '{path}'; install systemd, or correct PATH"
            ))
        }
        _ => Failure::system(format!("unable to run 'journalctl': {error}")),
    }
}

/// Returns the arguments of journalctl(1) that select the lines about a participant. `+` means or: if the listener is a systemd unit, also
/// systemd's lines about that unit are selected.
fn selection(name: &Name) -> [String; 3] {
    [format!("PALABRE_INSTANCE={name}"), "+".to_owned(), format!("_SYSTEMD_UNIT=palabre-listener@{name}.service")]
}

/// Returns the arguments of journalctl(1).
fn arguments(logs: &Logs) -> Vec<String> {
    let mut arguments = match &logs.name {
        Some(name) => selection(name).to_vec(),
        None => vec!["--unit=palabre*".to_owned()],
    };
    arguments.extend(match &logs.since {
        Some(since) => vec![format!("--since={since}")],
        None => vec![format!("--lines={LINES}")],
    });
    if !logs.no_follow {
        arguments.push("--follow".to_owned());
    }
    arguments
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn listener_is_selected_by_field_or_unit() {
        let alice = Logs { name: Some("alice".parse().unwrap()), since: None, no_follow: false };
        let expected =
            ["PALABRE_INSTANCE=alice", "+", "_SYSTEMD_UNIT=palabre-listener@alice.service", "--lines=200", "--follow"];
        assert_eq!(arguments(&alice), expected);
        let all = Logs { name: None, since: Some("-1h".into()), no_follow: true };
        assert_eq!(arguments(&all), ["--unit=palabre*", "--since=-1h"]);
    }
}
