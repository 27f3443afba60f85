//! Arguments of `palabre restart` and `palabre reload`.

use clap::Args;
use palabre_room::Name;

use super::complete::processes;
use super::participants::unique;

pub(super) const EXAMPLES: &str = "\
Examples:
  palabre restart alice
  palabre restart bob carol
  palabre restart --all              all listeners, one after the other
  palabre restart mixer              a moment of silence; no connection ends
  palabre restart supervisor         no interruption; afterwards the listeners
                                     are replaced if their program is newer

If one of several names fails, the others are restarted too. --all skips
listeners that are stopped or don't run, and ends at the first listener that
can't be replaced; the previous process of that listener keeps running.";

/// `palabre restart`.
#[derive(Args, Debug)]
pub(crate) struct Restart {
    /// Login name of a participant, whose listener is replaced, or 'mixer', or 'supervisor'
    #[arg(required_unless_present = "all", value_name = "NAME", add = processes())]
    names: Vec<Name>,
    /// Replace the listeners of all participants, one at a time: the next one is replaced when the new process of the previous listener is ready
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,
    /// Print a JSON object at the end; palabre(1) documents it
    #[arg(long)]
    pub(crate) json: bool,
}

impl Restart {
    /// Returns the names in the order of the command line, each once.
    pub(crate) fn names(&self) -> Vec<Name> {
        unique(&self.names)
    }
}

/// `palabre reload`.
#[derive(Args, Debug)]
pub(crate) struct Reload {
    /// Print what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print a JSON object; palabre(1) documents it
    #[arg(long)]
    pub(crate) json: bool,
}
