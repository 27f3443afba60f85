//! `palabre import`: makes the participants of a document that `palabre export` has written on another machine.
//!
//! Everything is checked before the first file is written. If a file can't be written, the previous files are restored.

mod imported;
mod plan;

use std::io::{self, IsTerminal};
use std::path::Path;

use palabre_config::{Exported, MAX_EXPORT_BYTES, PARTICIPANTS_DIR, Participant, Server};
use palabre_host::exit::Failure;
use palabre_room::Name;

use crate::cli::{Cli, Import};
use crate::each::Each;
use crate::{admission, control, input, permission, reload, roster_lock};
use imported::Imported;

/// Maximum number of names in the hint at the end, which says which participants to revoke on the other machine.
const MAX_NAMES: usize = 8;

/// Writes the participants' files, reloads the supervisor if one runs, prints what happened.
pub(crate) fn run(cli: &Cli, options: &Import) -> Result<(), Failure> {
    let config = cli.config_dir();
    let server = Server::load(config).map_err(Failure::config)?;
    let exported = read(&options.file)?;
    let mut all = match options.dry_run {
        true => plan(config, &server, exported, options)?,
        false => write(config, &server, exported, options)?,
    };
    if !options.dry_run {
        apply(cli.run_dir(), &mut all);
    }
    imported::show(&all, options)?;
    let mut each = Each::of(all.len());
    for one in &all {
        each.note(&one.participant.name, one.failure.clone().map_or(Ok(()), Err));
    }
    each.end()?;
    if !options.dry_run {
        hint(&server, &all);
    }
    Ok(())
}

/// Says on standard error what the operator must do at the proxy, if there is one, and on the machine that exported the participants.
fn hint(server: &Server, all: &[Imported]) {
    if all.iter().any(|one| !one.replaces) {
        admission::hint_at_proxy(server);
    }
    let names: Vec<&str> = all.iter().map(|one| one.participant.name.as_str()).collect();
    let names = if names.len() > MAX_NAMES { "NAME…".to_owned() } else { names.join(" ") };
    eprintln!(
        "palabre: as soon as the new links work, run 'palabre revoke {names}' on the other machine, which makes the old links invalid"
    );
}

/// Reads and parses the document.
fn read(file: &Path) -> Result<Vec<Exported>, Failure> {
    let is_standard_input = file == Path::new(input::STANDARD_INPUT);
    if is_standard_input && io::stdin().is_terminal() {
        eprintln!("palabre: reading the document of 'palabre export' from the terminal, until Ctrl-D");
    }
    let source = if is_standard_input { Path::new("standard input") } else { file };
    let bytes = input::read(file, MAX_EXPORT_BYTES, "document").map_err(|cause| {
        Failure::refused(format!("unable to read {}: {cause}; nothing was changed", input::named(file)))
    })?;
    let parsed = Exported::parse(source, &bytes);
    parsed.map_err(|error| Failure::refused(format!("{error}; nothing was changed")))
}

/// Decides what to do for each participant. Fails with all faults, each in a line.
fn plan(config: &Path, server: &Server, exported: Vec<Exported>, options: &Import) -> Result<Vec<Imported>, Failure> {
    plan::all(config, server, exported, options).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(|fault| format!("{fault}\npalabre: ")).collect();
        Failure::refused(format!("{}nothing was changed; faults: {}", lines.concat(), faults.len()))
    })
}

fn write(config: &Path, server: &Server, exported: Vec<Exported>, options: &Import) -> Result<Vec<Imported>, Failure> {
    admission::create_roster(config)?;
    let _lock = roster_lock::take(config)?;
    let all = plan(config, server, exported, options)?;
    let participants: Vec<Participant> = all.iter().map(|one| one.participant.clone()).collect();
    Participant::write_all(config, &participants).map_err(|error| {
        let cause = format!("{error}; nothing was changed");
        Failure::system(permission::explain(&config.join(PARTICIPANTS_DIR), cause))
    })?;
    Ok(all)
}

/// Makes the supervisor use the written files. Deletes the display names that replaced participants had chosen on this machine.
fn apply(run: &Path, all: &mut [Imported]) {
    let names: Vec<Name> = all.iter().map(|one| one.participant.name.clone()).collect();
    for (one, applied) in all.iter_mut().zip(reload::if_running(run, &names)) {
        let forgotten = || match one.replaces && control::is_running(run) {
            true => control::restore_name(run, &one.participant.name),
            false => Ok(()),
        };
        one.failure = applied.and_then(|()| forgotten()).err();
    }
}
