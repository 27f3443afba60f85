//! Asking the supervisor, and saying what is wrong when there is none.

use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use palabre_config::control::{self, Changes, ControlError, RecordAction, Recording, Request, Response, State, Status};
use palabre_host::exit::Failure;
use palabre_room::Name;

use crate::output::print;

/// For questions; a supervisor that doesn't answer within this hangs.
const SOON: Duration = Duration::from_secs(5);
/// For work that starts processes and waits until they serve.
const IN_A_WHILE: Duration = Duration::from_secs(60);

/// The supervisor's socket in the directory of what runs.
const SOCKET: &str = "control.sock";

/// Has a participant's listener replaced, and waits until that is done.
///
/// # Errors
/// The supervisor isn't there (system) or says no (refused).
pub fn restart(run: &Path, name: &Name) -> Result<(), Failure> {
    match ask(run, &Request::Restart { name: name.clone() }, IN_A_WHILE)? {
        Response::Ok => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// Has the supervisor replace its program, and waits until the new one answers: its process id.
///
/// # Errors
/// The supervisor isn't there (system) or says no (refused): it goes on as it was.
pub fn upgrade(run: &Path) -> Result<u32, Failure> {
    let before = status(run)?.supervisor;
    match control::request(&run.join(SOCKET), &Request::Upgrade, IN_A_WHILE) {
        Ok(Response::Refused { why }) => return Err(Failure::refused(why)),
        Ok(response) => return Err(unexpected(&response)),
        // It has left the conversation, as any program does that becomes another one.
        Err(ControlError::Closed | ControlError::Io(_)) => {}
        Err(error) => return Err(Failure::system(error)),
    }
    let deadline = Instant::now() + IN_A_WHILE;
    loop {
        let now = status(run);
        let new = now.as_ref().ok().and_then(|status| status.supervisor.filter(|new| Some(*new) != before));
        match (new, now) {
            (Some(new), _) => return Ok(new.pid),
            (None, Err(error)) if Instant::now() > deadline => return Err(error),
            (None, Ok(_)) if Instant::now() > deadline => {
                return Err(Failure::system(
                    "unable to replace the supervisor's program: nothing has changed; see its log",
                ));
            }
            _ => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// `palabre stop NAME`.
///
/// # Errors
/// The supervisor isn't there (system) or says no (refused).
pub fn stop(run: &Path, name: &Name) -> Result<(), Failure> {
    done(run, &Request::Stop { name: name.clone() }, format!("{name}: stopped; 'palabre start {name}' starts it\n"))
}

/// `palabre start NAME`.
///
/// # Errors
/// The supervisor isn't there (system) or says no (refused).
pub fn start(run: &Path, name: &Name) -> Result<(), Failure> {
    done(run, &Request::Start { name: name.clone() }, format!("{name}: the listener serves\n"))
}

/// `palabre kick NAME`.
///
/// # Errors
/// The supervisor isn't there (system) or says no (refused).
pub fn kick(run: &Path, name: &Name) -> Result<(), Failure> {
    done(run, &Request::Kick { name: name.clone() }, format!("{name}: all connections were ended\n"))
}

fn done(run: &Path, request: &Request, said: String) -> Result<(), Failure> {
    match ask(run, request, IN_A_WHILE)? {
        Response::Ok => print(said),
        other => Err(unexpected(&other)),
    }
}

/// `palabre reload`.
///
/// # Errors
/// The supervisor isn't there (system) or says no (refused); a file has no meaning (configuration).
pub fn reload(run: &Path) -> Result<(), Failure> {
    let changes = try_reload(run)?;
    for (what, names) in
        [("started", &changes.started), ("stopped", &changes.stopped), ("restarted", &changes.restarted)]
    {
        if !names.is_empty() {
            print(format!("{what}: {}\n", names.join(", ")))?;
        }
    }
    if changes.certificate {
        print("certificate: every listener reads it again\n")?;
    }
    if changes.errors.is_empty() {
        return Ok(());
    }
    Err(Failure::config(changes.errors.join("\npalabre: ")))
}

/// Has the configuration read again, and says what that changed.
///
/// # Errors
/// The supervisor isn't there (system) or says no (refused).
pub fn try_reload(run: &Path) -> Result<Changes, Failure> {
    match ask(run, &Request::Reload, IN_A_WHILE)? {
        Response::Reloaded(changes) => Ok(changes),
        other => Err(unexpected(&other)),
    }
}

/// After a participant's file was written: it is what counts, and a supervisor that can't be reached now reads it later.
/// What is wrong is told on standard error.
pub fn reload_if_running(run: &Path, name: &str) {
    if !is_running(run) {
        eprintln!("palabre: no supervisor runs in '{}': this holds when one starts", run.display());
        return;
    }
    match try_reload(run).and_then(|changes| status(run).map(|status| (changes, status))) {
        Ok((changes, status)) => {
            for error in changes.errors {
                eprintln!("palabre: warning: {error}");
            }
            let failed = status.participants.iter().find(|p| p.name == name && p.state == State::Failed);
            if let Some(participant) = failed {
                let note = participant.note.as_deref().unwrap_or("see its log");
                eprintln!("palabre: warning: {name}'s listener doesn't serve: {note}");
            }
        }
        Err(error) => eprintln!("palabre: warning: {error}; 'palabre reload' tries again"),
    }
}

/// Begins or ends the recording of a room, or only asks about it.
///
/// # Errors
/// The supervisor isn't there (system) or says no (refused).
pub fn record(run: &Path, room: &Name, action: RecordAction) -> Result<Recording, Failure> {
    match ask(run, &Request::Record { room: room.clone(), action }, IN_A_WHILE)? {
        Response::Recording(recording) => Ok(recording),
        other => Err(unexpected(&other)),
    }
}

/// How things are.
///
/// # Errors
/// The supervisor isn't there, or isn't one of this release (system).
pub fn status(run: &Path) -> Result<Status, Failure> {
    match ask(run, &Request::Status, SOON)? {
        Response::Status(status) => Ok(status),
        other => Err(unexpected(&other)),
    }
}

/// Whether a supervisor listens there: to do without it where it is allowed not to run.
#[must_use]
pub fn is_running(run: &Path) -> bool {
    let request = control::request(&run.join(SOCKET), &Request::Status, SOON);
    !matches!(request, Err(ControlError::Connect { source, .. }) if source.kind() != ErrorKind::PermissionDenied)
}

fn ask(run: &Path, request: &Request, timeout: Duration) -> Result<Response, Failure> {
    match control::request(&run.join(SOCKET), request, timeout) {
        Ok(Response::Refused { why }) => Err(Failure::refused(why)),
        Ok(response) => Ok(response),
        Err(ControlError::Connect { path, source }) => Err(Failure::system(format!(
            "unable to reach the supervisor at '{}': {source}; {}",
            path.display(),
            what_to_do(source.kind())
        ))),
        Err(error) => Err(Failure::system(error)),
    }
}

fn what_to_do(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::PermissionDenied => "root and the group 'palabre' may, with sudo or as its member",
        _ => "start palabre-supervisor, or say with --run where it runs",
    }
}

fn unexpected(response: &Response) -> Failure {
    Failure::system(format!("unable to understand the supervisor's answer: {response:?}; is it of the same release?"))
}
