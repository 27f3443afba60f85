//! What is changed about a participant by one word: the field of their file, and a reload, so that it holds at once.
//!
//! The file is the truth: whoever edits it and says `palabre reload` has done the same.

use palabre_config::{Edit, Participant};
use palabre_host::exit::Failure;
use palabre_room::{Gain, Name, display_name_is_valid};

use crate::cli::{Cli, Loudness, Move, Rename};
use crate::output::print;
use crate::{control, edits, permission};

/// `palabre rename`.
///
/// # Errors
/// Those of [`change`]; the display name is none (refused).
pub fn rename(cli: &Cli, rename: &Rename) -> Result<(), Failure> {
    let (name, display) = (&rename.name, &rename.display_name);
    if !display_name_is_valid(display) {
        return Err(Failure::refused(format!(
            "unable to rename '{name}': a display name has 1 to 64 characters, none of them a control character"
        )));
    }
    let said = format!("{name} is shown as '{display}'; the login name, the port and the link stay\n");
    change(cli, name, "rename", &[Edit::DisplayName(display.clone())], &said)
}

/// `palabre mute` and `palabre unmute`.
///
/// # Errors
/// Those of [`change`].
pub fn mute(cli: &Cli, name: &Name, muted: bool) -> Result<(), Failure> {
    let (verb, said) = match muted {
        true => ("mute", format!("{name}: nobody hears them, until 'palabre unmute {name}'\n")),
        false => ("unmute", format!("{name}: everybody hears them\n")),
    };
    change(cli, name, verb, &[Edit::Muted(muted)], &said)
}

/// `palabre gain`.
///
/// # Errors
/// Those of [`change`].
pub fn gain(cli: &Cli, gain: &Loudness) -> Result<(), Failure> {
    let name = &gain.name;
    let db = match gain.gain {
        Gain::Db(db) => db,
        Gain::Mute => return mute(cli, name, true),
    };
    change(cli, name, "change the gain of", &[Edit::GainDb(db)], &format!("{name}: {db} dB\n"))
}

/// `palabre move`.
///
/// # Errors
/// Those of [`change`].
pub fn move_to(cli: &Cli, to: &Move) -> Result<(), Failure> {
    let (name, room) = (&to.name, &to.room);
    let said = format!("{name} is in room '{room}'; the port and the link stay\n");
    change(cli, name, "move", &[Edit::Room(room.clone())], &said)
}

/// Edits the participant's file, reloads the supervisor where one runs, says what holds now.
///
/// # Errors
/// There is no such participant (refused), the file has no meaning (configuration) or can't be written (system).
fn change(cli: &Cli, name: &Name, verb: &str, edits: &[Edit], said: &str) -> Result<(), Failure> {
    let config = cli.config_dir();
    let turn = edits::begin(config)?;
    let edited = Participant::edit(config, name, edits).map_err(|error| {
        if error.is_missing() {
            let cause = "no such participant; 'palabre list' lists them";
            return Failure::refused(format!("unable to {verb} '{name}': {cause}"));
        }
        Failure::config(error)
    })?;
    let path = Participant::path(config, name);
    edited.write().map_err(|error| Failure::system(permission::explain(path.parent().unwrap_or(config), error)))?;
    drop(turn);
    print(said)?;
    control::reload_if_running(cli.run_dir(), name.as_str());
    Ok(())
}
