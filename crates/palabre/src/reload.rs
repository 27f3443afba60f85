//! `palabre reload`: makes the supervisor read the configuration again, waits until the changes are complete, and prints the outcome for
//! each participant.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use palabre_config::PARTICIPANTS_DIR;
use palabre_config::control::{Changes, ParticipantStatus, State, Status};
use palabre_host::exit::Failure;
use palabre_room::Name;
use serde_json::{Value, json};

use crate::cli::Reload;
use crate::output::{print, print_json};
use crate::standalone::{self, Change};
use crate::{control, processes};

/// Interval between two status requests while a change is in progress.
const INTERVAL: Duration = Duration::from_millis(50);
/// Timeout of the wait for changes: the wait fails if no change becomes complete within this time. The start of a listener takes 30 s at most.
const TIMEOUT: Duration = Duration::from_secs(40);
/// What to do after a change that has no effect yet.
const WRITTEN: &str =
    "the participant's file was written, but has no effect yet: correct the cause, then run 'palabre reload'";

/// `palabre reload`.
pub(crate) fn run(run: &Path, options: &Reload) -> Result<(), Failure> {
    let changes = control::reload(run, options.dry_run)?;
    let status = if options.dry_run { None } else { Some(settle(run, |_| true)?) };
    match &status {
        _ if options.json => print_json(&json(&changes, status.as_ref()))?,
        None => print(plan(&changes))?,
        Some(status) => print(done(&changes, status))?,
    }
    let failures = status.iter().flat_map(failures).map(|(_, why)| why);
    result(&changes, &failures.collect::<Vec<_>>())
}

/// Makes the supervisor, if one runs, read the configuration again after the files of `names` were written, and waits until the participants'
/// listeners use them. Returns the outcome for each name. It is a failure if the change has no effect: if the supervisor can't use the file, the
/// listener doesn't serve or keeps an earlier configuration, the gain could not be written for the mixer, or a listener without a supervisor
/// can't be restarted. Faults of other files are printed as warnings.
pub(crate) fn if_running(run: &Path, names: &[Name]) -> Vec<Result<(), Failure>> {
    if names.is_empty() {
        return Vec::new();
    }
    if !control::is_running(run) {
        return without_supervisor(run, names);
    }
    let (changes, status) = match of(run, names) {
        Ok(reloaded) => reloaded,
        Err(error) => return names.iter().map(|_| Err(Failure::system(format!("{error}; {WRITTEN}")))).collect(),
    };
    let others = changes.errors.iter().filter(|fault| !names.iter().any(|name| concerns(fault, name)));
    for fault in others.chain(&changes.refused) {
        eprintln!("palabre: warning: {fault}");
    }
    names.iter().map(|name| outcome(name, &changes, &status)).collect()
}

fn outcome(name: &Name, changes: &Changes, status: &Status) -> Result<(), Failure> {
    let one = status.participants.iter().find(|one| one.name == name.as_str());
    if let Some(fault) = one.and_then(|one| one.gain_fault.clone()) {
        return Err(Failure::system(fault));
    }
    let own = changes.errors.iter().find(|fault| concerns(fault, name)).cloned();
    match own.or_else(|| one.and_then(failure)) {
        Some(fault) => Err(Failure::refused(format!("{fault}; {WRITTEN}"))),
        None => Ok(()),
    }
}

/// Makes listeners that run without a supervisor use the changed files of `names`. If the
/// listeners of some `names` don't run, prints what starts them, or when the change takes effect.
fn without_supervisor(run: &Path, names: &[Name]) -> Vec<Result<(), Failure>> {
    let applied: Vec<_> = names.iter().map(|name| standalone::apply(run, name.as_str(), Change::Edited)).collect();
    let down = names.iter().zip(&applied).filter(|(_, applied)| matches!(applied, Ok(false)));
    let units: Vec<String> = down.map(|(name, _)| format!("palabre-listener@{name}")).collect();
    if !units.is_empty() {
        let hint = match processes::listeners_without_supervisor(run).is_empty() {
            true => "the change takes effect when a supervisor starts".to_owned(),
            false => format!("'systemctl enable --now {}' starts the listeners that don't run", units.join(" ")),
        };
        eprintln!("palabre: no supervisor runs in '{}'; {hint}", run.display());
    }
    applied.into_iter().map(|applied| applied.map(drop)).collect()
}

/// Makes the supervisor read the configuration again, and waits until its changes for the participants `names` are complete. Returns all changes
/// of the reload, and the status after it.
pub(crate) fn of(run: &Path, names: &[Name]) -> Result<(Changes, Status), Failure> {
    let changes = control::reload(run, false)?;
    Ok((changes, settle(run, |one| names.iter().any(|name| one.name == name.as_str()))?))
}

/// Returns whether a fault that a reload reports is one of the file of participant `name`, or of the directory that contains the file.
pub(crate) fn concerns(fault: &str, name: &Name) -> bool {
    fault.contains(&format!("/{PARTICIPANTS_DIR}/{name}.toml'")) || fault.contains(&format!("/{PARTICIPANTS_DIR}'"))
}

/// Waits until no change of the participants that `concerns` selects is in progress, and returns the status.
fn settle(run: &Path, concerns: impl Fn(&ParticipantStatus) -> bool) -> Result<Status, Failure> {
    let (mut before, mut deadline) = (BTreeSet::new(), Instant::now() + TIMEOUT);
    loop {
        let status = control::status(run)?;
        let pending = status.participants.iter().filter(|one| one.pending && concerns(one));
        let pending: BTreeSet<String> = pending.map(|one| one.name.clone()).collect();
        if pending.is_empty() {
            return Ok(status);
        }
        if pending != before {
            (before, deadline) = (pending, Instant::now() + TIMEOUT);
        } else if Instant::now() >= deadline {
            let names: Vec<String> = pending.into_iter().collect();
            return Err(Failure::refused(format!(
                "unable to complete the reload: no progress for {} s; listeners that are still being started, replaced or stopped: {}; see 'palabre status'",
                TIMEOUT.as_secs(),
                names.join(", ")
            )));
        }
        thread::sleep(INTERVAL);
    }
}

/// Returns the object of `--json`. Without a status, the changes were only planned.
fn json(changes: &Changes, status: Option<&Status>) -> Value {
    let Changes { started, stopped, restarted, gains, certificate, errors, refused } = changes;
    let failed: Vec<Value> = status
        .iter()
        .flat_map(|status| failures(status))
        .map(|(name, why)| json!({ "name": name, "error": why }))
        .collect();
    json!({
        "dry_run": status.is_none(),
        "started": started,
        "stopped": stopped,
        "replaced": restarted,
        "gains": gains,
        "certificate": certificate,
        "failed": failed,
        "errors": errors.iter().chain(refused).collect::<Vec<_>>(),
    })
}

/// Returns the lines of `--dry-run`.
fn plan(changes: &Changes) -> String {
    let line =
        |names: &[String], what: &str| -> String { names.iter().map(|name| format!("{name}: the {what}\n")).collect() };
    let certificate = "the certificate has changed: every listener would read it\n";
    let all = [
        line(&changes.started, "listener would be started"),
        line(&changes.stopped, "listener would be stopped"),
        line(&changes.restarted, "listener would be replaced"),
        line(&changes.gains, "gain would change"),
        if changes.certificate { certificate.to_owned() } else { String::new() },
    ]
    .concat();
    if all.is_empty() { "a reload would start, stop or replace no listener\n".to_owned() } else { all }
}

/// Returns a line for each change that was made.
fn done(changes: &Changes, status: &Status) -> String {
    let find = |name: &String| status.participants.iter().find(|one| one.name == *name);
    let mut text = String::new();
    for (names, what) in [(&changes.started, "started"), (&changes.restarted, "replaced")] {
        for one in names.iter().filter_map(find).filter(|one| failure(one).is_none()) {
            text += &format!("{}: the listener was {what} and serves port {}\n", one.name, one.port);
        }
    }
    for name in changes.stopped.iter().filter(|name| find(name).is_none()) {
        text += &format!("{name}: the listener was stopped\n");
    }
    for one in changes.gains.iter().filter_map(find).filter(|one| one.gain_fault.is_none()) {
        text += &format!("{}: the gain was changed\n", one.name);
    }
    let count = status.participants.iter().filter(|one| one.state.is_up() && one.kept.is_none()).count();
    if changes.certificate && count > 0 {
        text += &format!("listeners that use the new certificate: {count}\n");
    }
    if *changes == Changes::default() && failures(status).is_empty() {
        text += "nothing has changed: no listener was started, stopped or replaced\n";
    }
    text
}

/// Returns name and message for each participant whose listener doesn't serve, or serves with an earlier configuration, and for each
/// participant whose gain could not be written.
fn failures(status: &Status) -> Vec<(String, String)> {
    let of = |one: &ParticipantStatus| {
        let texts = failure(one).into_iter().chain(one.gain_fault.clone());
        texts.map(|why| (one.name.clone(), why)).collect::<Vec<_>>()
    };
    status.participants.iter().flat_map(of).collect()
}

fn failure(one: &ParticipantStatus) -> Option<String> {
    let is_down = !one.state.is_up() && one.state != State::Stopped;
    let down = || {
        let why = one.note.as_deref().or(one.last_exit.as_deref()).unwrap_or("see its log");
        format!("the listener of '{}' doesn't serve: {why}", one.name)
    };
    one.kept.clone().or_else(|| is_down.then(down))
}

/// Returns an error with all faults, if there are any. It is an error of the configuration if the only faults are invalid files.
fn result(changes: &Changes, failures: &[String]) -> Result<(), Failure> {
    let is_invalid = changes.refused.is_empty() && failures.is_empty();
    let faults: Vec<String> =
        [changes.errors.as_slice(), &changes.refused, failures].into_iter().flatten().cloned().collect();
    match (faults.join("\npalabre: "), is_invalid) {
        (faults, _) if faults.is_empty() => Ok(()),
        (faults, true) => Err(Failure::config(faults)),
        (faults, false) => Err(Failure::refused(faults)),
    }
}
