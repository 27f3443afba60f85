//! `palabre revoke`: a participant's file away, and their listener with it.

use palabre_config::Participant;
use palabre_host::exit::Failure;

use crate::cli::{Cli, Revoke};
use crate::{control, permission};

/// Removes the participant's file and reloads the supervisor where one runs.
///
/// # Errors
/// There is no such participant (refused), or the file can't be removed (system).
pub fn run(cli: &Cli, revoke: &Revoke) -> Result<(), Failure> {
    let (config, name) = (cli.config_dir(), &revoke.name);
    let path = Participant::path(config, name);
    // A file with no meaning can be removed like any other; it just doesn't tell what it was.
    let was = Participant::load(config, name).ok();
    Participant::remove(config, name).map_err(|error| {
        if error.is_missing() {
            return Failure::refused(format!("unable to revoke '{name}': there is no '{}'", path.display()));
        }
        Failure::system(permission::explain(path.parent().unwrap_or(config), error))
    })?;
    println!("removed '{}'", path.display());
    if let Some(was) = was {
        let port = was.port;
        println!("{name} had port {port} in room '{}'; their link no longer opens", was.room);
        println!("'palabre invite {name} --port {port}{}' gives them the same port and a new key", room(&was));
    }
    if !control::is_running(cli.run_dir()) {
        println!("no supervisor runs in '{}': nothing to reload", cli.run_dir().display());
        return Ok(());
    }
    control::try_reload(cli.run_dir()).map(drop)
}

fn room(was: &Participant) -> String {
    if was.room.as_str() == "main" { String::new() } else { format!(" --room {}", was.room) }
}
