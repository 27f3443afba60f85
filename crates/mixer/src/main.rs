//! palabre-mixer: gives every participant of a room the mix of all the others.
//!
//! The main thread is one poll loop with one clock; files are written by a second thread. The room directory is the only
//! interface, see `docs/room-directory.md`.

mod budget;
mod cli;
mod clock;
mod context;
mod counts;
mod daemon;
mod ear;
mod ear_file;
mod file_writer;
mod gains;
mod levelling;
mod levels;
mod machine;
mod machines;
mod mic;
mod mic_file;
mod mixing;
mod participant;
mod poller;
mod recording;
mod restart;
mod room;
mod rooms;
mod sandbox;
mod watcher;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    palabre_host::exit::main(cli::PROGRAM, || daemon::run(&args))
}
