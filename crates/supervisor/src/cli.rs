//! The command line.

use std::path::PathBuf;

use clap::{ArgAction, Parser};

/// The program's name, in the log and in messages.
pub const PROG: &str = "palabre-supervisor";

const EXAMPLES: &str = "\
Examples:
  palabre-supervisor
        as systemd starts it: /etc/palabre, /run/palabre
  palabre-supervisor --config ./etc --run ./run --listener target/debug/palabre-listener
        everything below the current directory, as an ordinary user

Signals: SIGHUP reads the configuration again and hands over to newer programs, its own included, where there are
any; SIGTERM and SIGINT end all listeners within 2 s.
Exit status: 0 ended as asked, 1 another one runs there, 2 usage, 78 configuration, 111 the system failed.";

/// Runs one palabre-listener for each participant and restarts what dies.
#[derive(Debug, Parser)]
#[command(name = PROG, version, after_help = EXAMPLES)]
pub struct Cli {
    /// The directory of palabre.toml and participants.d
    #[arg(long, value_name = "DIR", default_value = "/etc/palabre")]
    pub config: PathBuf,

    /// The directory of the rooms and the control socket
    #[arg(long, value_name = "DIR", default_value = "/run/palabre")]
    pub run: PathBuf,

    /// The program to run for each participant [default: palabre-listener beside this program, else in PATH]
    #[arg(long, value_name = "PATH")]
    pub listener: Option<PathBuf>,

    /// The program that records a room [default: palabre-recorder beside this program, else in PATH]
    #[arg(long, value_name = "PATH")]
    pub recorder: Option<PathBuf>,

    /// The directory of recordings
    #[arg(long, value_name = "DIR", default_value = "/var/lib/palabre/recordings")]
    pub recordings: PathBuf,

    /// The directory of who has used a link that opens once
    #[arg(long, value_name = "DIR", default_value = "/var/lib/palabre/links")]
    pub links: PathBuf,

    /// Level nobody's voice, whatever palabre.toml says
    #[arg(long)]
    pub no_levelling: bool,

    /// End when the process PID, our parent, ends
    #[arg(long, value_name = "PID")]
    pub parent_pid: Option<u32>,

    /// Say by the exit status whether this program could take over from one with a state of VERSION, and end
    #[arg(long, value_name = "VERSION", hide = true)]
    pub probe: Option<u32>,

    /// Log more; twice for everything
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
