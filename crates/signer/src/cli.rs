//! The command-line options of `palabre-signer`.

use std::path::PathBuf;

use clap::{ArgAction, Parser};

/// Name of the program in its log lines and error messages.
pub(crate) const PROGRAM: &str = "palabre-signer";

const AFTER: &str = "\
Examples:
  palabre-signer
      as systemd starts it: /etc/palabre, /run/palabre

Signals: SIGHUP reads palabre.toml, the certificate and the key again; SIGTERM and SIGINT end the signer.
Exit status: 0 ended by a signal or with the supervisor, 2 usage, 78 configuration, 111 system error.";

/// Keeps the private key of the TLS certificate and signs handshakes for the listeners
///
/// The supervisor starts a signer unless a signer of another user has connected to it.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, after_help = AFTER)]
pub(crate) struct Args {
    /// Directory of palabre.toml, which names the certificate and the key
    #[arg(long, value_name = "DIR", default_value = "/etc/palabre")]
    pub(crate) config: PathBuf,

    /// Runtime directory with the supervisor's control socket
    #[arg(long, value_name = "DIR", default_value = "/run/palabre")]
    pub(crate) run: PathBuf,

    /// Exit when the parent process, whose process ID must be PID, ends
    #[arg(long, value_name = "PID")]
    pub(crate) parent_pid: Option<u32>,

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
