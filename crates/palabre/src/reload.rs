//! `palabre reload`: makes the supervisor read the configuration again, waits until the changes are complete, and prints the outcome for
//! each participant.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use palabre_config::PARTICIPANTS_DIR;
use palabre_config::control::{Changes, ParticipantStatus, State, Status};
use palabre_host::exit::Failure;

use crate::cli::Reload;
use crate::output::print;
use crate::standalone::{self, Change};
use crate::{control, processes};

/// Interval between two status requests while a change is in progress.
const INTERVAL: Duration = Duration::from_millis(50);
/// Maximum time in which no change becomes complete. The start of a listener takes 30 s at most.
const TIMEOUT: Duration = Duration::from_secs(40);
/// What to do after a change that has no effect yet.
const WRITTEN: &str = "the file was written, but has no effect yet: correct the cause, then run 'palabre reload'";

/// `palabre reload`.
pub(crate) fn run(run: &Path, options: &Reload) -> Result<(), Failure> {
    let changes = control::reload(run, options.dry_run)?;
    if options.dry_run {
        print(plan(&changes))?;
        return result(&changes, &[]);
    }
    let status = settle(run, |_| true)?;
    print(done(&changes, &status))?;
    result(&changes, &failures(&status))
}

/// Makes the supervisor, if one runs, read the configuration again after the file of participant `name` was written, and waits until the
/// participant's listener uses it. Fails if the change has no effect: if the supervisor can't use the file, the listener doesn't serve or keeps
/// an earlier configuration, the gain could not be written for the mixer, or a listener without a supervisor can't be restarted. Faults of other
/// files are printed as warnings.
pub(crate) fn if_running(run: &Path, name: &str) -> Result<(), Failure> {
    if !control::is_running(run) {
        if !standalone::apply(run, name, Change::Edited)? {
            let hint = match processes::listeners_without_supervisor(run).is_empty() {
                true => "the change takes effect when a supervisor starts".to_owned(),
                false => format!("run 'systemctl enable --now palabre-listener@{name}'"),
            };
            eprintln!("palabre: no supervisor runs in '{}'; {hint}", run.display());
        }
        return Ok(());
    }
    match of(run, name) {
        Ok((changes, status)) => {
            let (own, others): (Vec<_>, Vec<_>) = changes.errors.into_iter().partition(|fault| concerns(fault, name));
            for fault in others.into_iter().chain(changes.refused) {
                eprintln!("palabre: warning: {fault}");
            }
            let one = status.participants.iter().find(|one| one.name == name);
            if let Some(fault) = one.and_then(|one| one.gain_fault.clone()) {
                return Err(Failure::system(fault));
            }
            match own.into_iter().next().or_else(|| one.and_then(failure)) {
                Some(fault) => Err(Failure::refused(format!("{fault}; {WRITTEN}"))),
                None => Ok(()),
            }
        }
        Err(error) => Err(Failure::system(format!("{error}; {WRITTEN}"))),
    }
}

/// Makes the supervisor read the configuration again, and waits until its change for participant `name` is complete. Returns all changes of
/// the reload, and the status after it.
pub(crate) fn of(run: &Path, name: &str) -> Result<(Changes, Status), Failure> {
    let changes = control::reload(run, false)?;
    Ok((changes, settle(run, |one| one.name == name)?))
}

/// Returns whether a fault that a reload reports is one of the file of participant `name`, or of the directory that contains the file.
pub(crate) fn concerns(fault: &str, name: &str) -> bool {
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
                "unable to complete the reload within {} s: listeners are still being started or stopped: {}; see 'palabre status'",
                TIMEOUT.as_secs(),
                names.join(", ")
            )));
        }
        thread::sleep(INTERVAL);
    }
}

/// Returns the lines of `--dry-run`.
fn plan(changes: &Changes) -> String {
    let line = |names: &[String], what: &str| -> String {
        names.iter().map(|name| format!("{name}: the listener would be {what}\n")).collect()
    };
    let certificate = "the certificate has changed: every listener would read it\n";
    let all = [
        line(&changes.started, "started"),
        line(&changes.stopped, "stopped"),
        line(&changes.restarted, "replaced"),
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
    let reads_it = status.participants.iter().filter(|one| one.state.is_up() && one.kept.is_none()).count();
    if changes.certificate && reads_it > 0 {
        text += &format!("{reads_it} listeners use the new certificate\n");
    }
    text
}

/// Returns a message for each participant whose listener doesn't serve, or serves with an earlier configuration.
fn failures(status: &Status) -> Vec<String> {
    let gains = status.participants.iter().filter_map(|one| one.gain_fault.clone());
    status.participants.iter().filter_map(failure).chain(gains).collect()
}

fn failure(one: &ParticipantStatus) -> Option<String> {
    let is_down = !one.state.is_up() && one.state != State::Stopped;
    let down = || {
        let why = one.note.as_deref().or(one.last_exit.as_deref()).unwrap_or("see its log");
        format!("the listener of '{}' doesn't serve: {why}", one.name)
    };
    one.kept.clone().or_else(|| is_down.then(down))
}

/// Returns an error if a setting or a listener could not be changed. Otherwise invalid files are the error.
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
