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

mod bridge;
mod codec;
mod mixing;
mod report;
mod status;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use palabre_room::Name;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Entrance, text};

pub use bridge::{Bridging, SharedRoom};
pub use codec::{Codec, NotACodec, StreamCodecs};
pub use mixing::{MixedParticipant, Mixing};
pub use report::{ListenerReport, MAX_FAULT_CHARS, MAX_REPORT_BYTES, PageReport, ReportError, Speaking, Traffic};
pub use status::{
    Certificate, Daemon, LinkUse, MixerState, ParticipantStatus, Recording, RecordingState, SignerStatus, State,
    Status, Storage,
};

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
    /// Start a participant's listener that was stopped, that waits for its restart, or that failed too often. Answered by
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
    /// Show a participant under the display name that the participant has chosen. Without `display`: under the name in the participant's file.
    /// Only the participant's listener may send this request with `display`. Answered by [`Response::Ok`] when the change is on disk, and
    /// by [`Response::Taken`] if another participant has this name or a similar name.
    DisplayName {
        /// The participant.
        #[serde(with = "text::name")]
        name: Name,
        /// The chosen name; `None` deletes the chosen name.
        display: Option<String>,
    },
    /// Become the signer: palabre-signer sends this request. The first byte of the answer is [`WITH_CONNECTION`] and carries a descriptor: a
    /// connection of type SOCK_SEQPACKET for [`crate::signing::Order`]s.
    Sign,
    /// Become the launcher: palabre-launcher sends this request. The first byte of the answer is [`WITH_CONNECTION`] and carries a descriptor: a
    /// connection of type SOCK_SEQPACKET for orders to start listeners.
    Launch,
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

/// The byte of the answer to [`Request::Sign`] and [`Request::Launch`] that carries the connection.
pub const WITH_CONNECTION: u8 = b'+';

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
#[expect(
    clippy::large_enum_variant,
    reason = "a process holds few answers of the control socket at the same time, so a small answer may take the space of a large one"
)]
pub enum Response {
    /// The request was carried out.
    Ok,
    /// The new program serves.
    Restarted {
        /// Process id of the daemon, which runs the new program.
        pid: u32,
    },
    /// The status of the supervisor and its children.
    Status(Status),
    /// The configuration was read, and these changes have begun or would begin.
    Reloaded(Changes),
    /// The status of a room's present or last recording.
    Recording(Recording),
    /// Another participant has the display name, or a name that people would confuse with it. Nothing has changed.
    Taken,
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

/// Changes by a reload. Login names are sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// New participants, and participants whose listener had died or failed and is started again at once.
    pub started: Vec<String>,
    /// Participants whose file was removed.
    pub stopped: Vec<String>,
    /// Participants whose listener is replaced, because their file or `palabre.toml` has changed.
    pub restarted: Vec<String>,
    /// Participants whose gain or mute has changed. Their listeners stay.
    #[serde(default)]
    pub gains: Vec<String>,
    /// Whether the certificate or its key has changed, so that a reload tells every listener to get the certificate again. False if the reload
    /// replaces all listeners, because settings have changed too.
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
/// If the connection is closed without an answer, the supervisor may have replaced its program. Then sends the request
/// again, but only a request for the status, for a reload or for its plan, which may be executed twice.
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

/// Sends a request on a connection to the control socket, within `timeout`. Doesn't read the answer.
///
/// # Errors
/// [`ControlError`], usually because the supervisor has ended.
pub fn write_request(stream: &UnixStream, request: &Request, timeout: Duration) -> Result<(), ControlError> {
    write_line(stream, &RequestLine { version: VERSION, request: request.clone() }, Deadline::within(timeout))
}

/// Returns the line that [`write_request`] sends.
#[must_use]
pub fn request_line(request: &Request) -> Vec<u8> {
    let line = RequestLine { version: VERSION, request: request.clone() };
    let mut line = serde_json::to_vec(&line).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Checks the answer to [`Request::Sign`] or [`Request::Launch`]. `has_connection`: the answer carries a descriptor.
///
/// # Errors
/// The supervisor hasn't accepted the request. Contains the cause.
pub fn check_connection(answer: &[u8], has_connection: bool) -> Result<(), String> {
    if has_connection && answer.first() == Some(&WITH_CONNECTION) {
        return Ok(());
    }
    Err(match parse_response(answer) {
        Ok(Response::Refused { why }) => why,
        Ok(other) => format!("the supervisor sent an unexpected answer, {other:?}; use programs of one release"),
        Err(error) => error.to_string(),
    })
}

/// Parses an answer of the supervisor.
///
/// # Errors
/// [`ControlError`] if the line isn't an answer in this version of the protocol.
pub fn parse_response(line: &[u8]) -> Result<Response, ControlError> {
    parse_line::<ResponseLine>(line).map(|answered| answered.response)
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
    parse_line(&read_bytes(stream, deadline)?)
}

fn parse_line<T: DeserializeOwned>(line: &[u8]) -> Result<T, ControlError> {
    // The version is parsed first, because the format of the rest depends on the version.
    let malformed = |error: serde_json::Error| ControlError::Malformed(error.to_string());
    let Versioned { version } = serde_json::from_slice(line).map_err(malformed)?;
    if version != VERSION {
        return Err(ControlError::Version { theirs: version });
    }
    serde_json::from_slice(line).map_err(malformed)
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
