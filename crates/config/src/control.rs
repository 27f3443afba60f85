//! The protocol of the supervisor's control socket: one line of JSON in each direction, then the connection is closed.
//!
//! Each line begins with the protocol's version, so that a program can report that the other program is of another
//! release. A line has at most [`MAX_LINE_BYTES`]; every wait has a deadline.
//!
//! ```text
//! {"version":3,"request":"status"}
//! {"version":3,"request":{"restart":{"listener":"alice"}}}
//! {"version":3,"response":{"refused":{"why":"unable to restart 'zoe': no such participant"}}}
//! ```

mod mixing;
mod report;

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use palabre_room::Name;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Entrance, text};

pub use mixing::{MixedParticipant, Mixing};
pub use report::{ListenerReport, MAX_FAULT_CHARS, MAX_REPORT_BYTES, PageReport, ReportError, Speaking, Traffic};

/// Version of the protocol. Raise it when the meaning of anything in [`Request`] or [`Response`] changes.
pub const VERSION: u32 = 3;

/// Name of the lock file in the runtime directory. A supervisor holds an exclusive lock on it, and listeners that run without
/// a supervisor hold a shared lock. So a supervisor and such a listener never run at the same time.
pub const LOCK_FILE: &str = "supervisor.lock";

/// Maximum length of a line, including its end, in bytes.
pub const MAX_LINE_BYTES: usize = 2 << 20;

/// A request to the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Report the status. Answered by [`Response::Status`].
    Status,
    /// Restart a program without ending a connection. Answered when the new program serves: by [`Response::Ok`] for a
    /// listener, by [`Response::Restarted`] for a daemon. Answered by [`Response::Refused`] if the old program goes on.
    Restart(Target),
    /// Stop a participant's listener and close the port until [`Self::Start`]. Answered by [`Response::Ok`] when the process has ended.
    Stop {
        /// The participant.
        #[serde(with = "text::name")]
        name: Name,
    },
    /// Start a participant's listener that was stopped, waits for its restart, or failed too often. Answered by
    /// [`Response::Ok`] when the listener serves.
    Start {
        /// The participant.
        #[serde(with = "text::name")]
        name: Name,
    },
    /// End all connections of a participant, who may connect again. Answered by [`Response::Ok`] when a new listener
    /// process serves.
    Kick {
        /// The participant.
        #[serde(with = "text::name")]
        name: Name,
    },
    /// Read the configuration again, and begin the changes. Answered by [`Response::Reloaded`] when they have begun. They
    /// are complete when [`ParticipantStatus::pending`] is false for every participant.
    Reload,
    /// Report what [`Self::Reload`] would change, and change nothing. Answered by [`Response::Reloaded`].
    Plan,
    /// Record that a participant's single-use invitation link was used. Only the participant's listener may send this
    /// request, which the supervisor checks by the process id from the kernel. Answered by [`Response::Ok`] when the
    /// record is on disk.
    Enter(Entrance),
    /// Start or end the recording of a room, or report its status. Answered by [`Response::Recording`] when the action
    /// is done.
    Record {
        /// The room.
        #[serde(with = "text::name")]
        room: Name,
        /// Start, end or report the recording.
        action: RecordAction,
    },
}

/// The program to restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A participant's listener: a new process takes over from the old one.
    Listener(#[serde(with = "text::name")] Name),
    /// The mixer: the process runs the program that is now at the mixer's path.
    Mixer,
    /// The supervisor: the process runs the program that is now at the supervisor's path. The new supervisor then hands
    /// over every listener that runs an older program.
    Supervisor,
}

/// An action on the recording of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordAction {
    /// Start the recording.
    Start,
    /// End the recording.
    Stop,
    /// Report the status of the recording.
    Status,
}

/// The supervisor's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// The request was carried out.
    Ok,
    /// The new program serves.
    Restarted {
        /// Process id of the new program.
        pid: u32,
    },
    /// The status of the supervisor and its children.
    Status(Status),
    /// The configuration was read, and these changes have begun or would begin.
    Reloaded(Changes),
    /// The status of a room's present or last recording.
    Recording(Recording),
    /// The request was not carried out, and nothing has changed.
    Refused {
        /// The error message: `unable to VERB 'OBJECT': cause; what to do`.
        why: String,
    },
    /// The request was not carried out, and a process that ran before may have ended.
    Failed {
        /// The error message: `unable to VERB 'OBJECT': cause; what to do`.
        why: String,
    },
}

/// The status of the supervisor and its children.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the supervisor.
    pub version: String,
    /// The supervisor's process.
    #[serde(default)]
    pub supervisor: Option<Daemon>,
    /// The participants, in order of their names.
    pub participants: Vec<ParticipantStatus>,
    /// The certificate that is now in the file. Listeners may still serve the previous certificate.
    #[serde(default)]
    pub certificate: Option<Certificate>,
    /// Whether a mixer works; `None` while this is unknown.
    #[serde(default)]
    pub mixer: Option<MixerState>,
    /// The mixer's counters; `None` if the mixer has not written its counters.
    #[serde(default)]
    pub mixing: Option<Mixing>,
    /// The recordings, in order of their rooms.
    #[serde(default)]
    pub recordings: Vec<Recording>,
    /// The faults: one line for each invalid file, and for each alarm.
    pub errors: Vec<String>,
}

/// Whether a mixer works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MixerState {
    /// The mixer runs.
    Running,
    /// The mixer's process is stopped, for example by SIGSTOP. All rooms are silent.
    Stopped,
    /// No mixer runs. All rooms are silent.
    Missing,
}

/// A process whose program may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Process id.
    pub pid: u32,
    /// Time at which the process started its present program: CLOCK_BOOTTIME, in ms.
    pub began_ms: u64,
}

/// The server's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Path of the certificate's file.
    pub path: String,
    /// Whole days until the certificate expires, negative if it has expired; `None` if the certificate can't be read.
    pub days_left: Option<i64>,
    /// Time of expiry: `2026-12-31T18:00:00Z`.
    pub not_after: Option<String>,
    /// Whether the certificate is self-signed. Browsers warn of a self-signed certificate.
    pub self_signed: bool,
    /// The DNS names and IP addresses for which the certificate is valid.
    pub names: Vec<String>,
    /// Why listeners can't use the certificate or its key. Running listeners keep the previous certificate.
    pub fault: Option<String>,
}

/// The status of one participant's listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParticipantStatus {
    /// Login name.
    pub name: String,
    /// Display name.
    pub display: String,
    /// Room.
    pub room: String,
    /// The open port; if no port is open, the port in the participant's file.
    pub port: u16,
    /// State of the listener.
    pub state: State,
    /// Process id of the listener, if a listener runs.
    pub pid: Option<u32>,
    /// Number of times that the listener was restarted after it died.
    pub restarts: u64,
    /// How the last process of the listener ended: `killed by signal 9`, `exit code 78: unable to read …`. `None` after a
    /// planned replacement, and when the listener has served for an hour.
    pub last_exit: Option<String>,
    /// Time since the state began, in ms.
    pub since_ms: u64,
    /// The listener's last report, if it has sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ListenerReport>,
    /// Why the participant has no listener.
    pub note: Option<String>,
    /// Whether a start, a stop or a replacement of the listener is in progress.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
    /// Why the listener doesn't use the present configuration, certificate or program. The listener serves as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// Why the participant's gain or mute, as configured, has not reached the mixer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain_fault: Option<String>,
    /// Use of the invitation link; `None` if the link can be used more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkUse>,
}

/// Whether a single-use invitation link was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkUse {
    /// The link was not used: the button on the link's page was not pressed yet.
    Unused,
    /// The link was used: only the browser that used the link is admitted.
    Used,
}

impl fmt::Display for LinkUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unused => "once, unused",
            Self::Used => "once, used",
        })
    }
}

/// The status of a room's recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// Room.
    pub room: String,
    /// State of the recorder.
    pub state: RecordingState,
    /// Directory of the recording's files; `None` if there is no recording.
    pub directory: Option<String>,
    /// Time since the recording began, in ms.
    pub since_ms: u64,
    /// Number of times that the recorder was restarted after it died.
    pub restarts: u64,
    /// The recorder's last status, or the reason why there is no status.
    pub note: Option<String>,
}

/// The state of a recorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordingState {
    /// No recorder runs.
    Off,
    /// The recorder is being started or restarted.
    Starting,
    /// The recorder records.
    On,
    /// The recorder's process is stopped, for example by SIGSTOP.
    Stopped,
    /// The recorder has ended by itself, for example because the disk is full; `note` contains the reason.
    Failed,
}

/// The state of a participant's listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The listener's process is not ready yet.
    Starting,
    /// The listener serves, and the participant is away.
    Ready,
    /// The listener serves, and the participant is present.
    Serving,
    /// The listener is ending, and its port is closed.
    Draining,
    /// The listener died and will be restarted; new connections wait in the listening socket.
    BackingOff,
    /// The listener failed too often and is not restarted; its port is closed.
    Failed,
    /// The listener was stopped by an operator; its port is closed.
    Stopped,
}

impl State {
    /// All states of a listener.
    pub const ALL: [Self; 7] =
        [Self::Starting, Self::Ready, Self::Serving, Self::Draining, Self::BackingOff, Self::Failed, Self::Stopped];

    /// Whether the listener serves connections.
    #[must_use]
    pub fn is_up(self) -> bool {
        matches!(self, Self::Ready | Self::Serving)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::BackingOff => "backing off",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        })
    }
}

/// Changes by a reload. Login names are sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// New participants, and participants whose listener had died or failed and is started again at once.
    pub started: Vec<String>,
    /// Participants whose file was removed.
    pub stopped: Vec<String>,
    /// Participants whose listener is replaced, because their file or `palabre.toml` has changed.
    pub restarted: Vec<String>,
    /// Whether the certificate or its key has changed. Then every listener was told to read both again.
    #[serde(default)]
    pub certificate: bool,
    /// The faults: one line for each invalid file.
    pub errors: Vec<String>,
    /// The settings that can't be used, each with the reason. The supervisor keeps the previous settings.
    #[serde(default)]
    pub refused: Vec<String>,
}

/// Error: a request on the control socket failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No process serves the control socket.
    #[error("unable to connect to '{}': {source}; is palabre-supervisor running?", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The program at the other end of the control socket uses another version of the protocol.
    #[error(
        "unable to use the control socket: the other program speaks version {theirs}, this program {VERSION}; use programs of one release"
    )]
    Version {
        /// Protocol version of the other program.
        theirs: u32,
    },
    /// The line on the control socket is too long.
    #[error("unable to use the control socket: a line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// The line on the control socket is invalid.
    #[error("unable to parse a line from the control socket: {0}; use programs of one release")]
    Malformed(String),
    /// The other program did not answer before the timeout.
    #[error("unable to use the control socket: the other program did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The other program closed the connection before the end of a line.
    #[error("unable to read a whole line from the control socket: the other program closed the connection")]
    Closed,
    /// Another system call failed.
    #[error("unable to read from or write to the control socket: {0}")]
    Io(#[source] io::Error),
}

#[derive(Serialize, Deserialize)]
struct RequestLine {
    version: u32,
    request: Request,
}

#[derive(Serialize, Deserialize)]
struct ResponseLine {
    version: u32,
    response: Response,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Sends a request to the control socket at `path`, and waits at most `timeout` for the answer.
///
/// Repeats a request that can be repeated if the connection is closed without an answer, since the supervisor may have
/// replaced its program.
///
/// # Errors
/// [`ControlError::Connect`] if no supervisor runs; otherwise the other [`ControlError`]s.
pub fn request(path: &Path, request: &Request, timeout: Duration) -> Result<Response, ControlError> {
    const TIMES: usize = 3;
    let repeatable = matches!(request, Request::Status | Request::Reload | Request::Plan);
    for _ in 1..TIMES {
        match request_once(path, request, timeout) {
            Err(ControlError::Closed | ControlError::Io(_)) if repeatable => {}
            other => return other,
        }
    }
    request_once(path, request, timeout)
}

fn request_once(path: &Path, request: &Request, timeout: Duration) -> Result<Response, ControlError> {
    let connect = |source| ControlError::Connect { path: path.to_owned(), source };
    let stream = UnixStream::connect(path).map_err(connect)?;
    let deadline = Deadline::within(timeout);
    write_line(&stream, &RequestLine { version: VERSION, request: request.clone() }, deadline)?;
    read_line::<ResponseLine>(&stream, deadline).map(|answered| answered.response)
}

/// Reads a client's request, within `timeout`.
///
/// # Errors
/// [`ControlError`], which may be sent to the client in a [`Response::Refused`].
pub fn read_request(stream: &UnixStream, timeout: Duration) -> Result<Request, ControlError> {
    read_line::<RequestLine>(stream, Deadline::within(timeout)).map(|asked| asked.request)
}

/// Sends an answer to a client, within `timeout`.
///
/// # Errors
/// [`ControlError`], most often that the client has left.
pub fn write_response(stream: &UnixStream, response: &Response, timeout: Duration) -> Result<(), ControlError> {
    let answered = ResponseLine { version: VERSION, response: response.clone() };
    write_line(stream, &answered, Deadline::within(timeout))
}

/// A deadline. The timeout from which the deadline was computed is kept for the error message.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    fn within(timeout: Duration) -> Self {
        Self { at: Instant::now() + timeout, timeout }
    }

    /// Returns the time left. The time is never zero, because zero means no timeout for a socket.
    fn left(self) -> Result<Duration, ControlError> {
        let left = self.at.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ControlError::TimedOut(self.timeout)) } else { Ok(left) }
    }

    fn io(self, error: io::Error) -> ControlError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ControlError::TimedOut(self.timeout),
            _ => ControlError::Io(error),
        }
    }
}

fn write_line(mut stream: &UnixStream, message: &impl Serialize, deadline: Deadline) -> Result<(), ControlError> {
    let mut line = serde_json::to_vec(message).map_err(|error| ControlError::Malformed(error.to_string()))?;
    line.push(b'\n');
    if line.len() > MAX_LINE_BYTES {
        return Err(ControlError::TooLong);
    }
    let mut left = line.as_slice();
    while !left.is_empty() {
        stream.set_write_timeout(Some(deadline.left()?)).map_err(ControlError::Io)?;
        match stream.write(left) {
            Ok(0) => return Err(ControlError::Closed),
            Ok(written) => left = left.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(deadline.io(error)),
        }
    }
    Ok(())
}

fn read_line<T: DeserializeOwned>(stream: &UnixStream, deadline: Deadline) -> Result<T, ControlError> {
    let line = read_bytes(stream, deadline)?;
    // The version is parsed first, because the format of the rest depends on the version.
    let malformed = |error: serde_json::Error| ControlError::Malformed(error.to_string());
    let Versioned { version } = serde_json::from_slice(&line).map_err(malformed)?;
    if version != VERSION {
        return Err(ControlError::Version { theirs: version });
    }
    serde_json::from_slice(&line).map_err(malformed)
}

fn read_bytes(mut stream: &UnixStream, deadline: Deadline) -> Result<Vec<u8>, ControlError> {
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        stream.set_read_timeout(Some(deadline.left()?)).map_err(ControlError::Io)?;
        let read = match stream.read(&mut buffer) {
            Ok(0) => return Err(ControlError::Closed),
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(deadline.io(error)),
        };
        let end = read.iter().position(|byte| *byte == b'\n');
        let wanted = end.unwrap_or(read.len());
        if line.len() + wanted >= MAX_LINE_BYTES {
            return Err(ControlError::TooLong);
        }
        line.extend_from_slice(read.get(..wanted).unwrap_or_default());
        if end.is_some() {
            return Ok(line);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
