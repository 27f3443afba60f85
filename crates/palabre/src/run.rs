//! Which command does what.

use palabre_host::exit::Failure;

use crate::cli::{Cli, Command};
use crate::{
    check, control, invite, list, logs, manual, mix, people, play, record, restart, revoke, self_sign, status, tap,
    top, trial,
};

/// Does what the command line says.
///
/// # Errors
/// Those of each command.
pub fn run(cli: &Cli) -> Result<(), Failure> {
    let run = cli.run_dir();
    match &cli.command {
        Command::Status(status) => status::run(run, status),
        Command::Check(check) => check::run(cli, check),
        Command::Top(_) => top::run(run),
        Command::Logs(logs) => logs::run(logs),
        Command::Restart(restart) => restart::run(run, restart),
        Command::Stop(stop) => control::stop(run, &stop.name),
        Command::Start(start) => control::start(run, &start.name),
        Command::Kick(kick) => control::kick(run, &kick.name),
        Command::Reload => control::reload(run),
        Command::SelfSign(options) => self_sign::run(cli, options),
        Command::Invite(invite) => invite::run(cli, invite),
        Command::Rename(rename) => people::rename(cli, rename),
        Command::Mute(mute) => people::mute(cli, &mute.name, true),
        Command::Unmute(unmute) => people::mute(cli, &unmute.name, false),
        Command::Gain(gain) => people::gain(cli, gain),
        Command::Move(to) => people::move_to(cli, to),
        Command::List(list) => list::people(cli, list.json),
        Command::Rooms(rooms) => list::rooms(cli, rooms.json),
        Command::Revoke(revoke) => revoke::run(cli, revoke),
        Command::Try(options) => trial::run(cli, options),
        Command::Mix(mix) => mix::run(mix),
        Command::Play(play) => play::run(run, play),
        Command::Tap(tap) => tap::run(run, tap),
        Command::Record(record) => record::run(run, record),
        Command::Completions(completions) => manual::completions(completions.shell),
        Command::Man(man) => manual::page(man.out.as_deref()),
    }
}
