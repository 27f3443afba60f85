//! `palabre invite --from`: invites all participants of a list. A second run with the same list changes nothing.
//!
//! All lines are checked before the first file is written, and the supervisor reads the configuration once, at the end.

use std::collections::BTreeMap;
use std::path::Path;

use palabre_config::{Edit, Edited, Key, PARTICIPANTS_DIR, Participant, Server};
use palabre_host::exit::Failure;
use palabre_room::Name;

use super::invited::{self, Invited, Outcome};
use super::new::{self, Wanted};
use super::rows::{self, Row, located};
use crate::admission::{self, Ports};
use crate::cli::{Cli, Expiry, Invite};
use crate::each::Each;
use crate::{input, permission, reload, roster_lock};

/// What the command must do for a line of the list.
enum Step {
    New(Participant, Key),
    Update(Box<Edited>),
    Unchanged(Participant),
}

/// Invites the participants of the list `from`.
pub(super) fn run(cli: &Cli, invite: &Invite, server: &Server, from: &Path) -> Result<(), Failure> {
    let config = cli.config_dir();
    let source = input::named(from);
    let unable = |cause: String| Failure::refused(format!("unable to read {source}: {cause}"));
    let refused = |faults: Vec<String>| {
        let faults: Vec<String> = faults.iter().map(|fault| format!("{source}, {fault}\npalabre: ")).collect();
        Failure::refused(format!("{}nothing was changed; faults in the list: {}", faults.concat(), faults.len()))
    };
    let bytes = input::read(from, rows::MAX_BYTES, "list").map_err(unable)?;
    let rows = rows::parse(&bytes, invite).map_err(refused)?;
    if rows.is_empty() {
        return Err(unable("the list has no participants".to_owned()));
    }
    admission::create_roster(config)?;
    let lock = roster_lock::take(config)?;
    let steps = plan(config, server, &rows, invite.update)?.map_err(refused)?;
    let mut all = write(config, server, steps);
    drop(lock);
    // The links are stored nowhere: print them before the reload, which may take a minute and be interrupted. JSON is printed after the
    // reload, because it contains the reload's outcome.
    let shown = if invite.json { Ok(()) } else { show(invite, server, &all) };
    apply(cli, &mut all);
    shown?;
    if invite.json {
        show(invite, server, &all)?;
    }
    let mut each = Each::of(all.len());
    for one in all {
        each.note(&one.participant.name, one.failure.map_or(Ok(()), Err));
    }
    each.end()
}

/// Decides what to do for each line, or returns an error for each line that can't be used.
fn plan(
    config: &Path,
    server: &Server,
    rows: &[Row],
    may_update: bool,
) -> Result<Result<Vec<Step>, Vec<String>>, Failure> {
    let (mut lines, mut errors) = (BTreeMap::new(), Vec::new());
    let mut ports = Ports::load(config, server);
    let mut given = BTreeMap::new();
    let is_new = |row: &&Row| Participant::path(config, &row.wanted.name).symlink_metadata().is_err();
    // The ports that the list names come first, so that no other line gets one of them.
    let (with_port, without): (Vec<&Row>, Vec<&Row>) =
        rows.iter().filter(is_new).partition(|row| row.wanted.port.is_some());
    for row in with_port.into_iter().chain(without) {
        if !given.contains_key(&row.wanted.name) {
            given.insert(row.wanted.name.clone(), ports.give(&row.wanted.name, row.wanted.port));
        }
    }
    let mut steps = Vec::new();
    for Row { line, wanted } in rows {
        let step = match lines.insert(wanted.name.clone(), *line) {
            Some(earlier) => Err(format!("the login name '{}' is in line {earlier} too", wanted.name)),
            None => wanted.check(server).and_then(|()| match given.remove(&wanted.name) {
                Some(port) => new_step(wanted, port?),
                None => existing_step(config, wanted, may_update),
            }),
        };
        match step {
            Ok(step) => steps.push(step),
            Err(cause) => errors.push(located(Some(*line), &format!("unable to invite '{}': {cause}", wanted.name))),
        }
    }
    Ok(if errors.is_empty() { Ok(steps) } else { Err(errors) })
}

fn new_step(wanted: &Wanted, port: u16) -> Result<Step, String> {
    wanted.expires.map_or(Ok(()), Expiry::check)?;
    let key = new::key().map_err(|failure| failure.to_string())?;
    Ok(Step::New(wanted.participant(port, key.hash()), key))
}

/// Compares an existing participant with the wanted settings.
fn existing_step(config: &Path, wanted: &Wanted, may_update: bool) -> Result<Step, String> {
    let present = Participant::load(config, &wanted.name).map_err(|error| error.to_string())?;
    if let Some(port) = wanted.port.filter(|port| *port != present.port) {
        let cause =
            "the port of an existing participant doesn't change, because it is a part of the link; correct the list";
        return Err(format!("the participant has port {}, but the list has port {port}; {cause}", present.port));
    }
    let (edits, fields): (Vec<Edit>, Vec<&str>) = differences(&present, wanted).into_iter().unzip();
    if edits.is_empty() {
        return Ok(Step::Unchanged(present));
    }
    if !may_update {
        return Err(format!("the participant exists with another {}; use --update to change it", fields.join(", ")));
    }
    wanted.expires.map_or(Ok(()), Expiry::check)?;
    let edited = Participant::edit(config, &wanted.name, &edits).map_err(|error| error.to_string())?;
    Ok(Step::Update(Box::new(edited)))
}

/// Returns the edits that give an existing participant the wanted settings, each with the name of its column in the list.
fn differences(present: &Participant, wanted: &Wanted) -> Vec<(Edit, &'static str)> {
    let mut all = Vec::new();
    if let Some(room) = wanted.room.as_ref().filter(|room| **room != present.room) {
        all.push((Edit::Room(room.clone()), "room"));
    }
    if let Some(text) = wanted.display_name.as_ref().filter(|text| *text != present.display()) {
        all.push((Edit::DisplayName(text.clone()), "display-name"));
    }
    if let Some(only) = wanted.listen_only.filter(|only| *only != present.listen_only) {
        all.push((Edit::ListenOnly(only), "listen-only"));
    }
    let is_other = |expires: &Expiry| match expires {
        // The list's duration counted from the invitation, whose time isn't stored. So every time of expiry counts as equal to the duration;
        // only a link that never expires differs.
        Expiry::After(_) => present.key_expires.is_none(),
        Expiry::Never | Expiry::At(_) => expires.moment() != present.key_expires,
    };
    if let Some(expires) = wanted.expires.filter(is_other) {
        all.push((Edit::KeyExpires(expires.moment()), "expires"));
    }
    all
}

/// Writes the files. After the first failure, writes no more.
fn write(config: &Path, server: &Server, steps: Vec<Step>) -> Vec<Invited> {
    let mut failure: Option<Failure> = None;
    let mut all = Vec::new();
    for step in steps {
        let written = match (&failure, &step) {
            (_, Step::Unchanged(_)) => Ok(()),
            (Some(earlier), _) => Err(earlier.clone()),
            (None, Step::New(participant, _)) => participant.write(config).map_err(|error| explain(config, error)),
            (None, Step::Update(edited)) => edited.write().map_err(|error| explain(config, error)),
        };
        failure = failure.or(written.clone().err());
        all.push(done(server, step, written.err()));
    }
    all
}

fn done(server: &Server, step: Step, failure: Option<Failure>) -> Invited {
    let (participant, outcome, key) = match step {
        Step::New(participant, key) => (participant, Outcome::Invited, Some(key)),
        Step::Update(edited) => (edited.participant().clone(), Outcome::Updated, None),
        Step::Unchanged(participant) => (participant, Outcome::Unchanged, None),
    };
    let link = key.map(|key| server.links.link(participant.name.as_str(), participant.port, &key));
    match failure {
        None => Invited { participant, outcome, link, failure },
        Some(_) => Invited { participant, outcome: Outcome::Failed, link: None, failure },
    }
}

fn explain(config: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::system(permission::explain(&config.join(PARTICIPANTS_DIR), error))
}

/// Makes the supervisor use the written files.
fn apply(cli: &Cli, all: &mut [Invited]) {
    let is_written = |one: &&mut Invited| matches!(one.outcome, Outcome::Invited | Outcome::Updated);
    let written: Vec<&mut Invited> = all.iter_mut().filter(is_written).collect();
    let names: Vec<Name> = written.iter().map(|one| one.participant.name.clone()).collect();
    for (one, applied) in written.into_iter().zip(reload::if_running(cli.run_dir(), &names)) {
        one.failure = applied.err();
    }
}

fn show(invite: &Invite, server: &Server, all: &[Invited]) -> Result<(), Failure> {
    match (invite.json, invite.csv) {
        (true, _) => invited::json(all)?,
        (false, true) => invited::csv(all)?,
        (false, false) => invited::table(all)?,
    }
    let count = |outcome: Outcome| all.iter().filter(|one| one.outcome == outcome).count();
    let outcomes = [Outcome::Invited, Outcome::Updated, Outcome::Unchanged, Outcome::Failed];
    let counts = outcomes.map(|outcome| (count(outcome), outcome.word())).into_iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts.map(|(count, word)| format!("{count} {word}")).collect();
    let links = if count(Outcome::Invited) > 0 { "; the links are printed only now" } else { "" };
    eprintln!("palabre: {}{links}", counts.join(", "));
    if count(Outcome::Invited) > 0 {
        admission::hint_at_proxy(server);
    }
    Ok(())
}
