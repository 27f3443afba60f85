//! Command line.

use std::path::PathBuf;

use clap::{ArgAction, Parser};
use palabre_host::sandbox::Strictness;

/// Name of this program in log lines and error messages.
pub(crate) const PROGRAM: &str = "palabre-mixer";

const AFTER: &str = "\
Examples:
  palabre-mixer --rooms /run/palabre/rooms --files /var/lib/palabre/files
      Serve every room in this directory, as the systemd service does.

  mkdir -p rooms/main/alice && mkfifo rooms/main/alice/mic rooms/main/alice/ear
  palabre-mixer --rooms rooms
      Create a room with one participant by hand. Samples written to alice/mic are mixed for all
      others; alice/ear gives the mix of all others.

Participants and rooms can be added and removed at any time. SIGUSR1 logs a line of counters. SIGHUP
replaces the program by the file that is now at its path, in the same process. SIGTERM exits.";

/// Gives every participant of a room the mix of all the others, through named pipes.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER)]
pub(crate) struct Args {
    /// Directory of the rooms; each directory in it is a room, each directory in a room is a participant
    #[arg(long, value_name = "DIR")]
    pub(crate) rooms: PathBuf,

    /// Directory on a disk; a symbolic link in place of `mic` or `ear` is followed only to a file in it.
    /// The directory must exist before the mixer starts
    #[arg(long, value_name = "DIR")]
    pub(crate) files: Option<PathBuf>,

    /// Whether the mixer may run without its sandbox: 'required' (no), 'best-effort' (without the parts that the kernel lacks) or 'off' (yes)
    #[arg(long, value_name = "MODE", default_value = "best-effort")]
    pub(crate) sandbox: Strictness,

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
    fn the_command_line_is_valid() {
        Args::command().debug_assert();
    }
}
