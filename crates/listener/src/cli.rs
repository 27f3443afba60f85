//! The command-line options of `palabre-listener`.

use clap::{ArgGroup, Parser};
use palabre_config::Entrance;
use palabre_room::Name;
use std::path::PathBuf;

/// The HTTPS server of one participant of a voice room
///
/// Serves the participant's page, streams the sound of the room to it, and writes the participant's sound to the room. The
/// supervisor starts one for each participant. With --source, it streams a growing WAV file instead, without a room.
#[derive(Debug, Clone, Parser)]
#[command(name = "palabre-listener", version, after_help = EXAMPLES)]
#[command(group = ArgGroup::new("what").required(true).args(["name", "source", "check_certificate"]))]
pub(crate) struct Args {
    /// Name of the participant, as in participants.d/NAME.toml
    pub(crate) name: Option<Name>,

    /// Configuration directory
    #[arg(long, value_name = "DIR", default_value = "/etc/palabre")]
    pub(crate) config: PathBuf,

    /// Runtime directory with the rooms and the control socket
    #[arg(long, value_name = "DIR", default_value = "/run/palabre")]
    pub(crate) run: PathBuf,

    /// Directory of the secret from which cookies are made; the listener creates the secret if it doesn't exist
    #[arg(long, value_name = "DIR", default_value = "/var/lib/palabre/links")]
    pub(crate) links: PathBuf,

    /// Port to open instead of the participant's; 0 is any free port. Ignored if a socket is inherited
    #[arg(long)]
    pub(crate) port: Option<u16>,

    /// Create the room's directory and the participant's pipes first; for a listener without a supervisor
    #[arg(long, conflicts_with = "source")]
    pub(crate) make_room: bool,

    /// Stream this growing WAV file, without a mixer or room
    #[arg(long, value_name = "FILE")]
    pub(crate) source: Option<PathBuf>,

    /// Read the certificate and the private key that palabre.toml names, print an error if they can't be used, and exit
    #[arg(long)]
    pub(crate) check_certificate: bool,

    /// PEM file of the certificate and its chain [default: that of palabre.toml; with --source, a new self-signed one]
    #[arg(long, value_name = "FILE", requires = "private_key")]
    pub(crate) certificate: Option<PathBuf>,

    /// PEM file of the certificate's private key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) private_key: Option<PathBuf>,

    /// File with the access key; only with --source [default: a new key, in the link that the listener prints]
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    pub(crate) key_file: Option<PathBuf>,

    /// Duration of a chunk of the sound that the listener sends to pages and programs (GET /listen) in ms, 20 to 1000 in steps of 20 [default: chunk-ms of palabre.toml, or 40 without a participant]
    #[arg(long, value_name = "MS", value_parser = chunk_ms)]
    pub(crate) chunk_ms: Option<u64>,

    /// Exit when the parent process, whose process ID must be PID, ends (set by the supervisor)
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) parent_pid: Option<u32>,

    /// Read the participant's settings and the key for cookies from standard input (set by the supervisor)
    #[arg(long, hide = true, requires = "name")]
    pub(crate) settings_on_stdin: bool,

    /// Hashes of the used one-time link and of the access key of the browser that used it (passed by the supervisor)
    #[arg(long, value_name = "LINK:KEY", hide = true)]
    pub(crate) entered: Option<Entrance>,

    /// Check that the files of the configuration can be used, and exit (set by the package during an upgrade)
    #[arg(long, hide = true, requires = "name")]
    pub(crate) probe: bool,

    /// Log more: -v adds lines for debugging, -vv also those of libraries
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

const EXAMPLES: &str = "\
Examples:
  palabre-listener alice --config /etc/palabre --run /run/palabre
  palabre-listener --source dat.wav --port 9001
  curl -kN https://localhost:9001/listen.wav -H 'Authorization: Bearer KEY' | ffplay -nodisp -
  ffmpeg -re -i talk.ogg -f wav - | curl -kT- https://localhost:9001/speak -H 'Authorization: Bearer KEY'

KEY is the access key, the text after 'key=' in the invitation link.";

fn chunk_ms(text: &str) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|ms| (20..=1000).contains(ms) && ms % 20 == 0)
        .ok_or_else(|| "the chunk duration must be 20 to 1000 ms, in steps of 20 ms".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn command_line_takes_a_participant_or_a_file() {
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
