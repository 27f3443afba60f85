//! The subcommand `palabre swarm`.

use palabre_host::exit::Failure;
use palabre_host::logging;
use palabre_swarm::{Options, Surroundings};

use crate::cli::Cli;
use crate::processes;

/// Runs `palabre swarm`: generates the load, measures, and prints the report.
pub(crate) fn run(cli: &Cli, options: &Options) -> Result<(), Failure> {
    logging::init("palabre", None, cli.verbose);
    let (run, verbosity) = (cli.run_dir(), cli.verbose);
    palabre_swarm::run(options, &Surroundings { run, verbosity, daemons: processes::daemons })
}
