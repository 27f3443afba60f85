//! `palabre self-sign`.

use clap::Args;

/// The end of its `--help`.
pub const EXAMPLES: &str = "\
Examples:
  palabre self-sign
  palabre self-sign --replace        after 'host' in palabre.toml was changed,
                                     or when 397 days are nearly over

Browsers warn of such a certificate, once for each person. One that they know
replaces it: name its files in palabre.toml.";

/// `palabre self-sign`.
#[derive(Args, Debug)]
pub struct SelfSign {
    /// Replace a certificate that this command made; those of others are never touched
    #[arg(long)]
    pub replace: bool,
}
