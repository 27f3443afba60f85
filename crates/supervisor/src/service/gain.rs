//! The participant's file `gain` in the room, which the mixer reads.

use std::time::{Duration, Instant};

use palabre_config::Participant;
use palabre_room::{Gain, ParticipantDir, RoomError};

/// Interval after which a failed write is repeated.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What the supervisor has written into the file `gain`.
#[derive(Debug, Default)]
pub(super) struct GainFile {
    written: Written,
    /// After a failed write: the reason, and the time of the next attempt.
    failed: Option<(String, Instant)>,
}

/// The gain that the supervisor last wrote into the file.
#[derive(Debug, Default, PartialEq)]
enum Written {
    /// Unknown: an earlier supervisor or an operator may have written the file. The next write is never omitted.
    #[default]
    Unknown,
    /// The file contains this gain. `None`: there is no file, which means 0 dB. The file is written again only after the participant's gain
    /// or mute has changed.
    Gain(Option<Gain>),
}

impl GainFile {
    /// Returns the state after an upgrade. `is_written` tells whether the supervisor's previous program wrote the participant's gain into
    /// the file.
    pub(super) fn restored(participant: &Participant, is_written: bool) -> Self {
        let written = if is_written { Written::Gain(gain(participant)) } else { Written::Unknown };
        Self { written, failed: None }
    }

    /// Whether the gain that the supervisor last wrote into the room's file `gain` is the participant's present gain.
    pub(super) fn is_written(&self, participant: &Participant) -> bool {
        self.written == Written::Gain(gain(participant))
    }

    /// Writes the participant's gain if it differs from the last written one. Otherwise keeps the file, since an operator may have written
    /// another gain into it.
    pub(super) fn write(
        &mut self,
        directory: &ParticipantDir,
        participant: &Participant,
        now: Instant,
    ) -> Result<(), RoomError> {
        let new = gain(participant);
        let written = if self.is_written(participant) { Ok(()) } else { directory.set_gain(new) };
        match &written {
            Ok(()) => *self = Self { written: Written::Gain(new), failed: None },
            Err(error) => {
                let text = error.to_string();
                if self.failed.as_ref().is_none_or(|(last, _)| *last != text) {
                    log::error!(PALABRE_INSTANCE:% = participant.name; "{text}; the mixer keeps the previous gain");
                }
                self.failed = Some((text, now + RETRY_INTERVAL));
            }
        }
        written
    }

    /// Returns the time of the next attempt after a failed write.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.failed.as_ref().map(|(_, at)| *at)
    }

    /// Returns why the file doesn't have the participant's gain.
    pub(super) fn fault(&self) -> Option<String> {
        let (why, _) = self.failed.as_ref()?;
        Some(format!("{why}; the mixer keeps the previous gain, and the supervisor repeats the write every second"))
    }
}

fn gain(participant: &Participant) -> Option<Gain> {
    if participant.muted { Some(Gain::Mute) } else { participant.gain_db.map(Gain::Db) }
}
