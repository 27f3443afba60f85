//! `palabre`, the operator's command: who is there, who may come in, and a whole room to try.
//!
//! It talks to the supervisor through its control socket and to the rooms through their directories. It is no daemon and
//! holds no state of its own.

mod cli;
mod control;
mod invite;
mod manual;
mod output;
mod pace;
mod permission;
mod play;
mod qr;
mod revoke;
mod status;
mod tap;
mod trial;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};
use palabre_host::exit;

fn main() -> ExitCode {
    let cli = Cli::parse();
    exit::main("palabre", || match &cli.command {
        Command::Status(status) => status::run(cli.run_dir(), status),
        Command::Restart(restart) => control::restart(cli.run_dir(), &restart.name),
        Command::Reload => control::reload(cli.run_dir()),
        Command::Invite(invite) => invite::run(&cli, invite),
        Command::Revoke(revoke) => revoke::run(&cli, revoke),
        Command::Try(options) => trial::run(&cli, options),
        Command::Play(play) => play::run(cli.run_dir(), play),
        Command::Tap(tap) => tap::run(cli.run_dir(), tap),
        Command::Completions(completions) => manual::completions(completions.shell),
        Command::Man(man) => manual::page(man.out.as_deref()),
    })
}
