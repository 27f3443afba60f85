//! `palabre`, the operator's command.
//!
//! The command uses the supervisor's control socket, the configuration files and the room directories. It has no other state.

mod admission;
mod check;
mod cli;
mod command;
mod control;
mod each;
mod elsewhere;
mod exec_mixer;
mod export;
mod guest;
mod import;
mod input;
mod invite;
mod list;
mod logs;
mod manual;
mod mix;
mod output;
mod participants;
mod permission;
mod play;
mod processes;
mod progress;
mod proxy_config;
mod qr;
mod record;
mod reload;
mod restart;
mod revoke;
mod roster_lock;
mod run;
mod self_sign;
mod snapshot;
mod standalone;
mod status;
mod swarm;
mod table;
mod tap;
mod top;
mod trial;
mod units;
mod wav_reader;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use clap_complete::CompleteEnv;

fn main() -> ExitCode {
    // A completion script runs this program with the variable COMPLETE. Print no errors: they would disturb the operator's command line.
    match CompleteEnv::with_factory(cli::Cli::command).try_complete(std::env::args_os(), None) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(_) => return ExitCode::FAILURE,
    }
    let cli = cli::Cli::parse();
    palabre_host::exit::main("palabre", || run::run(&cli))
}
