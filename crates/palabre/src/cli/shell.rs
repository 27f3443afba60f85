//! Arguments of `palabre completions` and `palabre man`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// `palabre completions`.
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// Shell for which the script is printed
    pub(crate) shell: Shell,
}

/// `palabre man`.
#[derive(Args, Debug)]
pub(crate) struct Man {
    /// Write palabre.1 into this directory instead of to standard output
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}
