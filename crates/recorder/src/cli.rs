//! The command line.

use std::path::PathBuf;

use clap::{ArgAction, Parser};
use palabre_room::Name;

/// The program's name in its messages.
pub const PROGRAM: &str = "palabre-recorder";

const AFTER: &str = "\
Examples:
  palabre-recorder main --out /srv/recordings/monday
      record the room 'main' until SIGTERM or Ctrl-C: alice.wav, bob.wav …, and _room.wav with all of them

Every file begins at the same moment and has silence where nobody spoke: laid over one another they are aligned. The files
are complete at every moment but for the last second. 'palabre record' has the supervisor run this program.";

/// Records a room: a WAV for each speaker and one of all.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER)]
pub struct Args {
    /// The room
    pub room: Name,

    /// Directory of the recording, made if it isn't there; one of an earlier run is continued, see --began-ms
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// The directory of the rooms and the control socket
    #[arg(long, value_name = "DIR", default_value = "/run/palabre")]
    pub run: PathBuf,

    /// When the recording began, in ms of CLOCK_MONOTONIC: to continue one after a death [default: now]
    #[arg(long, value_name = "MS")]
    pub began_ms: Option<u64>,

    /// Begin new files after so many minutes; a WAV holds 4 GiB
    #[arg(long, value_name = "MINUTES", default_value_t = 360, value_parser = clap::value_parser!(u64).range(1..=360))]
    pub part_minutes: u64,

    /// End when this process, which must be our parent, ends
    #[arg(long, value_name = "PID")]
    pub parent_pid: Option<u32>,

    /// Say more: -v for what happens, -vv for everything
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }
}
