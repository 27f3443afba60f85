//! The status of the supervisor and its children.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bridge::Bridging;
use super::mixing::Mixing;
use super::report::ListenerReport;

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
    /// The process that signs TLS handshakes; `None` if none runs.
    #[serde(default)]
    pub signer: Option<SignerStatus>,
    /// Whether a mixer works; `None` while this is unknown.
    #[serde(default)]
    pub mixer: Option<MixerState>,
    /// The mixer's counters; `None` if the mixer has not written its counters.
    #[serde(default)]
    pub mixing: Option<Mixing>,
    /// The connections with other machines; `None` if no `palabre-bridge` runs.
    #[serde(default)]
    pub bridge: Option<Bridging>,
    /// The recordings, in order of their rooms.
    #[serde(default)]
    pub recordings: Vec<Recording>,
    /// The disk of the recordings; `None` before it was measured.
    #[serde(default)]
    pub storage: Option<Storage>,
    /// The faults: one line for each invalid file, and for each alarm.
    pub errors: Vec<String>,
}

/// The process that has the private key and signs TLS handshakes for the listeners.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignerStatus {
    /// Process ID.
    pub pid: u32,
    /// User of the signer; `None` if the supervisor has started the signer, which then has the user of the supervisor.
    pub user: Option<String>,
    /// Number of signatures since the signer was started.
    pub signatures: u64,
    /// Number of requests that the signer has refused.
    pub refused: u64,
    /// The parts of the signer's sandbox that the kernel enforces.
    pub sandbox: String,
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

/// A daemon, which can replace its program in the same process.
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
    /// Whether the participant has chosen the display name, which differs from the name in the participant's file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub display_chosen: bool,
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
    /// planned replacement, or when the present process has served for an hour.
    pub last_exit: Option<String>,
    /// Time since the state began, in ms.
    pub since_ms: u64,
    /// The listener's last report, if it has sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ListenerReport>,
    /// Why the participant has no listener.
    pub note: Option<String>,
    /// Whether an operator has suspended the participant, who can't connect.
    #[serde(default)]
    pub suspended: bool,
    /// Whether a start, a stop or a replacement of the listener is in progress, or the listener is getting the certificate again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
    /// Why the listener doesn't use the present configuration, certificate or program. The listener serves as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// Why the participant's gain or mute, as configured, has not reached the mixer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain_fault: Option<String>,
    /// Use of the invitation link; `None` if the link can be used more than once, or if the record of its use can't be read.
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
    /// Start of the recording: `2026-11-22T14:26:00Z`.
    #[serde(default)]
    pub began: Option<String>,
    /// Space that the recording takes, measured within the last minute.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Time since the recording began, in ms.
    pub since_ms: u64,
    /// Number of times that the recorder was restarted after it died.
    pub restarts: u64,
    /// The recorder's last status, or the reason why there is no status.
    pub note: Option<String>,
}

/// The disk of the recordings, measured within the last minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// Directory of all recordings.
    pub directory: String,
    /// Free space of the disk.
    pub free_bytes: u64,
    /// Size of the disk.
    pub total_bytes: u64,
    /// Space that all recordings take.
    pub recordings_bytes: u64,
    /// Time until the disk is full if the present recordings go on at their average rate; `None` if nothing is recorded.
    pub left_s: Option<u64>,
    /// Whether little space is left for recordings.
    pub nearly_full: bool,
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
    /// The listener died or could not be started, and will be restarted. If its port is open, new connections wait in the listening socket.
    BackingOff,
    /// The listener was given up, and its port is closed. The supervisor tries again every 30 s; if the configuration is invalid, only after a
    /// reload.
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
