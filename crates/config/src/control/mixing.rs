//! The mixer's counters, as the control socket reports them.

use std::path::Path;

use palabre_room::{LATE_US, MixerReport};
use serde::{Deserialize, Serialize};

/// The mixer's counters since its start, from `palabre_room::MixerReport`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mixing {
    /// The parts of the mixer's sandbox that the kernel enforces. Empty if the mixer has not reported them.
    #[serde(default)]
    pub sandbox: String,
    /// Number of ticks of 20 ms in which sound was mixed.
    pub ticks: u64,
    /// Number of ticks that were skipped because the process did not run in time.
    pub skipped: u64,
    /// Histogram of lateness. For each bucket: its upper bound in µs, and the number of ticks whose lateness is between the previous bound and this
    /// bound. The last bucket has no upper bound.
    pub late: Vec<(Option<u64>, u64)>,
    /// Sum of the lateness of all ticks, in µs.
    pub late_us: u64,
    /// The participants, in order of rooms and names.
    pub participants: Vec<MixedParticipant>,
}

/// The mixer's counters for one participant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MixedParticipant {
    /// Room.
    pub room: String,
    /// Login name.
    pub name: String,
    /// Number of frames of 20 ms that were lost because the listener read them too slowly.
    pub lost_frames: u64,
    /// Number of underruns of the mixer's jitter buffer for the participant.
    pub underruns: u64,
    /// Talking time in ms since the mixer opened the participant's directory.
    pub talked_ms: u64,
}

impl Mixing {
    /// Reads the counters of the mixer that serves the directory `rooms`; `None` if they can't be read.
    #[must_use]
    pub fn read(rooms: &Path) -> Option<Self> {
        MixerReport::read(rooms).ok().flatten().map(Self::from)
    }
}

impl From<MixerReport> for Mixing {
    fn from(report: MixerReport) -> Self {
        let bounds = LATE_US.into_iter().map(Some).chain([None]);
        let participants = report.participants.into_iter().map(|losses| MixedParticipant {
            room: losses.room.to_string(),
            name: losses.name.to_string(),
            lost_frames: losses.lost_frames,
            underruns: losses.underruns,
            talked_ms: losses.talked_ms,
        });
        Self {
            sandbox: report.sandbox,
            ticks: report.ticks,
            skipped: report.skipped,
            late: bounds.zip(report.late).collect(),
            late_us: report.late_us,
            participants: participants.collect(),
        }
    }
}
