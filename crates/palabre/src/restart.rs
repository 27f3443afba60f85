//! `palabre restart`: replaces a listener, all listeners, the mixer or the supervisor by a new process or program. No connection ends.
//!
//! With `--all` this command sends one request per listener. So it can show the progress, Ctrl-C ends the series after the present
//! listener, and each request has its own timeout.

use std::path::Path;

use palabre_config::control::{ParticipantStatus, State, Target};
use palabre_host::exit::Failure;
use palabre_room::Name;
use serde_json::json;

use crate::cli::Restart;
use crate::control;
use crate::output::print;

/// Arguments that mean a daemon. No participant may have one of these names.
pub(crate) const DAEMONS: [&str; 2] = [MIXER, SUPERVISOR];
const MIXER: &str = "mixer";
const SUPERVISOR: &str = "supervisor";

/// Restarts a daemon, one listener, or all listeners one after the other. The first failure ends the series.
pub(crate) fn run(run: &Path, restart: &Restart) -> Result<(), Failure> {
    match restart.name.as_ref().map(Name::as_str) {
        Some(MIXER) => return daemon(run, restart, MIXER, Target::Mixer),
        Some(SUPERVISOR) => return daemon(run, restart, SUPERVISOR, Target::Supervisor),
        _ => {}
    }
    let (names, skipped) = match &restart.name {
        Some(name) => (vec![name.clone()], Vec::new()),
        None => select(&control::status(run)?.participants),
    };
    let mut progress = Progress::default();
    for (name, state) in &skipped {
        progress.show(restart, &format!("{name}: not restarted, because its listener is {state}\n"))?;
    }
    progress.skipped = skipped.into_iter().map(|(name, _)| name).collect();
    let of = names.len();
    for name in names {
        if let Err(failure) = control::restart(run, &name) {
            return progress.failed(restart, &name, of, failure);
        }
        progress.restarted.push(name.to_string());
        let count = if restart.all { format!(" ({} of {of})", progress.restarted.len()) } else { String::new() };
        progress.show(restart, &format!("{name}: a new listener process is ready{count}\n"))?;
    }
    if restart.json { progress.print_json(None) } else { Ok(()) }
}

/// Restarts the mixer or the supervisor.
fn daemon(run: &Path, restart: &Restart, name: &str, target: Target) -> Result<(), Failure> {
    let pid = control::restart_daemon(run, target)?;
    let progress = Progress { restarted: vec![name.to_owned()], ..Progress::default() };
    progress.show(restart, &format!("{name}: the program was started again in process {pid} and is ready\n"))?;
    if restart.json { progress.print_json(None) } else { Ok(()) }
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

    fn failed(&self, restart: &Restart, name: &Name, of: usize, failure: Failure) -> Result<(), Failure> {
        if restart.json {
            self.print_json(Some((name, &failure)))?;
        }
        if !restart.all {
            return Err(failure);
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

    fn print_json(&self, failed: Option<(&Name, &Failure)>) -> Result<(), Failure> {
        let failed = failed.map(|(name, why)| json!({ "name": name.as_str(), "why": why.to_string() }));
        let value = json!({ "restarted": self.restarted, "passed_over": self.skipped, "failed": failed });
        print(serde_json::to_string_pretty(&value).map_err(Failure::system)? + "\n")
    }
}
