//! `palabre-bridge`: connects a room with the same room on other machines, through a NATS server.
//!
//! The bridge reads the sum of this machine's talkers from the room's pipe `.machines/out` and sends it to the other machines. It writes the sum of
//! each other machine into a pipe `.machines/from-NAME`. See `docs/several-machines.md`.

mod bridge;
mod check;
mod cli;
mod codec;
mod delay;
mod link;
mod nkey;
mod peer;
mod room;
mod run;
mod wire;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    palabre_host::exit::main(cli::PROGRAM, || run::run(&args))
}
