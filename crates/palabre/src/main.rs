//! `palabre`, the operator's command: who is there, who may come in, and a whole room to try.
//!
//! It talks to the supervisor through its control socket and to the rooms through their directories. It is no daemon and
//! holds no state of its own.

mod check;
mod cli;
mod control;
mod edits;
mod guest;
mod invite;
mod list;
mod logs;
mod manual;
mod mix;
mod output;
mod pace;
mod people;
mod permission;
mod play;
mod processes;
mod progress;
mod qr;
mod record;
mod restart;
mod revoke;
mod run;
mod self_sign;
mod source;
mod status;
mod table;
mod tap;
mod top;
mod trial;
mod units;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    palabre_host::exit::main("palabre", || run::run(&cli))
}
