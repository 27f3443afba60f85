//! What the mixer counts, as it is said on the control socket.

use palabre_room::{LATE_US, MixerReport};
use serde::{Deserialize, Serialize};

/// What the mixer has counted since it began: `palabre_room::MixerReport`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mixing {
    /// Ticks of 20 ms at which something was mixed.
    pub ticks: u64,
    /// Ticks that were left out because the process was kept from running.
    pub skipped: u64,
    /// How many ticks were late by at most so many µs, and by more than those before; the last place has no bound.
    pub late: Vec<(Option<u64>, u64)>,
    /// The lateness of all ticks together, in µs.
    pub late_us: u64,
    /// In the order of rooms and names.
    pub participants: Vec<MixedParticipant>,
}

/// What was lost on one participant's ways, as far as the mixer sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MixedParticipant {
    /// The room.
    pub room: String,
    /// The login name.
    pub name: String,
    /// Frames of 20 ms that their listener was too slow for.
    pub lost_frames: u64,
    /// How often what they say ran dry and went on.
    pub underruns: u64,
    /// For how many milliseconds they have talked.
    pub talked_ms: u64,
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
            ticks: report.ticks,
            skipped: report.skipped,
            late: bounds.zip(report.late).collect(),
            late_us: report.late_us,
            participants: participants.collect(),
        }
    }
}
