//! `palabre-exporter`: metrics for Prometheus.
//!
//! For each scrape, the exporter asks the supervisor on the control socket. The exporter stores nothing. It is a separate process so that
//! the supervisor parses no data from the network. If the exporter fails, the sound is not affected.

mod cli;
mod http;
mod metrics;
mod openmetrics;
mod run;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    palabre_host::exit::main(cli::PROGRAM, || run::run(&args))
}
