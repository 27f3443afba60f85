//! The options of `palabre try`. The doc-comments are the text of its `--help`.

use std::path::PathBuf;

use clap::Args;

/// `palabre try`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Number of participants, named p01, p02, … [default: two, alice and bob]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub(crate) participants: Option<u16>,
    /// First port; each participant takes the next free port. 0: any free ports
    #[arg(long, value_name = "PORT", default_value_t = 9001)]
    pub(crate) first_port: u16,
    /// Use this directory instead of a temporary one, and keep keys, ports and certificate in it
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Run without the two bots, which play a melody and repeat speech
    #[arg(long)]
    pub(crate) no_voices: bool,
    /// Don't bring the participants' speech to the same loudness
    #[arg(long)]
    pub(crate) no_levelling: bool,
    /// Accept connections from the local network: listen on all addresses, print links with this machine's address
    #[arg(long)]
    pub(crate) lan: bool,
    /// Run N machines (2 to 5) with one room, connected by a NATS server; needs the program nats-server
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=5), conflicts_with_all = ["dir", "lan", "open"])]
    pub(crate) machines: Option<u8>,
    /// Open each link in its own Chromium window, which trusts the certificate
    #[arg(long)]
    pub(crate) open: bool,
}

impl Options {
    /// Returns the options of a room for `palabre swarm`: on any free ports, without melody and echo, and without levelling.
    #[must_use]
    pub fn for_swarm(participants: u16) -> Self {
        Self {
            participants: Some(participants),
            first_port: 0,
            dir: None,
            no_voices: true,
            no_levelling: true,
            lan: false,
            machines: None,
            open: false,
        }
    }
}
