//! `palabre export`: writes a document with everything that another machine needs to make the same participants. `palabre import` reads it.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use palabre_config::control::{LinkUse, ParticipantStatus};
use palabre_config::{ConfigError, Exported, Participant, Server};
use palabre_host::exit::Failure;
use palabre_room::Name;
use tempfile::NamedTempFile;

use crate::cli::{Cli, Export};
use crate::each::Each;
use crate::output::print;
use crate::{control, list};

/// Writes the document to standard output or into a file. Writes nothing if a participant can't be exported.
pub(crate) fn run(cli: &Cli, options: &Export) -> Result<(), Failure> {
    let participants = selected(cli.config_dir(), options)?;
    let known = known(cli, &participants)?;
    let (mut each, mut all) = (Each::of(participants.len()), Vec::new());
    for participant in participants {
        let name = participant.name.clone();
        match exported(participant, known.as_ref()) {
            Ok(one) => all.push(one),
            Err(failure) => each.note(name, Err(failure)),
        }
    }
    each.end()?;
    let count = all.len();
    let document = Exported::document(all).map_err(|cause| {
        Failure::refused(format!(
            "unable to export {count} participants: {cause}; export fewer participants, with --room or by name"
        ))
    })?;
    match &options.out {
        Some(path) => write(path, &document, count),
        None => {
            if io::stdout().is_terminal() {
                eprintln!(
                    "palabre: warning: the document has hashes of access keys; keep it as secret as a participant's file"
                );
            }
            print(document)
        }
    }
}

/// Returns the participants that the command line selects. Fails if a file can't be read or is invalid.
fn selected(config: &Path, options: &Export) -> Result<Vec<Participant>, Failure> {
    if !options.all && options.room.is_none() {
        return named(config, &options.names());
    }
    let (mut participants, errors) = list::load(config)?;
    if !errors.is_empty() {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let texts = texts.join("\npalabre: ");
        return Err(Failure::config(format!(
            "{texts}; nothing was exported; correct each invalid file, or export the other participants by name"
        )));
    }
    if let Some(room) = &options.room {
        participants.retain(|participant| participant.room == *room);
    }
    let none = match &options.room {
        Some(room) => format!("room '{room}' has no participants"),
        None => "there are no participants".to_owned(),
    };
    match participants.is_empty() {
        true => Err(Failure::refused(format!("unable to export: {none}; see 'palabre list'"))),
        false => Ok(participants),
    }
}

fn named(config: &Path, names: &[Name]) -> Result<Vec<Participant>, Failure> {
    let (mut each, mut participants) = (Each::of(names.len()), Vec::new());
    for name in names {
        match Participant::load(config, name) {
            Ok(participant) => participants.push(participant),
            Err(error) => each.note(name, Err(unreadable(name, &error))),
        }
    }
    each.end().map(|()| participants)
}

fn unreadable(name: &Name, error: &ConfigError) -> Failure {
    match (error.is_missing(), error.is_denied()) {
        (true, _) => Failure::refused(format!("unable to export '{name}': no such participant; see 'palabre list'")),
        (false, true) => Failure::system(format!("{error}; {}", list::PERMISSION)),
        (false, false) => Failure::config(error),
    }
}

/// Returns the supervisor's status of each participant; `None` if no supervisor runs.
fn known(cli: &Cli, participants: &[Participant]) -> Result<Option<BTreeMap<String, ParticipantStatus>>, Failure> {
    let run = cli.run_dir();
    if control::is_running(run) {
        let all = control::status(run)?.participants;
        return Ok(Some(all.into_iter().map(|one| (one.name.clone(), one)).collect()));
    }
    let may_choose = Server::load(cli.config_dir()).is_ok_and(|server| server.own_display_names);
    if may_choose && !participants.is_empty() {
        eprintln!(
            "palabre: warning: no supervisor runs in '{}', so display names that participants have chosen are not exported",
            run.display()
        );
    }
    Ok(None)
}

/// Adds to a participant what only the supervisor knows: the display name that the participant has chosen, and whether the one-time link was
/// used.
fn exported(
    participant: Participant,
    known: Option<&BTreeMap<String, ParticipantStatus>>,
) -> Result<Exported, Failure> {
    let one = known.and_then(|known| known.get(participant.name.as_str()));
    let link_used = match (participant.key_once, one.and_then(|one| one.link)) {
        (false, _) => false,
        (true, Some(link)) => link == LinkUse::Used,
        (true, None) => return Err(unknown_use(&participant.name, known.is_some())),
    };
    let chosen_display_name = one.filter(|one| one.display_chosen).map(|one| one.display.clone());
    Ok(Exported { participant, chosen_display_name, link_used })
}

/// The failure for a one-time link of which nobody knows whether it was used. On another machine, a used link would open again.
fn unknown_use(name: &Name, is_running: bool) -> Failure {
    let why = match is_running {
        true => {
            "the supervisor doesn't know whether the one-time link was used; run 'palabre reload' and 'palabre status'"
        }
        false => {
            "only the supervisor knows whether the one-time link was used; start palabre-supervisor, or give its runtime directory with --run"
        }
    };
    Failure::refused(format!("unable to export '{name}': {why}"))
}

/// Writes the document into a file that only its owner may read, and replaces a file of the same name.
fn write(path: &Path, document: &str, count: usize) -> Result<(), Failure> {
    let unable = |cause: &dyn std::fmt::Display| {
        Failure::system(format!("unable to write '{}': {cause}; choose another file with --out", path.display()))
    };
    if path.exists() && !path.is_file() {
        return Err(unable(&"the path exists and is not a regular file"));
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The document keeps the mode of the temporary file: 0600.
    let mut file = NamedTempFile::new_in(directory).map_err(|error| unable(&error))?;
    file.write_all(document.as_bytes()).map_err(|error| unable(&error))?;
    file.persist(path).map_err(|error| unable(&error.error))?;
    let participants = if count == 1 { "participant" } else { "participants" };
    eprintln!("palabre: wrote {count} {participants} to '{}', which only its owner may read", path.display());
    Ok(())
}
