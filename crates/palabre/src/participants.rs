//! Commands that change one setting in a participant's file: `rename`, `mute`, `unmute`, `gain`, `move`.
//!
//! Editing the file by hand and running `palabre reload` has the same effect.

use palabre_config::{Edit, Participant};
use palabre_host::exit::Failure;
use palabre_room::{Gain, Name, display_name_is_valid};

use crate::cli::{Cli, Move, Rename, SetGain};
use crate::output::print;
use crate::{permission, reload, roster_lock};

/// `palabre rename`.
pub(crate) fn rename(cli: &Cli, rename: &Rename) -> Result<(), Failure> {
    let (name, display) = (&rename.name, &rename.display_name);
    if !display_name_is_valid(display) {
        return Err(Failure::refused(format!(
            "unable to rename '{name}': a display name has 1 to 64 characters and no control characters"
        )));
    }
    let message = format!("{name}: the display name is now '{display}'; the login name, the port and the link stay\n");
    change(cli, name, "rename", &[Edit::DisplayName(display.clone())], &message)
}

/// `palabre mute` and `palabre unmute`.
pub(crate) fn mute(cli: &Cli, name: &Name, muted: bool) -> Result<(), Failure> {
    let (verb, message) = match muted {
        true => ("mute", format!("{name}: muted; 'palabre unmute {name}' unmutes the participant\n")),
        false => ("unmute", format!("{name}: no longer muted\n")),
    };
    change(cli, name, verb, &[Edit::Muted(muted)], &message)
}

/// `palabre gain`.
pub(crate) fn gain(cli: &Cli, gain: &SetGain) -> Result<(), Failure> {
    let name = &gain.name;
    let db = match gain.gain {
        Gain::Db(db) => db,
        Gain::Mute => return mute(cli, name, true),
    };
    change(cli, name, "change the gain of", &[Edit::GainDb(db)], &format!("{name}: the gain is now {db} dB\n"))
}

/// `palabre move`.
pub(crate) fn move_to(cli: &Cli, to: &Move) -> Result<(), Failure> {
    let (name, room) = (&to.name, &to.room);
    let message = format!("{name}: moved to room '{room}'; the port and the link stay\n");
    change(cli, name, "move", &[Edit::Room(room.clone())], &message)
}

/// Edits the participant's file, reloads the supervisor if one runs, and prints `message`.
fn change(cli: &Cli, name: &Name, verb: &str, edits: &[Edit], message: &str) -> Result<(), Failure> {
    let config = cli.config_dir();
    let lock = roster_lock::take(config)?;
    let edited = Participant::edit(config, name, edits).map_err(|error| {
        if error.is_missing() {
            let cause = "no such participant; see 'palabre list'";
            return Failure::refused(format!("unable to {verb} '{name}': {cause}"));
        }
        Failure::config(error)
    })?;
    let path = Participant::path(config, name);
    edited.write().map_err(|error| Failure::system(permission::explain(path.parent().unwrap_or(config), error)))?;
    drop(lock);
    reload::if_running(cli.run_dir(), name.as_str())?;
    print(message)
}
