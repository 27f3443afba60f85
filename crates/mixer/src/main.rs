//! palabre-mixer: gives every participant of a room the mix of all the others.
//!
//! One poll loop and one clock, no threads; a room's directory is the whole interface. See `docs/room-directory.md`.

mod cli;
mod clock;
mod context;
mod counts;
mod daemon;
mod ear;
mod follower;
mod grower;
mod levelling;
mod levels;
mod mic;
mod mixing;
mod participant;
mod poller;
mod post;
mod room;
mod rooms;
mod tape;
mod watcher;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    palabre_host::exit::main(cli::PROGRAM, || daemon::run(&args))
}
