//! `palabre revoke`: removes participants' files. The supervisor then ends the participants' listeners.

use std::path::Path;

use palabre_config::Participant;
use palabre_config::control::{Changes, Status};
use palabre_host::exit::Failure;
use palabre_room::Name;
use serde_json::{Value, json};

use crate::cli::{Cli, Revoke};
use crate::each::Each;
use crate::output::{print, print_json};
use crate::standalone::{self, Change};
use crate::{control, permission, reload, roster_lock};

/// What to do if a listener may still serve a removed participant.
const TO_DO: &str = "the link may still work: correct the cause, then run 'palabre reload'";

/// The removal of one participant.
struct Removal {
    name: Name,
    /// The settings in the file; `None` if the file was invalid.
    participant: Option<Participant>,
    is_removed: bool,
    /// Whether the participant's listener has ended; false if none had to be ended.
    outcome: Result<bool, Failure>,
}

/// Removes the participants' files and reloads the supervisor if one runs.
pub(crate) fn run(cli: &Cli, revoke: &Revoke) -> Result<(), Failure> {
    let (config, names) = (cli.config_dir(), revoke.targets.names());
    let lock = roster_lock::take(config)?;
    let mut removals: Vec<Removal> = names.into_iter().map(|name| remove(config, name)).collect();
    drop(lock);
    end(cli.run_dir(), &mut removals);
    if revoke.json {
        let all: Vec<Value> = removals.iter().map(Removal::json).collect();
        print_json(&json!({ "participants": all }))?;
    } else {
        print(removals.iter().map(|removal| removal.lines(config)).collect::<String>())?;
        let idle = removals.iter().filter(|removal| removal.outcome == Ok(false));
        let idle: Vec<&str> = idle.map(|removal| removal.name.as_str()).collect();
        if !idle.is_empty() {
            let (names, run) = (idle.join(", "), cli.run_dir().display());
            print(format!("no listener of {names} was running, and no supervisor runs in '{run}'\n"))?;
        }
    }
    let mut each = Each::of(removals.len());
    for removal in removals {
        each.note(removal.name, removal.outcome.map(drop));
    }
    each.end()
}

/// Removes a participant's file. An invalid file can be removed too. The participant's port and room are then unknown.
fn remove(config: &Path, name: Name) -> Removal {
    let path = Participant::path(config, &name);
    let participant = Participant::load(config, &name).ok();
    let removed = Participant::remove(config, &name).map_err(|error| {
        if error.is_missing() {
            return Failure::refused(format!(
                "unable to revoke '{name}': no file '{}'; see 'palabre list'",
                path.display()
            ));
        }
        Failure::system(permission::explain(path.parent().unwrap_or(config), error))
    });
    Removal { name, participant, is_removed: removed.is_ok(), outcome: removed.map(|()| false) }
}

/// Ends the listeners of the removed participants, waits until they have ended, and stores the outcomes.
fn end(run: &Path, removals: &mut [Removal]) {
    let removed = removals.iter_mut().filter(|removal| removal.is_removed);
    if !control::is_running(run) {
        return removed
            .for_each(|removal| removal.outcome = standalone::apply(run, removal.name.as_str(), Change::Removed));
    }
    let removed: Vec<&mut Removal> = removed.collect();
    let names: Vec<Name> = removed.iter().map(|removal| removal.name.clone()).collect();
    if names.is_empty() {
        return;
    }
    let reloaded = reload::of(run, &names);
    for removal in removed {
        removal.outcome = match &reloaded {
            Ok((changes, status)) => has_ended(&removal.name, changes, status),
            Err(error) => Err(Failure::system(format!("{error}; {TO_DO}"))),
        };
    }
}

fn has_ended(name: &Name, changes: &Changes, status: &Status) -> Result<bool, Failure> {
    if status.participants.iter().all(|one| one.name != name.as_str()) {
        return Ok(true);
    }
    let fault = changes.errors.iter().find(|fault| reload::concerns(fault, name));
    let why = fault.map_or("its file is still there", String::as_str);
    Err(Failure::refused(format!("unable to end the listener of '{name}': {why}; {TO_DO}")))
}

impl Removal {
    /// Returns the command that invites the participant again.
    fn again(&self) -> Option<String> {
        let Participant { port, room, .. } = self.participant.as_ref()?;
        let flag = if room.as_str() == "main" { String::new() } else { format!(" --room {room}") };
        Some(format!("palabre invite {} --port {port}{flag}", self.name))
    }

    fn lines(&self, config: &Path) -> String {
        if !self.is_removed {
            return String::new();
        }
        let name = &self.name;
        let mut text = format!("removed '{}'\n", Participant::path(config, name).display());
        if let (true, Some(participant), Some(again)) = (self.outcome.is_ok(), &self.participant, self.again()) {
            let Participant { port, room, .. } = participant;
            text += &format!(
                "{name} had port {port} in room '{room}'; the participant's link is invalid now\n\
                 '{again}' invites '{name}' again, with the same port and a new key\n"
            );
        }
        text
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name.as_str(),
            "removed": self.is_removed,
            "port": self.participant.as_ref().map(|participant| participant.port),
            "room": self.participant.as_ref().map(|participant| participant.room.as_str()),
            "again": self.again(),
            "error": self.outcome.as_ref().err().map(ToString::to_string),
        })
    }
}
