//! `palabre-recorder`: records a room into aligned WAV files, one for each speaker and one of the whole room.
//!
//! The recorder reads the room's pipe `recording`, into which the mixer writes each talker's frames with the talker's name and the time.
//! The mixer never waits for the recorder, so a slow disk or the end of the recorder disturbs no participant. See
//! `docs/room-directory.md` and `docs/recording.md`.

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
