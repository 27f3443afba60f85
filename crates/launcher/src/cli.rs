//! The command-line options of `palabre-launcher`.

use std::path::PathBuf;

use clap::{ArgAction, Parser};

/// Name of the program in its log lines and error messages.
pub(crate) const PROGRAM: &str = "palabre-launcher";

const AFTER: &str = "\
Examples:
  palabre-launcher
      as systemd starts it: /etc/palabre, /run/palabre

Signals: SIGHUP replaces the program if its file is newer, and keeps all listeners; SIGTERM and SIGINT end the launcher
and all listeners.
Exit status: 0 ended by a signal or because the supervisor has ended, 2 usage, 111 system error.";

/// Starts the listeners for the supervisor, as the user of this launcher
///
/// The supervisor must have been started with --await-launcher.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, after_help = AFTER)]
pub(crate) struct Args {
    /// Directory of palabre.toml, which the listeners read
    #[arg(long, value_name = "DIR", default_value = "/etc/palabre")]
    pub(crate) config: PathBuf,

    /// Runtime directory with the rooms and the supervisor's control socket
    #[arg(long, value_name = "DIR", default_value = "/run/palabre")]
    pub(crate) run: PathBuf,

    /// Program of the listener [default: palabre-listener beside this program, otherwise in PATH]
    #[arg(long, value_name = "PATH")]
    pub(crate) listener: Option<PathBuf>,

    /// Log more: -v adds lines for debugging, -vv also those of libraries
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
