//! The command line.

use clap::{ArgGroup, Parser};
use palabre_config::Entrance;
use palabre_room::Name;
use std::path::PathBuf;

/// The mini HTTPS server of one participant of a voice room
///
/// Serves the participant's page, injects what the room says into it, and writes what the participant says into the room.
/// The supervisor starts one for each participant. With --source it serves a growing WAV file instead, alone.
#[derive(Debug, Clone, Parser)]
#[command(name = "palabre-listener", version, after_help = EXAMPLES)]
#[command(group = ArgGroup::new("what").required(true).args(["name", "source"]))]
pub struct Args {
    /// The participant: participants.d/NAME.toml in the configuration
    pub name: Option<Name>,

    /// Directory of the configuration
    #[arg(long, value_name = "DIR", default_value = "/etc/palabre")]
    pub config: PathBuf,

    /// Directory of the running rooms
    #[arg(long, value_name = "DIR", default_value = "/run/palabre")]
    pub run: PathBuf,

    /// Port to open, instead of the participant's; 0 for any free one. An inherited socket goes first
    #[arg(long)]
    pub port: Option<u16>,

    /// Make the room's directory and the participant's pipes first: for a listener without a supervisor
    #[arg(long, conflicts_with = "source")]
    pub make_room: bool,

    /// Serve this growing WAV file, with neither mixer nor room
    #[arg(long, value_name = "FILE")]
    pub source: Option<PathBuf>,

    /// Certificate with its chain, PEM; without it --source makes its own
    #[arg(long, value_name = "FILE", requires = "private_key")]
    pub certificate: Option<PathBuf>,

    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub private_key: Option<PathBuf>,

    /// File with the participant's key for --source; without it a key is made. Its link is printed
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    pub key_file: Option<PathBuf>,

    /// Length of a chunk of the injected stream, in ms: 20 to 1000 in steps of 20
    #[arg(long, value_name = "MS", value_parser = chunk_ms)]
    pub chunk_ms: Option<u64>,

    /// Process to die with (set by the supervisor)
    #[arg(long, value_name = "PID", hide = true)]
    pub parent_pid: Option<u32>,

    /// Who has used the link, where it opens once (set by the supervisor)
    #[arg(long, value_name = "LINK:KEY", hide = true)]
    pub entered: Option<Entrance>,

    /// Say more; twice for even more
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

const EXAMPLES: &str = "\
Examples:
  palabre-listener alice --config /etc/palabre --run /run/palabre
  palabre-listener --source dat.wav --port 9001
  curl -kN https://localhost:9001/listen.wav -H 'Authorization: Bearer KEY' | ffplay -nodisp -
  ffmpeg -re -i talk.ogg -f wav - | curl -kT- https://localhost:9001/speak -H 'Authorization: Bearer KEY'";

fn chunk_ms(text: &str) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|ms| (20..=1000).contains(ms) && ms % 20 == 0)
        .ok_or_else(|| "a chunk has 20 to 1000 ms, in steps of 20".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn either_a_participant_or_a_file_is_served() {
        let parses = |args: &[&str]| Args::try_parse_from([&["palabre-listener"], args].concat()).is_ok();
        assert!(parses(&["alice"]));
        assert!(parses(&["--source", "dat.wav", "--port", "0", "--chunk-ms", "100"]));
        for bad in [
            &[][..],
            &["Alice"],
            &["../alice"],
            &["alice", "--source", "x"],
            &["alice", "--key-file", "x"],
            &["--source", "x", "--chunk-ms", "30"],
            &["--source", "x", "--certificate", "c"],
        ] {
            assert!(!parses(bad), "{bad:?}");
        }
    }
}
