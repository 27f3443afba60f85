//! Arguments of `palabre self-sign`.

use clap::Args;

pub(super) const EXAMPLES: &str = "\
Examples:
  palabre self-sign
  palabre self-sign --replace        after a change of 'host' or 'link' in
                                     palabre.toml, or before the 397 days of
                                     validity end

Browsers warn about a self-signed certificate. To use one that they trust, set
'certificate' and 'private-key' in palabre.toml.";

/// `palabre self-sign`.
#[derive(Args, Debug)]
pub(crate) struct SelfSign {
    /// Replace a certificate made by this command; other certificates are never changed
    #[arg(long)]
    pub(crate) replace: bool,
}
