//! `palabre revoke`: removes a participant's file. The supervisor then ends the participant's listener.

use std::path::Path;

use palabre_config::Participant;
use palabre_host::exit::Failure;
use palabre_room::Name;

use crate::cli::Cli;
use crate::output::print;
use crate::standalone::{self, Change};
use crate::{control, permission, reload, roster_lock};

/// Removes the participant's file and reloads the supervisor if one runs.
pub(crate) fn run(cli: &Cli, name: &Name) -> Result<(), Failure> {
    let config = cli.config_dir();
    let path = Participant::path(config, name);
    let lock = roster_lock::take(config)?;
    // An invalid file can be removed too. The participant's port and room are then unknown.
    let removed = Participant::load(config, name).ok();
    Participant::remove(config, name).map_err(|error| {
        if error.is_missing() {
            return Failure::refused(format!(
                "unable to revoke '{name}': no file '{}'; see 'palabre list'",
                path.display()
            ));
        }
        Failure::system(permission::explain(path.parent().unwrap_or(config), error))
    })?;
    drop(lock);
    print(format!("removed '{}'\n", path.display()))?;
    let run_dir = cli.run_dir();
    let has_ended = match control::is_running(run_dir) {
        true => end(run_dir, name).map(|()| true),
        false => standalone::apply(run_dir, name.as_str(), Change::Removed),
    }?;
    let mut text = String::new();
    if let Some(removed) = removed {
        text += &format!(
            "{name} had port {port} in room '{room}'; the participant's link is invalid now\n\
             'palabre invite {name} --port {port}{flag}' invites '{name}' again, with the same port and a new key\n",
            port = removed.port,
            room = removed.room,
            flag = room_flag(&removed)
        );
    }
    if !has_ended {
        text += &format!("no supervisor runs in '{}', so no listener has to be ended\n", run_dir.display());
    }
    print(text)
}

/// Makes the supervisor end the listener, waits for that, and checks it.
fn end(run_dir: &Path, name: &Name) -> Result<(), Failure> {
    const TO_DO: &str = "the link may still open: correct the cause, then run 'palabre reload'";
    let (changes, status) =
        reload::of(run_dir, name.as_str()).map_err(|error| Failure::system(format!("{error}; {TO_DO}")))?;
    if status.participants.iter().any(|one| one.name == name.as_str()) {
        let fault = changes.errors.iter().find(|fault| reload::concerns(fault, name.as_str()));
        let why = fault.map_or("its file is still there", String::as_str);
        return Err(Failure::refused(format!("unable to end the listener of '{name}': {why}; {TO_DO}")));
    }
    Ok(())
}

fn room_flag(participant: &Participant) -> String {
    if participant.room.as_str() == "main" { String::new() } else { format!(" --room {}", participant.room) }
}
