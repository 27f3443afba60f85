//! palabre-supervisor: one listener per participant, restarted when it dies.
//!
//! It reads the configuration, makes the rooms' directories and pipes (it opens none), binds the ports, and gives each
//! to a `palabre-listener`. It answers on a control socket and parses nothing that comes from the network.
//!
//! ```text
//!                     signals ─┐
//!   children's notifications ──┼──▶ one channel ──▶ the main thread: Roster ──▶ Seat, one per participant
//!            control requests ─┘                                                 │ socket, process, successor
//!                                                                                ▼
//!                                                                        palabre-listener NAME
//! ```
//!
//! Only the main thread starts processes: a child dies with the thread that started it (prctl(2), PR_SET_PDEATHSIG).

mod backoff;
mod certificate;
mod cli;
mod control;
mod estate;
mod event;
mod presence;
mod process;
mod recordings;
mod roster;
mod run;
mod seat;
mod site;
mod transition;
mod upgrade;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    palabre_host::exit::main(cli::PROG, || run::run(&cli))
}
