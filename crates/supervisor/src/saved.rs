//! The state that the supervisor saves in memory for the next program when it replaces itself.
//!
//! The sockets are inherited beside it, by their names. Raise [`VERSION`] when the meaning of a field changes; a new field needs a default.
//! The new program is asked first whether it accepts this version (`--probe`), so that the old one can go on if it doesn't.

use palabre_config::control::{ListenerReport, State};
use palabre_host::stamp::FileStamp;
use serde::{Deserialize, Serialize};

/// Version of the saved state.
pub(crate) const VERSION: u32 = 1;

/// Returns what a program that accepts the version prints for `--probe`, so that other programs are not taken for one.
pub(crate) fn promise(version: u32) -> String {
    format!("takes over from a supervisor with a state of version {version}\n")
}

/// Name of the control socket. A participant's socket has the participant's name, which contains no `+`.
pub(crate) const CONTROL: &str = "+control";
/// Name of the socket on which children notify.
pub(crate) const NOTIFY: &str = "+notify";
/// Name of the connection of the client that asked for the restart.
pub(crate) const CLIENT: &str = "+client";

/// The whole state.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// [`VERSION`] of the program that saved it.
    pub(crate) version: u32,
    /// The settings of `palabre.toml`, as text to compare: if they differ, listeners must be replaced.
    pub(crate) server: String,
    /// The text of `palabre.toml` with these settings, since the file may be invalid now.
    #[serde(default)]
    pub(crate) server_file: Option<String>,
    /// Format of the open rooms.
    pub(crate) format: String,
    /// The certificate and key that listeners were told to read.
    pub(crate) certificate: [Option<FileStamp>; 2],
    #[serde(rename = "seats")]
    pub(crate) services: Vec<SavedService>,
    pub(crate) recordings: Vec<SavedRecording>,
}

/// The service of one participant.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedService {
    /// The participant.
    pub(crate) name: String,
    /// The participant's file, as last read.
    pub(crate) file: String,
    pub(crate) port: u16,
    pub(crate) state: State,
    /// Time since the state began.
    pub(crate) since_ms: u64,
    pub(crate) process: Option<SavedProcess>,
    /// The process has the present configuration.
    pub(crate) is_current: bool,
    /// An operator stopped the service.
    #[serde(rename = "is_parked")]
    pub(crate) is_stopped: bool,
    pub(crate) restarts: u64,
    pub(crate) last_exit: Option<String>,
    /// What the listener reported last.
    #[serde(default)]
    pub(crate) report: Option<ListenerReport>,
    /// Why there is no listener. An earlier release saved the listener's words here.
    pub(crate) note: Option<String>,
}

/// A listener's process.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct SavedProcess {
    pub(crate) pid: u32,
    /// The file of its program when it was started.
    pub(crate) program: Option<FileStamp>,
    /// Time since it became ready, if it did.
    pub(crate) ready_for_ms: Option<u64>,
}

/// A recording.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedRecording {
    pub(crate) room: String,
    pub(crate) directory: String,
    /// Start of the recording: CLOCK_MONOTONIC, in ms.
    pub(crate) began_ms: u64,
    /// The recorder, if it runs.
    pub(crate) pid: Option<u32>,
    pub(crate) is_ready: bool,
    pub(crate) restarts: u64,
    /// What the recorder said last.
    pub(crate) note: Option<String>,
    /// Why the recording ended by itself.
    pub(crate) failed: Option<String>,
}
