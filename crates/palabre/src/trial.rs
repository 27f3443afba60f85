//! `palabre try`.

use palabre_host::exit::Failure;
use palabre_host::logging;
use palabre_trial::Options;

use crate::cli::Cli;
use crate::qr;

/// Runs `palabre try` until a signal arrives.
pub(crate) fn run(cli: &Cli, options: &Options) -> Result<(), Failure> {
    if cli.config.is_some() || cli.run.is_some() {
        return Err(Failure::usage("unable to use '--config' or '--run' with 'try'; use '--dir' instead"));
    }
    logging::init("palabre", None, cli.verbose);
    palabre_trial::run(options, cli.verbose, qr::terminal)
}
