//! The command-line options of `palabre-bridge`.

use std::path::PathBuf;

use clap::{ArgAction, Parser};

/// Name of the program in its log lines and error messages.
pub(crate) const PROGRAM: &str = "palabre-bridge";

const AFTER: &str = "\
The section [bridge] of palabre.toml(5) has the name of this machine, the rooms and the NATS servers. Everybody in such a room
hears the participants of all machines.

Examples:
  palabre-bridge --new-nkey /etc/palabre/bridge.nk
      Make a key for this machine, and print the line for the configuration of the NATS server
  palabre-bridge --check
      Find out whether the NATS server accepts this machine, and whether the other machines match";

/// Connects a room with the same room on other machines, through a NATS server
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER)]
pub(crate) struct Args {
    /// Configuration directory with palabre.toml
    #[arg(long, value_name = "DIR", default_value = "/etc/palabre")]
    pub(crate) config: PathBuf,

    /// Runtime directory with the rooms
    #[arg(long, value_name = "DIR", default_value = "/run/palabre")]
    pub(crate) run: PathBuf,

    /// Write a new nkey into FILE, print its public part for the configuration of the NATS server, and exit
    #[arg(long, value_name = "FILE", exclusive = true)]
    pub(crate) new_nkey: Option<PathBuf>,

    /// Connect to the NATS server, print which machines share rooms and whether their rates and clocks match, and exit
    #[arg(long)]
    pub(crate) check: bool,

    /// Print the result of --check as JSON
    #[arg(long, requires = "check")]
    pub(crate) json: bool,

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
