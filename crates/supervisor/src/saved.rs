//! The state that the supervisor saves in memory for the next program before it replaces its program.
//!
//! The next program also inherits the sockets, each with a name. Raise [`VERSION`] when the meaning of a field changes; a new field needs a
//! default. The supervisor first runs the new program with `--probe`: if the new program doesn't accept this version, the old program
//! continues.

use palabre_config::control::{ListenerReport, State};
use palabre_config::signing::SignerReport;
use palabre_host::stamp::FileStamp;
use serde::{Deserialize, Serialize};

/// Version of the saved state.
pub(crate) const VERSION: u32 = 1;

/// Returns the text that a program prints for `--probe` if it could take over from a supervisor whose saved state has this version. Other programs don't
/// print it. Never change the text: supervisors of earlier releases compare it.
pub(crate) fn promise(version: u32) -> String {
    format!("takes over from a supervisor with a state of version {version}\n")
}

/// Name of the inherited control socket. A participant's listening socket has the participant's name, which contains no `+`.
pub(crate) const CONTROL: &str = "+control";
/// Name of the inherited socket to which children send notifications.
pub(crate) const NOTIFY: &str = "+notify";
/// Name of the inherited connection to the client that asked for the restart.
pub(crate) const CLIENT: &str = "+client";

/// Name of the inherited connection to the signer.
pub(crate) const SIGNER: &str = "+signer";

/// Name of the inherited connection to the launcher.
pub(crate) const LAUNCHER: &str = "+launcher";

/// Returns the name of the inherited end of a listener's connection to the signer.
pub(crate) fn end(listener: u32) -> String {
    format!("+end-{listener}")
}

/// The saved state of the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// [`VERSION`] of the program that saved this state.
    pub(crate) version: u32,
    /// The settings of `palabre.toml`, as text. If the next program reads other settings, it must replace the listeners.
    pub(crate) server: String,
    /// The text of `palabre.toml` as last read. The next program uses it if the file has become invalid.
    #[serde(default)]
    pub(crate) server_file: Option<String>,
    /// Sample format of all rooms.
    pub(crate) format: String,
    /// Stamps of the certificate and the key that the listeners were last told to read.
    pub(crate) certificate: [Option<FileStamp>; 2],
    #[serde(rename = "seats")]
    pub(crate) services: Vec<SavedService>,
    pub(crate) recordings: Vec<SavedRecording>,
    /// The signer. `None` if no signer runs, or if an earlier release, whose listeners read the key themselves, has saved the state.
    #[serde(default)]
    pub(crate) signer: Option<SavedSigner>,
    /// The launcher, if one is connected.
    #[serde(default)]
    pub(crate) launcher: Option<SavedLauncher>,
}

/// The signer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedSigner {
    pub(crate) pid: u32,
    /// The signer's user, if it isn't a child of the supervisor.
    pub(crate) user: Option<String>,
    /// Stamp of the program file when the child was started.
    pub(crate) program: Option<FileStamp>,
    /// Number of orders that the supervisor has sent to the signer.
    pub(crate) orders: u64,
    pub(crate) report: Option<SignerReport>,
}

/// The launcher. The connection to it is the inherited socket [`LAUNCHER`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedLauncher {
    pub(crate) pid: u32,
    /// Number of the last order to start a listener.
    pub(crate) last_order: u64,
}

/// The service of one participant.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedService {
    /// Login name of the participant.
    pub(crate) name: String,
    /// Text of the participant's file, as last read.
    pub(crate) file: String,
    pub(crate) port: u16,
    pub(crate) state: State,
    /// Time since the service entered its state, in ms.
    pub(crate) since_ms: u64,
    pub(crate) process: Option<SavedProcess>,
    /// Whether the process was started with the present configuration.
    pub(crate) is_current: bool,
    /// Whether an operator stopped the service.
    #[serde(rename = "is_parked")]
    pub(crate) is_stopped: bool,
    /// Whether the participant's gain was written into the file `gain`. `None` from an earlier release, which started a process only after
    /// this write.
    #[serde(default)]
    pub(crate) is_gain_written: Option<bool>,
    pub(crate) restarts: u64,
    pub(crate) last_exit: Option<String>,
    /// The listener's last report.
    #[serde(default)]
    pub(crate) report: Option<ListenerReport>,
    /// Time since the participant raised a hand, in ms. `None` if no hand is raised, and from an earlier release.
    #[serde(default)]
    pub(crate) hand_ms: Option<u64>,
    /// Why no listener runs. An earlier release saved the listener's report here, as text.
    pub(crate) note: Option<String>,
}

/// A listener process.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct SavedProcess {
    pub(crate) pid: u32,
    /// Stamp of the listener's program file at the start of the process.
    pub(crate) program: Option<FileStamp>,
    /// Time since the process became ready, in ms; `None` if it is not ready yet.
    pub(crate) ready_for_ms: Option<u64>,
    /// Whether the process is a child of the launcher.
    #[serde(default)]
    pub(crate) is_launched: bool,
}

/// The recording of one room.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedRecording {
    pub(crate) room: String,
    pub(crate) directory: String,
    /// Start of the recording: CLOCK_MONOTONIC, in ms.
    pub(crate) began_ms: u64,
    /// Process id of the recorder, if it runs.
    pub(crate) pid: Option<u32>,
    pub(crate) is_ready: bool,
    pub(crate) restarts: u64,
    /// The last status text that the recorder sent.
    pub(crate) note: Option<String>,
    /// Why the recording ended by itself.
    pub(crate) failed: Option<String>,
}
