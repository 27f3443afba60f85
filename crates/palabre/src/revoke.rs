//! `palabre revoke`: a participant's file away, and their listener with it.

use palabre_config::Participant;
use palabre_host::exit::Failure;

use crate::cli::{Cli, Revoke};
use crate::output::print;
use crate::{control, edits, permission};

/// Removes the participant's file and reloads the supervisor where one runs.
///
/// # Errors
/// There is no such participant (refused), or the file can't be removed (system).
pub fn run(cli: &Cli, revoke: &Revoke) -> Result<(), Failure> {
    let (config, name) = (cli.config_dir(), &revoke.name);
    let path = Participant::path(config, name);
    let turn = edits::begin(config)?;
    // A file with no meaning can be removed like any other; it just doesn't tell what it was.
    let was = Participant::load(config, name).ok();
    Participant::remove(config, name).map_err(|error| {
        if error.is_missing() {
            return Failure::refused(format!("unable to revoke '{name}': there is no '{}'", path.display()));
        }
        Failure::system(permission::explain(path.parent().unwrap_or(config), error))
    })?;
    drop(turn);
    let mut text = format!("removed '{}'\n", path.display());
    if let Some(was) = was {
        text += &format!(
            "{name} had port {port} in room '{room}'; their link no longer opens\n\
             'palabre invite {name} --port {port}{flag}' gives them the same port and a new key\n",
            port = was.port,
            room = was.room,
            flag = room_flag(&was)
        );
    }
    let runs = control::is_running(cli.run_dir());
    if !runs {
        text += &format!("no supervisor runs in '{}': nothing to reload\n", cli.run_dir().display());
    }
    print(text)?;
    if runs { control::try_reload(cli.run_dir()).map(drop) } else { Ok(()) }
}

fn room_flag(was: &Participant) -> String {
    if was.room.as_str() == "main" { String::new() } else { format!(" --room {}", was.room) }
}
