//! Arguments of the commands that only print information: `status`, `check`, `top`, `logs`, `list`, `rooms`.

use clap::Args;
use palabre_room::Name;

use super::complete::participants;

pub(super) const STATUS: &str = "\
Examples:
  palabre status
  palabre status --json | jq -r '.participants[]|select(.state==\"failed\").name'

The exit status is 0 whatever the states are, and 111 if no supervisor runs.
Errors in the configuration are printed on standard error, or with --json as
'errors'.";

pub(super) const CHECK: &str = "\
Examples:
  palabre check
  palabre check --json | jq -r '.checks[]|select(.level==\"fault\").mend'

The command changes nothing. Each line is ok, a warning or a fault; a warning
or a fault ends with the remedy. Run it as root to check everything. The exit
status is 78 if there is a fault, otherwise 0.";

pub(super) const TOP: &str = "\
Examples:
  palabre top

The level meters range from -60 to 0 dBFS and are updated ten times per second.
q or Ctrl-C quits, the arrow keys scroll.";

pub(super) const LOGS: &str = "\
Examples:
  palabre logs alice                 follow the log of alice's listener
  palabre logs alice --since -1h --no-follow
  palabre logs                       follow the log of all daemons

The command runs journalctl(1) and needs systemd. Without systemd the daemons
log to standard error.";

/// `palabre status`.
#[derive(Args, Debug)]
pub(crate) struct Status {
    /// Print a JSON object; palabre(1) documents it
    #[arg(long)]
    pub(crate) json: bool,
}

/// `palabre check`.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Print a JSON object; palabre(1) documents it
    #[arg(long)]
    pub(crate) json: bool,
}

/// `palabre top`.
#[derive(Args, Debug)]
pub(crate) struct Top {}

/// `palabre logs`.
#[derive(Args, Debug)]
pub(crate) struct Logs {
    /// Print only the log of this participant's listener [default: the log of all daemons]
    #[arg(add = participants())]
    pub(crate) name: Option<Name>,
    /// Start at this time, in a format of journalctl(1) [default: the last 200 lines]
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub(crate) since: Option<String>,
    /// Exit after the existing lines instead of waiting for new ones
    #[arg(long)]
    pub(crate) no_follow: bool,
}

/// `palabre list`.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Also list the people on other machines with which a room is shared
    #[arg(long)]
    pub(crate) everywhere: bool,
    /// Print a JSON object; palabre(1) documents it
    #[arg(long)]
    pub(crate) json: bool,
}

/// `palabre rooms`.
#[derive(Args, Debug)]
pub(crate) struct Rooms {
    /// Print a JSON object; palabre(1) documents it
    #[arg(long)]
    pub(crate) json: bool,
}
