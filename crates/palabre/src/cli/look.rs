//! Commands that only look: `palabre check`, `palabre top` and `palabre logs`.

use clap::Args;
use palabre_room::Name;

/// Shown below the help of `check`.
pub const CHECK: &str = "\
Examples:
  palabre check
  palabre check --json | jq -r '.checks[]|select(.level==\"fault\").mend'

It changes nothing. A line is ok, a warning or a fault, and says what mends it.
As root it sees all; the exit status is 78 where there is a fault, else 0.";

/// Shown below the help of `top`.
pub const TOP: &str = "\
Examples:
  palabre top

Everybody with a meter of how loud they are, from -60 to 0 dBFS, ten times a
second. q or Ctrl-C ends it, the arrows scroll.";

/// Shown below the help of `logs`.
pub const LOGS: &str = "\
Examples:
  palabre logs alice                 what her listener says, live
  palabre logs alice --since -1h --no-follow
  palabre logs                       everything that Palabre has said

It runs journalctl(1), so it is for a system with systemd; elsewhere the log is
what the daemons write to standard error.";

/// `palabre check`.
#[derive(Args, Debug)]
pub struct Check {
    /// Print JSON, one object, as palabre(1) documents it
    #[arg(long)]
    pub json: bool,
}

/// `palabre top`.
#[derive(Args, Debug)]
pub struct Top {}

/// `palabre logs`.
#[derive(Args, Debug)]
pub struct Logs {
    /// Login name of the participant [default: everything]
    pub name: Option<Name>,
    /// From when on, as journalctl(1) understands it [default: the last 200 lines]
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// End after what there is instead of waiting for more
    #[arg(long)]
    pub no_follow: bool,
}
