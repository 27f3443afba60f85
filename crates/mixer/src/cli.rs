//! The command line.

use std::path::PathBuf;

use clap::{ArgAction, Parser};

/// The program's name in its messages.
pub const PROGRAM: &str = "palabre-mixer";

const AFTER: &str = "\
Examples:
  palabre-mixer --rooms /run/palabre/rooms
      serve every room in this directory, as the service does

  mkdir -p rooms/main/alice && mkfifo rooms/main/alice/mic rooms/main/alice/ear
  palabre-mixer --rooms rooms
      a room by hand: whoever writes alice/mic is heard by all the others, alice/ear gives all the others

Participants and rooms may come and go at any time. On SIGUSR1 a line of counters is logged; SIGHUP
replaces the program by the one now at its path, in the same process; SIGTERM ends with 0.";

/// Gives every participant of a room the mix of all the others, through named pipes.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER)]
pub struct Args {
    /// Directory of the rooms: each directory in it is a room, each directory in a room a participant
    #[arg(long, value_name = "DIR")]
    pub rooms: PathBuf,

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
