//! What is said on the supervisor's control socket: one line of JSON each way, then the connection is closed.
//!
//! The version comes first in both directions, so that an old command and a new supervisor can say that they don't
//! understand each other. A line has at most [`MAX_LINE_BYTES`]; every wait has a deadline.
//!
//! ```text
//! {"version":3,"request":"status"}
//! {"version":3,"request":{"restart":{"name":"alice"}}}
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
pub use report::{ListenerReport, MAX_REPORT_BYTES, PageReport, Speaking, Traffic};

/// Bump it whenever [`Request`], [`Response`] or anything in them changes its meaning.
pub const VERSION: u32 = 3;

/// The most bytes of a line, its end included.
pub const MAX_LINE_BYTES: usize = 2 << 20;

/// What the supervisor can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How things are: answered by [`Response::Status`].
    Status,
    /// Replace a participant's listener by a new process without losing a word: [`Response::Ok`] when it is done.
    Restart {
        /// Whose.
        #[serde(with = "text::name")]
        name: Name,
    },
    /// End a participant's listener and close their port until [`Self::Start`]: [`Response::Ok`] when it is gone.
    Stop {
        /// Whose.
        #[serde(with = "text::name")]
        name: Name,
    },
    /// Start a participant's listener that was stopped, waits to be started again or was given up: [`Response::Ok`]
    /// when it serves.
    Start {
        /// Whose.
        #[serde(with = "text::name")]
        name: Name,
    },
    /// End all connections of a participant now, who may come back: [`Response::Ok`] when a new process serves.
    Kick {
        /// Whose.
        #[serde(with = "text::name")]
        name: Name,
    },
    /// Become the program that is now at the supervisor's path, and then hand every listener over to the one that is at
    /// theirs. [`Response::Refused`] when that can't be done; when it is, the connection is closed without an answer, and
    /// [`Status::supervisor`] says that another program has begun.
    Upgrade,
    /// Read the configuration again: answered by [`Response::Reloaded`] when it is done.
    Reload,
    /// Somebody has used the link of the listener that asks, which opens once: [`Response::Ok`] when that is written down and their
    /// key opens from now on. Whose listener it is, the kernel says.
    Enter(Entrance),
    /// Record a room, or no longer, or say how its recording is: answered by [`Response::Recording`] when it is done.
    Record {
        /// Which room.
        #[serde(with = "text::name")]
        room: Name,
        /// What to do.
        action: RecordAction,
    },
}

/// What to do about a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordAction {
    /// Begin one.
    Start,
    /// End it.
    Stop,
    /// Say how it is.
    Status,
}

/// What the supervisor answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// Done.
    Ok,
    /// How things are.
    Status(Status),
    /// The configuration was read, and this has changed.
    Reloaded(Changes),
    /// How the recording of a room is, or was before it ended.
    Recording(Recording),
    /// Not done.
    Refused {
        /// `unable to VERB 'OBJECT': cause; what to do`.
        why: String,
    },
}

/// How things are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The supervisor's own version, as its `--version` says.
    pub version: String,
    /// The supervisor itself.
    #[serde(default)]
    pub supervisor: Option<Daemon>,
    /// In the order of names.
    pub participants: Vec<ParticipantStatus>,
    /// The certificate in its file, which is not always the one that is served.
    #[serde(default)]
    pub certificate: Option<Certificate>,
    /// What the mixer has counted; none where it never wrote that.
    #[serde(default)]
    pub mixing: Option<Mixing>,
    /// What is wrong with the configuration: a line for each file that is passed over.
    pub errors: Vec<String>,
}

/// A process that replaces its program and stays the same process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// The process.
    pub pid: u32,
    /// When its present program began: CLOCK_BOOTTIME, in ms.
    pub began_ms: u64,
}

/// The certificate of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Its file.
    pub path: String,
    /// Whole days until it is valid no longer, less than 0 when that has passed; none where it can't be read.
    pub days_left: Option<i64>,
    /// When that is: `2026-12-31T18:00:00Z`.
    pub not_after: Option<String>,
    /// It is signed by nobody but itself: browsers warn of it.
    pub self_signed: bool,
    /// The DNS names and IP addresses for which it is.
    pub names: Vec<String>,
    /// Why no listener can use it, or it and its key, in words; those that run go on with the one before.
    pub fault: Option<String>,
}

/// How one participant's listener is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParticipantStatus {
    /// The login name.
    pub name: String,
    /// What others see.
    pub display: String,
    /// The room.
    pub room: String,
    /// The port that is open; the one in the file where none is open.
    pub port: u16,
    /// What the listener does.
    pub state: State,
    /// Its process, where there is one.
    pub pid: Option<u32>,
    /// How many times it was started again after it died.
    pub restarts: u64,
    /// How its last process that came to an end did so: `killed by signal 9`, `exit code 78`.
    pub last_exit: Option<String>,
    /// Milliseconds since the state began.
    pub since_ms: u64,
    /// What the listener reports; none before its first report, or where there is no listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ListenerReport>,
    /// Why there is no listener.
    pub note: Option<String>,
    /// Whether their link was used, where it opens once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkUse>,
}

/// How a link is that opens once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkUse {
    /// Nobody has pressed its button yet.
    Unused,
    /// Somebody has, and their browser alone comes in.
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

/// How the recording of a room is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// The room.
    pub room: String,
    /// What the recorder does.
    pub state: RecordingState,
    /// Where the files are; none where there is no recording.
    pub directory: Option<String>,
    /// Milliseconds since it began.
    pub since_ms: u64,
    /// How many times the recorder was started again after it died.
    pub restarts: u64,
    /// What the recorder says about itself, or why there is none.
    pub note: Option<String>,
}

/// What a recorder does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordingState {
    /// There is none.
    Off,
    /// It is being started, for the first time or after it died.
    Starting,
    /// It records.
    On,
    /// It has ended by itself, as with a full disk; `note` says why.
    Failed,
}

/// What a participant's listener does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its process runs and doesn't serve yet.
    Starting,
    /// It serves, and nobody listens there.
    Ready,
    /// It serves, and somebody listens.
    Serving,
    /// It was told to leave, its port is closed, and what it has begun may end.
    Draining,
    /// It died; the next one starts in a moment, and connections wait in the socket.
    BackingOff,
    /// It can't work; its port is closed.
    Failed,
    /// It was ended because somebody asked for that; its port is closed.
    Stopped,
}

impl State {
    /// Every state there is.
    pub const ALL: [Self; 7] =
        [Self::Starting, Self::Ready, Self::Serving, Self::Draining, Self::BackingOff, Self::Failed, Self::Stopped];

    /// Whether the participant can connect and is answered.
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

/// What a reload has changed: login names, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// New participants, and those whose listener had died or failed and is tried again at once.
    pub started: Vec<String>,
    /// Participants whose file is gone.
    pub stopped: Vec<String>,
    /// Participants whose listener was replaced because their file or the server's says something else now.
    pub restarted: Vec<String>,
    /// The certificate or its key is another file, and every listener was told to read it.
    #[serde(default)]
    pub certificate: bool,
    /// What is wrong with the configuration: a line for each file that is passed over.
    pub errors: Vec<String>,
}

/// Why there was no conversation.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens there.
    #[error("unable to connect to '{}': {source}; is palabre-supervisor running?", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The other end speaks another version of this protocol.
    #[error(
        "unable to talk to a program that speaks version {theirs}: this one speaks {VERSION}; use two of the same release"
    )]
    Version {
        /// What the other end speaks.
        theirs: u32,
    },
    /// The line is too long.
    #[error("unable to read a line of more than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// The line means nothing.
    #[error("unable to understand the other end: {0}")]
    Malformed(String),
    /// The deadline has passed.
    #[error("unable to wait any longer for the other end: no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The other end left in the middle.
    #[error("unable to read a whole line: the other end closed the connection")]
    Closed,
    /// Anything else that the system says.
    #[error("unable to use the control socket: {0}")]
    Io(#[source] io::Error),
}

#[derive(Serialize, Deserialize)]
struct Asked {
    version: u32,
    request: Request,
}

#[derive(Serialize, Deserialize)]
struct Answered {
    version: u32,
    response: Response,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Asks the supervisor whose control socket is at `path`, and waits at most `timeout` for the answer.
///
/// [`Request::Status`] is asked again when the supervisor leaves in the middle: it may have become another program.
///
/// # Errors
/// [`ControlError`]; [`ControlError::Connect`] where no supervisor runs.
pub fn request(path: &Path, request: &Request, timeout: Duration) -> Result<Response, ControlError> {
    const TIMES: usize = 3;
    for _ in 1..TIMES {
        match request_once(path, request, timeout) {
            Err(ControlError::Closed | ControlError::Io(_)) if *request == Request::Status => {}
            other => return other,
        }
    }
    request_once(path, request, timeout)
}

fn request_once(path: &Path, request: &Request, timeout: Duration) -> Result<Response, ControlError> {
    let connect = |source| ControlError::Connect { path: path.to_owned(), source };
    let stream = UnixStream::connect(path).map_err(connect)?;
    let deadline = Deadline::within(timeout);
    write_line(&stream, &Asked { version: VERSION, request: request.clone() }, deadline)?;
    read_line::<Answered>(&stream, deadline).map(|answered| answered.response)
}

/// Reads what a client asks, within `timeout`.
///
/// # Errors
/// [`ControlError`], which may be told to the client by [`write_response`].
pub fn read_request(stream: &UnixStream, timeout: Duration) -> Result<Request, ControlError> {
    read_line::<Asked>(stream, Deadline::within(timeout)).map(|asked| asked.request)
}

/// Answers a client, within `timeout`.
///
/// # Errors
/// [`ControlError`].
pub fn write_response(stream: &UnixStream, response: &Response, timeout: Duration) -> Result<(), ControlError> {
    let answered = Answered { version: VERSION, response: response.clone() };
    write_line(stream, &answered, Deadline::within(timeout))
}

/// A point in time, and how long it was away, for the message.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    fn within(timeout: Duration) -> Self {
        Self { at: Instant::now() + timeout, timeout }
    }

    /// Never zero, which would mean for ever to a socket.
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
    // The version alone, before anything whose meaning depends on it.
    let malformed = |error: serde_json::Error| ControlError::Malformed(error.to_string());
    let Versioned { version } = serde_json::from_slice(&line).map_err(malformed)?;
    if version != VERSION {
        return Err(ControlError::Version { theirs: version });
    }
    serde_json::from_slice(&line).map_err(malformed)
}

fn read_bytes(mut stream: &UnixStream, deadline: Deadline) -> Result<Vec<u8>, ControlError> {
    let mut line = Vec::new();
    let mut piece = [0; 4096];
    loop {
        stream.set_read_timeout(Some(deadline.left()?)).map_err(ControlError::Io)?;
        let read = match stream.read(&mut piece) {
            Ok(0) => return Err(ControlError::Closed),
            Ok(read) => piece.get(..read).unwrap_or_default(),
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
