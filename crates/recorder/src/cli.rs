//! The command-line options of `palabre-recorder`.

use std::path::PathBuf;

use clap::{ArgAction, Parser};
use palabre_room::Name;

/// Name of the program in its log lines and error messages.
pub(crate) const PROGRAM: &str = "palabre-recorder";

const AFTER: &str = "\
Examples:
  palabre-recorder main --out /srv/recordings/monday
      Record the room 'main' until SIGTERM or Ctrl-C into alice.wav, bob.wav and so on, and _room.wav

All files start at the same moment and contain silence where the participant said nothing, so they are aligned. They are
valid at all times, except for the last second. 'palabre record' makes the supervisor run this program.";

/// Records a room: a WAV for each speaker and one of the whole room
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER)]
pub(crate) struct Args {
    /// Room to record
    pub(crate) room: Name,

    /// Directory of the recording, created if necessary. To continue an earlier recording in it, give its start time with --began-ms
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Runtime directory with the rooms
    #[arg(long, value_name = "DIR", default_value = "/run/palabre")]
    pub(crate) run: PathBuf,

    /// Start time of the recording in ms of CLOCK_MONOTONIC, to continue it after the recorder died [default: now]
    #[arg(long, value_name = "MS")]
    pub(crate) began_ms: Option<u64>,

    /// Start new files after this many minutes; a WAV has at most 4 GiB
    #[arg(long, value_name = "MINUTES", default_value_t = 360, value_parser = clap::value_parser!(u64).range(1..=360))]
    pub(crate) part_minutes: u64,

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
