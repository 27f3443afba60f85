//! `palabre restart`: new processes in the place of old ones, which nobody hears.

use std::fmt::Display;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use palabre_config::control::{ParticipantStatus, State};
use palabre_host::exit::Failure;
use palabre_host::{claim, process};
use palabre_room::{MIXER_POST, Name};
use serde_json::json;

use crate::cli::Restart;
use crate::control;
use crate::output::print;

/// What is no participant's name here.
pub const DAEMONS: [&str; 2] = [MIXER, SUPERVISOR];
const MIXER: &str = "mixer";
const SUPERVISOR: &str = "supervisor";

/// How long the mixer may take.
const MIXER_PATIENCE: Duration = Duration::from_secs(10);
/// How often we look whether it has.
const LOOK: Duration = Duration::from_millis(10);

/// Replaces the mixer, or one listener, or all of them one after the other, and says so as it goes.
///
/// # Errors
/// The supervisor isn't there (system) or says no (refused): the rest is left as it was.
pub fn run(run: &Path, restart: &Restart) -> Result<(), Failure> {
    if restart.name.as_ref().is_some_and(|name| name.as_str() == MIXER) {
        return daemon(restart, MIXER, mixer(run));
    }
    if restart.name.as_ref().is_some_and(|name| name.as_str() == SUPERVISOR) {
        return daemon(restart, SUPERVISOR, control::upgrade(run));
    }
    let (asked, passed_over) = match &restart.name {
        Some(name) => (vec![name.clone()], Vec::new()),
        None => choose(&control::status(run)?.participants),
    };
    let mut done = Done::default();
    for (name, state) in &passed_over {
        done.tell(restart, &format!("{name}: passed over, it is {state}\n"))?;
    }
    done.passed_over = passed_over.into_iter().map(|(name, _)| name).collect();
    let of = asked.len();
    for name in asked {
        if let Err(failure) = control::restart(run, &name) {
            return done.failed(restart, &name, of, failure);
        }
        done.restarted.push(name.to_string());
        let count = if restart.all { format!(" ({} of {of})", done.restarted.len()) } else { String::new() };
        done.tell(restart, &format!("{name}: a new listener serves{count}\n"))?;
    }
    if restart.json { done.print_json(None) } else { Ok(()) }
}

/// A daemon was replaced, or wasn't.
fn daemon(restart: &Restart, name: &str, replaced: Result<u32, Failure>) -> Result<(), Failure> {
    let pid = replaced?;
    let done = Done { restarted: vec![name.to_owned()], ..Done::default() };
    done.tell(restart, &format!("{name}: a new program serves, in process {pid}\n"))?;
    if restart.json { done.print_json(None) } else { Ok(()) }
}

/// Has the mixer replace its program, and waits until the new one serves: its process id.
fn mixer(run: &Path) -> Result<u32, Failure> {
    let post = run.join("rooms").join(MIXER_POST);
    let unable = |cause: &dyn Display| format!("unable to restart the mixer of '{}': {cause}", run.display());
    let look = || claim::holder(&post).map_err(|error| Failure::System(unable(&error)));
    let Some((pid, before)) = look()? else {
        return Err(Failure::Refused(unable(&"none runs there; 'systemctl start palabre-mixer' starts it")));
    };
    process::hang_up(pid).map_err(|error| {
        Failure::System(unable(&format!("process {pid}: {error}; root and the daemons' user may, with sudo")))
    })?;
    let deadline = Instant::now() + MIXER_PATIENCE;
    while Instant::now() < deadline {
        if let Some((pid, said)) = look()?.filter(|(_, said)| *said != before && said.ends_with('\n')) {
            let why = said.lines().nth(1).unwrap_or_default();
            return if why.is_empty() { Ok(pid) } else { Err(Failure::Refused(why.to_owned())) };
        }
        thread::sleep(LOOK);
    }
    Err(Failure::System(unable(&format!("process {pid} doesn't serve; see its log"))))
}

/// Who is restarted, and who is passed over in which state.
fn choose(all: &[ParticipantStatus]) -> (Vec<Name>, Vec<(String, State)>) {
    let runs = |state: State| state.is_up() || state == State::Starting;
    let names = all.iter().filter(|participant| runs(participant.state)).filter_map(|p| p.name.parse().ok());
    let others = all.iter().filter(|participant| !runs(participant.state));
    (names.collect(), others.map(|participant| (participant.name.clone(), participant.state)).collect())
}

/// What was done.
#[derive(Debug, Default)]
struct Done {
    restarted: Vec<String>,
    passed_over: Vec<String>,
}

impl Done {
    /// A line for who watches; a program reads the object at the end.
    fn tell(&self, restart: &Restart, line: &str) -> Result<(), Failure> {
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
        let text = format!("{failure}; {left} of {of} are as they were; mend it and run 'palabre restart --all' again");
        Err(match failure {
            Failure::Refused(_) => Failure::Refused(text),
            _ => Failure::System(text),
        })
    }

    fn print_json(&self, failed: Option<(&Name, &Failure)>) -> Result<(), Failure> {
        let failed = failed.map(|(name, why)| json!({ "name": name.as_str(), "why": why.to_string() }));
        let value = json!({ "restarted": self.restarted, "passed_over": self.passed_over, "failed": failed });
        print(serde_json::to_string_pretty(&value).map_err(Failure::system)? + "\n")
    }
}
