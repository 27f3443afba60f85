//! The command-line options of `palabre-bridge`.

use std::path::PathBuf;

use clap::{ArgAction, Parser};
use palabre_room::{Name, machine_name};

/// Name of the program in its log lines and error messages.
pub(crate) const PROGRAM: &str = "palabre-bridge";

const AFTER: &str = "\
Examples:
  palabre-bridge --machine paris --room main --url nats://nats.example.org
      Connect the room 'main' with the room 'main' of all other machines that use this NATS server

Each machine needs its own name. Everybody in the room hears the participants of all machines.";

/// Connects a room with the same room on other machines, through a NATS server
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER)]
pub(crate) struct Args {
    /// Write a new nkey into FILE, print its public part for the configuration of the NATS server, and exit
    #[arg(long, value_name = "FILE", exclusive = true)]
    pub(crate) new_nkey: Option<PathBuf>,

    /// NATS server; 'tls://' requires TLS. Repeat the option for the other servers of a cluster
    #[arg(long, value_name = "URL", required_unless_present = "new_nkey")]
    pub(crate) url: Vec<String>,

    /// Name of this machine, unique among the machines that share a room: at most 27 characters, as a participant's name
    #[arg(long, value_name = "NAME", value_parser = parse_machine, required_unless_present = "new_nkey")]
    pub(crate) machine: Option<Name>,

    /// Room to share. Repeat the option for more rooms
    #[arg(long = "room", value_name = "ROOM", required_unless_present = "new_nkey")]
    pub(crate) rooms: Vec<Name>,

    /// Credentials file of NATS (JWT and seed)
    #[arg(long, value_name = "FILE", conflicts_with = "nkey")]
    pub(crate) credentials: Option<PathBuf>,

    /// File with the seed of an nkey of NATS, as --new-nkey writes it
    #[arg(long, value_name = "FILE")]
    pub(crate) nkey: Option<PathBuf>,

    /// Certificates of the authorities that may sign the server's certificate, in addition to the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// Length of the sound in a message, in ms: 20, 40, 60, 80 or 100
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = parse_message_ms)]
    pub(crate) message_ms: u64,

    /// Runtime directory with the rooms
    #[arg(long, value_name = "DIR", default_value = "/run/palabre")]
    pub(crate) run: PathBuf,

    /// Log more: -v for events, -vv for debugging
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

fn parse_machine(text: &str) -> Result<Name, String> {
    machine_name(text).ok_or_else(|| "use 1 to 27 lower-case letters, digits, '-' and '_'".to_owned())
}

fn parse_message_ms(text: &str) -> Result<u64, String> {
    let ms = text.parse().ok().filter(|ms| (20..=100).contains(ms) && ms % 20 == 0);
    ms.ok_or_else(|| "use 20, 40, 60, 80 or 100".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn only_whole_frames_are_accepted_as_the_length_of_a_message() {
        assert_eq!(
            ["20", "100", "0", "30", "120", "x"].map(|ms| parse_message_ms(ms).ok()),
            [Some(20), Some(100), None, None, None, None]
        );
    }
}
