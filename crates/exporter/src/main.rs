//! palabre-exporter: says to Prometheus how a Palabre is.
//!
//! It asks the supervisor's control socket at each scrape and keeps nothing. It is a process of its own so that the supervisor
//! parses nothing that comes from the network. It is no part of the sound's way: without it everything works.

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
