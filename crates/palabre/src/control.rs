//! Requests to the supervisor, and their errors.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use palabre_config::control::{
    self, Changes, ControlError, RecordAction, Recording, Request, Response, Status, Target,
};
use palabre_host::exit::Failure;
use palabre_room::Name;

use crate::cli::RUN;
use crate::each::Each;
use crate::output::print;
use crate::processes;
use crate::units;

/// Timeout for the supervisor's answer to a status request.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for the supervisor's answer to a request that starts or stops processes. It answers when they are ready or have ended.
const WORK_TIMEOUT: Duration = Duration::from_secs(60);

/// Name of the control socket in the run directory.
const SOCKET: &str = "control.sock";

/// Restarts a participant's listener, and waits until the new listener serves.
pub(crate) fn restart(run: &Path, name: &Name) -> Result<(), Failure> {
    match ask(run, &Request::Restart(Target::Listener(name.clone())), WORK_TIMEOUT)? {
        Response::Ok => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// Restarts the mixer or the supervisor, and waits until the new program serves. Returns the process id of the new program.
pub(crate) fn restart_daemon(run: &Path, target: Target) -> Result<u32, Failure> {
    match ask(run, &Request::Restart(target), WORK_TIMEOUT)? {
        Response::Restarted { pid } => Ok(pid),
        other => Err(unexpected(&other)),
    }
}

/// `palabre stop`.
pub(crate) fn stop(run: &Path, names: &[Name]) -> Result<(), Failure> {
    Each::run(names, |name| {
        let message = format!("{name}: stopped; 'palabre start {name}' starts it\n");
        done(run, &Request::Stop { name: name.clone() }, message)
    })
}

/// `palabre start`.
pub(crate) fn start(run: &Path, names: &[Name]) -> Result<(), Failure> {
    Each::run(names, |name| {
        done(run, &Request::Start { name: name.clone() }, format!("{name}: the listener is ready\n"))
    })
}

/// `palabre kick`.
pub(crate) fn kick(run: &Path, names: &[Name]) -> Result<(), Failure> {
    Each::run(names, |name| {
        done(run, &Request::Kick { name: name.clone() }, format!("{name}: all connections were ended\n"))
    })
}

fn done(run: &Path, request: &Request, message: String) -> Result<(), Failure> {
    match ask(run, request, WORK_TIMEOUT)? {
        Response::Ok => print(message),
        other => Err(unexpected(&other)),
    }
}

/// Makes the supervisor read the configuration again. Returns the changes that have begun; with `is_dry_run`, the changes that a reload would
/// make, and nothing changes.
pub(crate) fn reload(run: &Path, is_dry_run: bool) -> Result<Changes, Failure> {
    let request = if is_dry_run { Request::Plan } else { Request::Reload };
    match ask(run, &request, WORK_TIMEOUT)? {
        Response::Reloaded(changes) => Ok(changes),
        other => Err(unexpected(&other)),
    }
}

/// Asks the supervisor to start or end the recording of a room, or for its status.
pub(crate) fn record(run: &Path, room: &Name, action: RecordAction) -> Result<Recording, Failure> {
    match ask(run, &Request::Record { room: room.clone(), action }, WORK_TIMEOUT)? {
        Response::Recording(recording) => Ok(recording),
        other => Err(unexpected(&other)),
    }
}

/// Makes the supervisor delete the display name that a participant has chosen, and show the name in the participant's file.
pub(crate) fn restore_name(run: &Path, name: &Name) -> Result<(), Failure> {
    match ask(run, &Request::DisplayName { name: name.clone(), display: None }, STATUS_TIMEOUT)? {
        Response::Ok => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// Requests the status from the supervisor.
pub(crate) fn status(run: &Path) -> Result<Status, Failure> {
    match ask(run, &Request::Status, STATUS_TIMEOUT)? {
        Response::Status(status) => Ok(status),
        other => Err(unexpected(&other)),
    }
}

/// Returns whether a supervisor serves the control socket. Also returns true if this user has no permission for the socket.
pub(crate) fn is_running(run: &Path) -> bool {
    match UnixStream::connect(run.join(SOCKET)) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::PermissionDenied,
    }
}

fn ask(run: &Path, request: &Request, timeout: Duration) -> Result<Response, Failure> {
    match control::request(&run.join(SOCKET), request, timeout) {
        Ok(Response::Refused { why }) => Err(Failure::refused(why)),
        Ok(Response::Failed { why }) => Err(Failure::system(why)),
        Ok(response) => Ok(response),
        Err(ControlError::Closed) => Err(Failure::system(
            "unable to read the supervisor's answer: the supervisor has closed the connection, for example because it was restarted; run 'palabre status'",
        )),
        Err(ControlError::Connect { path, source }) => Err(Failure::system(format!(
            "unable to reach the supervisor at '{}': {source}; {}",
            path.display(),
            remedy(source.kind(), run)
        ))),
        Err(error @ ControlError::TimedOut(_)) => Err(Failure::system(match processes::stopped_supervisor(run) {
            Some(pid) => {
                format!("unable to reach the supervisor: its process {pid} is stopped; run 'kill -CONT {pid}'")
            }
            None => error.to_string(),
        })),
        Err(error) => Err(Failure::system(error)),
    }
}

fn remedy(kind: ErrorKind, run: &Path) -> &'static str {
    match kind {
        ErrorKind::PermissionDenied => "run this command with sudo, or as a member of the group 'palabre'",
        _ if !processes::listeners_without_supervisor(run).is_empty() => {
            "listeners run without a supervisor: use 'systemctl status', 'restart', 'stop' or 'start' with 'palabre-listener@NAME'"
        }
        _ if lacks_sandbox(run) => {
            "systemd is unable to set up the sandbox of palabre-supervisor.service; 'palabre check' names the drop-in that helps"
        }
        _ => "start palabre-supervisor, or give its runtime directory with --run",
    }
}

/// Returns whether systemd could not set up the sandbox of the supervisor's unit. The unit uses the default runtime directory, so for another
/// directory `run` this is false.
fn lacks_sandbox(run: &Path) -> bool {
    const UNIT: &str = "palabre-supervisor";
    run == Path::new(RUN) && units::query(&[UNIT]).get(UNIT).is_some_and(|unit| unit.sandbox_exit().is_some())
}

fn unexpected(response: &Response) -> Failure {
    Failure::system(format!(
        "unable to understand the supervisor's answer: {response:?}; use 'palabre' and palabre-supervisor of the same release"
    ))
}
