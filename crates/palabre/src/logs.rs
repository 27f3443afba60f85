//! `palabre logs`: the journal, asked for the right lines.
//!
//! The daemons write their instance into a field of the journal (`PALABRE_INSTANCE`), so nothing is searched for in texts.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use palabre_host::exit::Failure;

use crate::cli::Logs;

/// Where journald takes what is said to it: systemd-journald.service(8).
const JOURNALD: &str = "/run/systemd/journal/socket";
/// Lines to begin with, where nobody says since when.
const LINES: &str = "200";

/// Becomes `journalctl`.
///
/// # Errors
/// There is no journal here (refused), or journalctl can't be run (system).
pub fn run(logs: &Logs) -> Result<(), Failure> {
    if !Path::new(JOURNALD).exists() {
        let cause = "no journald runs here; the log is what the daemons write to standard error ('palabre try --dir DIR': DIR/log)";
        return Err(Failure::refused(format!("unable to show the log: {cause}")));
    }
    let error = Command::new("journalctl").args(arguments(logs)).exec();
    Err(match error.kind() {
        io::ErrorKind::NotFound => {
            let path = env::var("PATH").unwrap_or_default();
            Failure::system(format!("unable to run 'journalctl': it is not in '{path}'; install systemd"))
        }
        _ => Failure::system(format!("unable to run 'journalctl': {error}")),
    })
}

/// What journalctl(1) is to show: one listener, or whatever is ours.
fn arguments(logs: &Logs) -> Vec<String> {
    let mut arguments = match &logs.name {
        // What systemd says of a listener's unit of its own belongs there too; a + is an or.
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
    fn the_journal_is_asked_for_a_participant_by_its_field() {
        let alice = Logs { name: Some("alice".parse().unwrap()), since: None, no_follow: false };
        let expected =
            ["PALABRE_INSTANCE=alice", "+", "_SYSTEMD_UNIT=palabre-listener@alice.service", "--lines=200", "--follow"];
        assert_eq!(arguments(&alice), expected);
        let all = Logs { name: None, since: Some("-1h".into()), no_follow: true };
        assert_eq!(arguments(&all), ["--unit=palabre*", "--since=-1h"]);
    }
}
