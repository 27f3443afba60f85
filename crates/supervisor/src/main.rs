//! palabre-supervisor: runs one listener per participant and restarts it when it dies.
//!
//! The supervisor reads the configuration, creates the rooms' directories and pipes (it opens none of the pipes), binds the ports, and
//! passes each port to a `palabre-listener`. It serves the control socket. It parses nothing that comes from the network.
//!
//! ```text
//!                     signals ─┐
//!   children's notifications ──┼──▶ one channel ──▶ main thread: Roster ──▶ Service, one per participant
//!            control requests ─┘                                             │ socket, process, successor
//!                                                                            ▼
//!                                                                    palabre-listener NAME
//! ```
//!
//! Only the main thread starts processes, since a child dies with the thread that started it (prctl(2), PR_SET_PDEATHSIG).

mod audit;
mod backoff;
mod certificate;
mod child;
mod cli;
mod config;
mod control;
mod departed;
mod end;
mod event;
mod launcher;
mod measured;
mod meetings;
mod mixer;
mod presence;
mod process;
mod recordings;
mod roster;
mod run;
mod run_lock;
mod saved;
mod service;
mod signer;
mod sources;
mod storage;
mod transition;
mod upgrade;
mod waiting;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    palabre_host::exit::main(cli::PROG, || run::run(&cli))
}
