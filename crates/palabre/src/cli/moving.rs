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
access keys: keep it as secret as the participants' files. Cookies of browsers
and recordings don't move. The participants stay on this machine until 'palabre
revoke', which makes their links to this machine invalid.";

/// `palabre export`.
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// Login names of the participants
    #[arg(required_unless_present_any = ["all", "room"], conflicts_with_all = ["all", "room"], value_name = "NAME", add = participants())]
    names: Vec<Name>,
    /// Export all participants
    #[arg(long, conflicts_with = "room")]
    pub(crate) all: bool,
    /// Export all participants of a room
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
