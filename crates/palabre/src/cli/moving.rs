//! Arguments of the commands that move participants to another machine.

use std::path::PathBuf;

use clap::Args;
use palabre_room::Name;

use super::complete::{participants, rooms};
use super::participants::unique;

pub(super) const EXPORT: &str = "\
Examples:
  palabre export alice | ssh other.example palabre import
  palabre export alice bob --out people.toml
  palabre export --room choir | ssh other.example palabre import --room den
  palabre export --all --out /root/people.toml

The document has all settings of the participants, and the hashes of their
access keys: keep it as secret as the participants' files. Recordings and the
cookies of browsers don't move. The participants stay on this machine until
'palabre revoke', which makes their links to this machine invalid.";

pub(super) const IMPORT: &str = "\
Examples:
  palabre export alice | ssh other.example palabre import
  palabre import people.toml --dry-run   what this would change
  palabre import people.toml --room den
  palabre import alice.toml --replace    alice of this machine is replaced

The participants keep their keys: an old link works here with the new host and
port, which are printed, unless it is a one-time link that was used. If a port
can't be used here, the participant gets a free one, or with --replace keeps the
port of this machine. The supervisor reads the new files at once. If one
participant can't be imported, nothing is changed. When the new links work, run
'palabre revoke' on the other machine, which makes the old links invalid.";

/// `palabre export`.
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Login names of the participants
    #[arg(required_unless_present_any = ["all", "room"], conflicts_with_all = ["all", "room"], value_name = "NAME", add = participants())]
    names: Vec<Name>,
    /// Write the settings of all participants
    #[arg(long, conflicts_with = "room")]
    pub(crate) all: bool,
    /// Write the settings of all participants of this room
    #[arg(long, value_name = "ROOM", add = rooms())]
    pub(crate) room: Option<Name>,
    /// Write the document into a file, which only its owner may read [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

impl Export {
    /// Returns the names in the order of the command line, each once.
    pub(crate) fn names(&self) -> Vec<Name> {
        unique(&self.names)
    }
}

/// `palabre import`.
#[derive(Args, Debug)]
pub(crate) struct Import {
    /// File with the document that 'palabre export' has written on the other machine; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
    /// Room of the participants [default: as on the other machine]
    #[arg(long, value_name = "ROOM", add = rooms())]
    pub(crate) room: Option<Name>,
    /// Port, for a document with one participant [default: as on the other machine, or a free port of 'ports' in palabre.toml]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// Replace participants of this machine who have the same names; their keys on this machine become invalid
    #[arg(long)]
    pub(crate) replace: bool,
    /// Check everything and print what would change, but change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print a JSON object; palabre(1) documents it
    #[arg(long)]
    pub(crate) json: bool,
}
