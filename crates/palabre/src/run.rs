//! Maps each subcommand to its function.

use palabre_host::exit::Failure;

use crate::cli::{Cli, Command};
use crate::{
    check, control, exec_mixer, export, import, invite, list, logs, manual, mix, participants, play, proxy_config,
    record, reload, restart, revoke, self_sign, status, swarm, tap, top, trial,
};

/// Runs the subcommand.
pub(crate) fn run(cli: &Cli) -> Result<(), Failure> {
    let run = cli.run_dir();
    match &cli.command {
        Command::Status(status) => status::run(run, status),
        Command::Check(check) => check::run(cli, check),
        Command::Top(_) => top::run(run),
        Command::Logs(logs) => logs::run(cli, logs),
        Command::Restart(restart) => restart::run(run, restart),
        Command::Stop(stop) => control::stop(run, &stop.names()),
        Command::Start(start) => control::start(run, &start.names()),
        Command::Kick(kick) => control::kick(run, &kick.names()),
        Command::Reload(options) => reload::run(run, options),
        Command::SelfSign(options) => self_sign::run(cli, options),
        Command::Invite(invite) => invite::run(cli, invite),
        Command::Rename(rename) => participants::rename(cli, rename),
        Command::Mute(mute) => participants::mute(cli, &mute.names(), true),
        Command::Unmute(unmute) => participants::mute(cli, &unmute.names(), false),
        Command::Gain(gain) => participants::gain(cli, gain),
        Command::Change(change) => participants::change(cli, change),
        Command::Suspend(suspend) => participants::suspend(cli, &suspend.names(), true),
        Command::Resume(resume) => participants::suspend(cli, &resume.names(), false),
        Command::SignOut(targets) => participants::sign_out(cli, &targets.names()),
        Command::Move(to) => participants::move_to(cli, to),
        Command::List(list) => list::participants(cli, list),
        Command::Rooms(rooms) => list::rooms(cli, rooms.json),
        Command::Revoke(revoke) => revoke::run(cli, revoke),
        Command::Export(options) => export::run(cli, options),
        Command::Import(options) => import::run(cli, options),
        Command::ExecMixer(options) => exec_mixer::run(cli.config_dir(), options),
        Command::ProxyConfig(options) => proxy_config::run(cli, options),
        Command::Try(options) => trial::run(cli, options),
        Command::Swarm(options) => swarm::run(cli, options),
        Command::Mix(mix) => mix::run(mix),
        Command::Play(play) => play::run(run, play),
        Command::Tap(tap) => tap::run(run, tap),
        Command::Record(record) => record::run(run, record),
        Command::Completions(completions) => manual::completions(completions.shell),
        Command::Man(man) => manual::page(man.out.as_deref()),
    }
}
