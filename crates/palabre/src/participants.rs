//! Commands that change settings in participants' files: `rename`, `mute`, `unmute`, `gain`, `move`, `change`, `suspend`, `resume`,
//! `sign-out`.
//!
//! Editing the file by hand and running `palabre reload` has the same effect.

use std::path::Path;
use std::time::{Duration, SystemTime};

use palabre_config::{Edit, Moment, Participant};
use palabre_host::exit::Failure;
use palabre_room::{Gain, Name, display_name_is_valid};

use crate::cli::{Change, Cli, Expiry, Move, Rename, SetGain};
use crate::each::Each;
use crate::output::print;
use crate::{control, permission, reload, roster_lock};

/// `palabre rename`.
pub(crate) fn rename(cli: &Cli, rename: &Rename) -> Result<(), Failure> {
    let (name, display) = (&rename.name, &rename.display_name);
    if !display_name_is_valid(display) {
        return Err(Failure::refused(format!(
            "unable to rename '{name}': a display name has 1 to 64 characters, not only spaces, and no control characters"
        )));
    }
    let message = |_: &Name| format!("the display name is now '{display}'; the login name, the port and the link stay");
    edit_all(cli, std::slice::from_ref(name), "rename", &[Edit::DisplayName(display.clone())], message)?;
    // The supervisor still shows a display name that the participant has chosen on the page. Replace it by the new name too.
    if control::is_running(cli.run_dir()) { control::restore_name(cli.run_dir(), name) } else { Ok(()) }
}

/// `palabre mute` and `palabre unmute`.
pub(crate) fn mute(cli: &Cli, names: &[Name], muted: bool) -> Result<(), Failure> {
    let verb = if muted { "mute" } else { "unmute" };
    edit_all(cli, names, verb, &[Edit::Muted(muted)], |name| match muted {
        true => format!("muted; 'palabre unmute {name}' unmutes the participant"),
        false => "no longer muted".to_owned(),
    })
}

/// `palabre gain`.
pub(crate) fn gain(cli: &Cli, gain: &SetGain) -> Result<(), Failure> {
    let names = gain.targets.names();
    let db = match gain.gain {
        Gain::Db(db) => db,
        Gain::Mute => return mute(cli, &names, true),
    };
    edit_all(cli, &names, "change the gain of", &[Edit::GainDb(db)], |_| format!("the gain is now {db} dB"))
}

/// `palabre move`.
pub(crate) fn move_to(cli: &Cli, to: &Move) -> Result<(), Failure> {
    let room = &to.room;
    let message = |_: &Name| format!("moved to room '{room}'; the port and the link stay");
    edit_all(cli, &to.targets.names(), "move", &[Edit::Room(room.clone())], message)
}

/// `palabre change`.
pub(crate) fn change(cli: &Cli, change: &Change) -> Result<(), Failure> {
    let (mut edits, mut words) = (Vec::new(), Vec::new());
    if let Some(expires) = change.expires {
        edits.push(Edit::KeyExpires(expires.moment()));
        words.push(match expires {
            Expiry::Never => "the link no longer expires".to_owned(),
            Expiry::At(moment) | Expiry::After(moment) => format!("the link expires on {moment}"),
        });
    }
    if change.listen_only || change.no_listen_only {
        edits.push(Edit::ListenOnly(change.listen_only));
        let verb = if change.listen_only { "only listens" } else { "may speak" };
        words.push(format!("the participant {verb}"));
    }
    let message = words.join("; ");
    edit_all(cli, &change.targets.names(), "change", &edits, |_| message.clone())
}

/// `palabre suspend` and `palabre resume`.
pub(crate) fn suspend(cli: &Cli, names: &[Name], suspended: bool) -> Result<(), Failure> {
    let verb = if suspended { "suspend" } else { "resume" };
    edit_all(cli, names, verb, &[Edit::Suspended(suspended)], |name| match suspended {
        true => format!("suspended; 'palabre resume {name}' lifts the suspension"),
        false => "no longer suspended".to_owned(),
    })
}

/// `palabre sign-out`.
pub(crate) fn sign_out(cli: &Cli, names: &[Name]) -> Result<(), Failure> {
    let now = Moment::after(SystemTime::now(), Duration::ZERO).ok_or_else(|| {
        Failure::system("unable to sign out: the clock of this machine is out of range; set the clock")
    })?;
    edit_all(cli, names, "sign out", &[Edit::SignedOut(now)], |_| {
        "all browsers are signed out; each must open the link again".to_owned()
    })
}

/// Edits the participants' files, reloads the supervisor if one runs, and prints the outcome for each name.
fn edit_all(
    cli: &Cli,
    names: &[Name],
    verb: &str,
    edits: &[Edit],
    message: impl Fn(&Name) -> String,
) -> Result<(), Failure> {
    let mut each = Each::of(names.len());
    let lock = roster_lock::take(cli.config_dir())?;
    let mut written = Vec::new();
    for name in names {
        match edit(cli.config_dir(), name, verb, edits) {
            Ok(()) => written.push(name.clone()),
            failed => each.note(name, failed),
        }
    }
    drop(lock);
    for (name, applied) in written.iter().zip(reload::if_running(cli.run_dir(), &written)) {
        if applied.is_ok() {
            print(format!("{name}: {}\n", message(name)))?;
        }
        each.note(name, applied);
    }
    each.end()
}

fn edit(config: &Path, name: &Name, verb: &str, edits: &[Edit]) -> Result<(), Failure> {
    let edited = Participant::edit(config, name, edits).map_err(|error| {
        if error.is_missing() {
            let cause = "no such participant; see 'palabre list'";
            return Failure::refused(format!("unable to {verb} '{name}': {cause}"));
        }
        Failure::config(error)
    })?;
    let path = Participant::path(config, name);
    edited.write().map_err(|error| Failure::system(permission::explain(path.parent().unwrap_or(config), error)))
}
