//! `palabre logs`: shows the log of a listener or of all daemons by journalctl(1).
//!
//! Each listener sets the journal field `PALABRE_INSTANCE` to the participant's name. The lines of a listener are selected by this field.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use palabre_host::exit::Failure;

use crate::cli::Logs;

/// The socket of journald: systemd-journald.service(8).
const JOURNALD: &str = "/run/systemd/journal/socket";
/// Number of earlier log lines that are shown without `--since`.
const LINES: &str = "200";

/// Replaces this process by journalctl(1).
pub(crate) fn run(logs: &Logs) -> Result<(), Failure> {
    if !Path::new(JOURNALD).exists() {
        let cause = "journald is not running; see the daemons' standard error, or DIR/log of 'palabre try --dir DIR'";
        return Err(Failure::refused(format!("unable to show the log: {cause}")));
    }
    let error = Command::new("journalctl").args(arguments(logs)).exec();
    Err(match error.kind() {
        io::ErrorKind::NotFound => {
            let path = env::var("PATH").unwrap_or_default();
            Failure::system(format!("unable to run 'journalctl': not found in '{path}'; install systemd"))
        }
        _ => Failure::system(format!("unable to run 'journalctl': {error}")),
    })
}

/// Returns the arguments of journalctl(1).
fn arguments(logs: &Logs) -> Vec<String> {
    let mut arguments = match &logs.name {
        // Show the lines with the field. `+` means or: if the listener is a systemd unit, also show systemd's lines about that unit.
        Some(name) => {
            let unit = format!("_SYSTEMD_UNIT=palabre-listener@{name}.service");
            vec![format!("PALABRE_INSTANCE={name}"), "+".to_owned(), unit]
        }
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
