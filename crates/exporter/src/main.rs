//! `palabre-exporter`: metrics for Prometheus.
//!
//! Each scrape asks the supervisor on its control socket; the exporter stores nothing. It is a separate process so that the supervisor
//! parses nothing from the network. No sound depends on it.

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
