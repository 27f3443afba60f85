//! What one program of the supervisor leaves to the next, in memory, when it is replaced in the same process.
//!
//! The sockets are left beside it, by the names of whose they are. Bump [`VERSION`] when the meaning of anything here
//! changes; what is only added has a default. A program is asked whether it takes this version before it is begun
//! (`--probe`), so that the old one can go on where it doesn't.

use palabre_config::control::{ListenerReport, State};
use palabre_host::stamp::FileStamp;
use serde::{Deserialize, Serialize};

/// The version of everything here.
pub const VERSION: u32 = 1;

/// What a program that could take over says to `--probe`: another program would say nothing of the kind.
pub fn promise(version: u32) -> String {
    format!("takes over from a supervisor with a state of version {version}\n")
}

/// The names of the sockets that are no participant's; theirs have no `+`.
pub const CONTROL: &str = "+control";
/// See [`CONTROL`].
pub const NOTIFY: &str = "+notify";

/// Everything.
#[derive(Debug, Serialize, Deserialize)]
pub struct Estate {
    /// [`VERSION`] of who left it.
    pub version: u32,
    /// What `palabre.toml` meant: another text means that listeners must read it again.
    pub server: String,
    /// The text of `palabre.toml` that meant it: what the file says may have no meaning any more.
    #[serde(default)]
    pub server_file: Option<String>,
    /// The format of the rooms that are open.
    pub format: String,
    /// The certificate and the key that listeners were told to read.
    pub certificate: [Option<FileStamp>; 2],
    /// Everybody's seat.
    pub seats: Vec<SeatEstate>,
    /// Every recording.
    pub recordings: Vec<RecordingEstate>,
}

/// A seat.
#[derive(Debug, Serialize, Deserialize)]
pub struct SeatEstate {
    /// Whose.
    pub name: String,
    /// Their file, as it was understood last.
    pub file: String,
    /// The port that is served.
    pub port: u16,
    /// What the listener does.
    pub state: State,
    /// How long that has lasted.
    pub since_ms: u64,
    /// The process, where there is one.
    pub process: Option<ProcessEstate>,
    /// The process has the present configuration.
    pub is_current: bool,
    /// Somebody has asked to stop it.
    pub is_parked: bool,
    /// Starts after a death.
    pub restarts: u64,
    /// How the last process ended.
    pub last_exit: Option<String>,
    /// What the listener reported last.
    #[serde(default)]
    pub report: Option<ListenerReport>,
    /// Why there is no listener. An earlier release left the listener's words here.
    pub note: Option<String>,
}

/// A listener's process.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ProcessEstate {
    /// Its id.
    pub pid: u32,
    /// The file of its program when it was started.
    pub program: Option<FileStamp>,
    /// How long it has been ready, if ever.
    pub ready_for_ms: Option<u64>,
}

/// A recording.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordingEstate {
    /// Of which room.
    pub room: String,
    /// Where the files are.
    pub directory: String,
    /// When it began: CLOCK_MONOTONIC, in ms.
    pub began_ms: u64,
    /// The recorder's process, where there is one.
    pub pid: Option<u32>,
    /// It has said that it is ready.
    pub is_ready: bool,
    /// Starts after a death.
    pub restarts: u64,
    /// What the recorder said last.
    pub note: Option<String>,
    /// Why it has ended by itself.
    pub failed: Option<String>,
}
