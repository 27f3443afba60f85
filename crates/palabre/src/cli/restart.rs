//! The arguments of `palabre restart`.

use clap::Args;
use palabre_room::Name;

/// What to write below `palabre restart --help`.
pub const EXAMPLES: &str = "\
Examples:
  palabre restart alice
  palabre restart --all              everybody's listener, one after the other
  palabre restart mixer              a moment of silence, no connection ends
  palabre restart supervisor         nobody notices; then listeners go over to
                                     their newer program, where there is one

With --all, those that are stopped or don't run are passed over, and the first
one that can't be replaced ends it: the old listener goes on.";

/// `palabre restart`.
#[derive(Args, Debug)]
pub struct Restart {
    /// Login name of the participant; or mixer, or supervisor
    #[arg(required_unless_present = "all")]
    pub name: Option<Name>,
    /// Everybody's listener, one by one: the next when the new one serves
    #[arg(long, conflicts_with = "name")]
    pub all: bool,
    /// Print JSON, one object at the end, as palabre(1) documents it
    #[arg(long)]
    pub json: bool,
}
