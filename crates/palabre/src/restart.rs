//! `palabre restart`: replaces a listener, all listeners, the mixer or the supervisor by a new process or program. No sound of a listener is lost.
//!
//! With `--all` this command sends one request per listener. So it can show the progress, Ctrl-C ends the series after the present
//! listener, and each request has its own timeout.

use std::path::Path;

use palabre_config::control::{ParticipantStatus, State, Target};
use palabre_host::exit::Failure;
use palabre_room::Name;
use serde_json::{Value, json};

use crate::cli::Restart;
use crate::control;
use crate::each::Each;
use crate::output::{print, print_json};

/// Arguments that mean a daemon. No participant may have one of these names.
pub(crate) const DAEMONS: [&str; 2] = [MIXER, SUPERVISOR];
const MIXER: &str = "mixer";
const SUPERVISOR: &str = "supervisor";

/// Restarts the given listeners and daemons, or all listeners one after the other. With `--all` the first failure ends the series.
pub(crate) fn run(run: &Path, restart: &Restart) -> Result<(), Failure> {
    if restart.all { all(run, restart) } else { named(run, restart) }
}

fn named(run: &Path, restart: &Restart) -> Result<(), Failure> {
    let names = restart.names();
    let (mut progress, mut each) = (Progress::default(), Each::of(names.len()));
    for name in &names {
        let outcome = one(run, name).and_then(|line| {
            progress.restarted.push(name.to_string());
            progress.show(restart, &line)
        });
        each.note(name, outcome);
    }
    if restart.json {
        progress.print_json(each.failed())?;
    }
    each.end()
}

/// Restarts a listener or a daemon. Returns a line about it.
fn one(run: &Path, name: &Name) -> Result<String, Failure> {
    let target = match name.as_str() {
        MIXER => Target::Mixer,
        SUPERVISOR => Target::Supervisor,
        _ => {
            control::restart(run, name)?;
            return Ok(format!("{name}: a new listener process is ready\n"));
        }
    };
    let pid = control::restart_daemon(run, target)?;
    Ok(format!("{name}: process {pid} has executed the program that is installed now, and is ready\n"))
}

fn all(run: &Path, restart: &Restart) -> Result<(), Failure> {
    let (names, skipped) = select(&control::status(run)?.participants);
    let mut progress = Progress::default();
    for (name, state) in &skipped {
        progress.show(restart, &format!("{name}: not restarted, because its listener is {state}\n"))?;
    }
    progress.skipped = skipped.into_iter().map(|(name, _)| name).collect();
    let of = names.len();
    for name in names {
        if let Err(failure) = control::restart(run, &name) {
            return progress.failed(restart, &name, of, &failure);
        }
        progress.restarted.push(name.to_string());
        let count = progress.restarted.len();
        progress.show(restart, &format!("{name}: a new listener process is ready ({count} of {of})\n"))?;
    }
    if restart.json { progress.print_json(&[]) } else { Ok(()) }
}

/// Returns the names of the listeners to restart, and the names and states of the listeners to skip.
fn select(all: &[ParticipantStatus]) -> (Vec<Name>, Vec<(String, State)>) {
    let runs = |state: State| state.is_up() || state == State::Starting;
    let names = all.iter().filter(|participant| runs(participant.state)).filter_map(|p| p.name.parse().ok());
    let others = all.iter().filter(|participant| !runs(participant.state));
    (names.collect(), others.map(|participant| (participant.name.clone(), participant.state)).collect())
}

/// The listeners and daemons that were restarted or skipped so far.
#[derive(Debug, Default)]
struct Progress {
    restarted: Vec<String>,
    skipped: Vec<String>,
}

impl Progress {
    /// Prints a line about the progress, unless `--json` is given.
    fn show(&self, restart: &Restart, line: &str) -> Result<(), Failure> {
        if restart.json { Ok(()) } else { print(line) }
    }

    fn failed(&self, restart: &Restart, name: &Name, of: usize, failure: &Failure) -> Result<(), Failure> {
        if restart.json {
            self.print_json(&[(name.to_string(), failure.clone())])?;
        }
        let left = of - self.restarted.len();
        let text = format!(
            "{failure}; {left} of {of} listeners were not restarted; fix the cause and run 'palabre restart --all' again"
        );
        Err(match failure {
            Failure::Refused(_) => Failure::Refused(text),
            _ => Failure::System(text),
        })
    }

    fn print_json(&self, failed: &[(String, Failure)]) -> Result<(), Failure> {
        let failures: Vec<Value> =
            failed.iter().map(|(name, why)| json!({ "name": name, "why": why.to_string() })).collect();
        print_json(&json!({
            "restarted": self.restarted,
            "passed_over": self.skipped,
            "failed": failures.first(),
            "failures": failures,
        }))
    }
}
