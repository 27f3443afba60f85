//! The command line.

use std::path::PathBuf;

use clap::{ArgAction, Parser};

/// Name of this program in log lines and error messages.
pub(crate) const PROG: &str = "palabre-supervisor";

const EXAMPLES: &str = "\
Examples:
  palabre-supervisor
        as systemd starts it: /etc/palabre, /run/palabre
  palabre-supervisor --config ./etc --run ./run --listener target/debug/palabre-listener
        everything below the current directory, as an ordinary user

Signals: SIGHUP reads the configuration again and replaces programs whose files are newer, including this one;
SIGTERM and SIGINT end all listeners within 2 s, then the supervisor.
Exit status: 0 ended by a signal, 1 another supervisor runs there, 2 usage, 78 configuration, 111 system error.";

/// Runs one palabre-listener for each participant and restarts it when it dies
#[derive(Debug, Parser)]
#[command(name = PROG, version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Directory of palabre.toml and participants.d
    #[arg(long, value_name = "DIR", default_value = "/etc/palabre")]
    pub(crate) config: PathBuf,

    /// Runtime directory with the rooms and the control socket
    #[arg(long, value_name = "DIR", default_value = "/run/palabre")]
    pub(crate) run: PathBuf,

    /// Program of the listener, run for each participant [default: palabre-listener beside this program, otherwise in PATH]
    #[arg(long, value_name = "PATH")]
    pub(crate) listener: Option<PathBuf>,

    /// Program that records a room [default: palabre-recorder beside this program, otherwise in PATH]
    #[arg(long, value_name = "PATH")]
    pub(crate) recorder: Option<PathBuf>,

    /// Program that signs TLS handshakes [default: palabre-signer beside this program, otherwise in PATH]
    #[arg(long, value_name = "PATH")]
    pub(crate) signer: Option<PathBuf>,

    /// Start a signer only if no signer of root or of user 'palabre-signer' has connected within 3 s after the start
    #[arg(long)]
    pub(crate) await_signer: bool,

    /// Start listeners only through a launcher of root or of user 'palabre-listener', and wait up to 3 s for it at the start
    #[arg(long)]
    pub(crate) await_launcher: bool,

    /// Directory of the recordings
    #[arg(long, value_name = "DIR", default_value = "/var/lib/palabre/recordings")]
    pub(crate) recordings: PathBuf,

    /// Directory that records which one-time invitation links were used; it also has the secret from which cookies are made
    #[arg(long, value_name = "DIR", default_value = "/var/lib/palabre/links")]
    pub(crate) links: PathBuf,

    /// Directory with the display names that participants have chosen
    #[arg(long, value_name = "DIR", default_value = "/var/lib/palabre/names")]
    pub(crate) names: PathBuf,

    /// Do not level speech, whatever palabre.toml says
    #[arg(long)]
    pub(crate) no_levelling: bool,

    /// Exit when the parent process, whose process ID must be PID, ends
    #[arg(long, value_name = "PID")]
    pub(crate) parent_pid: Option<u32>,

    /// Exit with status 0 if this program can take over from a supervisor whose saved state has version VERSION
    #[arg(long, value_name = "VERSION", hide = true)]
    pub(crate) probe: Option<u32>,

    /// Log more: -v adds lines for debugging, -vv also those of libraries
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
