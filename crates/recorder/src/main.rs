//! palabre-recorder: a WAV for each speaker of a room and one of all of them, all aligned.
//!
//! It reads the room's `recording`, in which the mixer tells every talker's frames by name and time, so that neither a slow
//! disk nor our death is ever noticed by those who speak. See `docs/room-directory.md` and `docs/recording.md`.

mod cli;
mod run;
mod session;
mod track;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    palabre_host::exit::main(cli::PROGRAM, || run::run(&args))
}
