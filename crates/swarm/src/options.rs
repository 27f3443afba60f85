//! The options of `palabre swarm`. The doc-comments are the text of its `--help`.

use std::path::PathBuf;

use clap::Args;

/// `palabre swarm`.
#[derive(Args, Debug)]
pub struct Options {
    /// Number of participants, each with an open stream [default: 100, or all links of --links]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub(crate) participants: Option<u16>,
    /// Number of participants who talk, each with a tone of their own
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(0..=100))]
    pub(crate) talkers: u16,
    /// Length of the measurement in seconds. It begins when all participants have heard sound for 3 s, and 5 ms more for each participant
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: u32,
    /// Length of the chunks in the room that the command starts, as in palabre.toml(5) [default: 40]
    #[arg(long, value_name = "MS", conflicts_with = "links")]
    pub(crate) chunk_ms: Option<u16>,
    /// Use the participants of the links in FILE, and start no room. Lines: LINK, or NAME LINK
    #[arg(long, value_name = "FILE")]
    pub(crate) links: Option<PathBuf>,
    /// With --links: trust the certificates in this PEM file instead of the system's
    #[arg(long, value_name = "FILE", requires = "links")]
    pub(crate) certificate: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
