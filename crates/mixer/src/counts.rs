//! Writes the mixer's counters into the directory of the rooms while sound flows.

use std::path::PathBuf;
use std::time::Duration;

use palabre_host::sandbox::Enforced;
use palabre_room::{FRAME_MS, MixerReport, ParticipantCounters};

use crate::context::{Context, LastWarning};
use crate::participant::Participant;
use crate::room::Room;
use crate::rooms::Rooms;

/// Interval between writes of the counters while sound flows.
const INTERVAL: Duration = Duration::from_secs(5);
/// When all rooms become idle, the counters are written a last time: minimum interval between that write and the write before it.
const LAST_INTERVAL: Duration = Duration::from_secs(1);

/// The counters of ticks, and the time of their last write.
#[derive(Debug)]
pub(crate) struct CountersFile {
    rooms: PathBuf,
    counters: MixerReport,
    written_at: Option<Duration>,
    last_warning: LastWarning,
}

impl CountersFile {
    /// Creates the counters and writes them into the directory `rooms`, with the parts of the sandbox that the kernel enforces.
    pub(crate) fn new(rooms: PathBuf, enforced: Enforced) -> Self {
        let counters = MixerReport { sandbox: enforced.to_string(), ..MixerReport::default() };
        // An error is ignored here: the counters are written again when sound flows, and an error is logged then.
        let _ = counters.write(&rooms);
        Self { rooms, counters, written_at: None, last_warning: LastWarning::default() }
    }

    /// Counts a tick. `late` is the time between its deadline and its start.
    pub(crate) fn count_tick(&mut self, late: Duration) {
        self.counters.count_tick(u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
    }

    /// Returns the number of ticks.
    pub(crate) fn ticks(&self) -> u64 {
        self.counters.ticks
    }

    /// Writes the counters to the file, if a write is due. `is_last` is true when all rooms have become idle, so that no further write
    /// follows.
    pub(crate) fn write(&mut self, cx: &mut Context, rooms: &Rooms, skipped: u64, is_last: bool) {
        let now = cx.now.since_boot;
        let interval = if is_last { LAST_INTERVAL } else { INTERVAL };
        if self.written_at.is_some_and(|at| now < at + interval) {
            return;
        }
        self.written_at = Some(now);
        self.counters.skipped = skipped;
        self.counters.participants = participants(rooms);
        match self.counters.write(&self.rooms) {
            Ok(()) => drop(self.last_warning.clear()),
            Err(error) => {
                cx.warn_if_new(
                    &mut self.last_warning,
                    format!("{error}; 'palabre status' doesn't show new lost frames"),
                );
            }
        }
    }
}

fn participants(rooms: &Rooms) -> Vec<ParticipantCounters> {
    let of_room = |room: &Room| room.participants().map(|participant| of(room, participant)).collect::<Vec<_>>();
    let mut all: Vec<ParticipantCounters> = rooms.iter().flat_map(of_room).collect();
    all.sort_by(|a, b| (&a.room, &a.name).cmp(&(&b.room, &b.name)));
    all
}

fn of(room: &Room, participant: &Participant) -> ParticipantCounters {
    ParticipantCounters {
        room: room.name.clone(),
        name: participant.name.clone(),
        lost_frames: participant.ear().lost_frames(),
        underruns: participant.jitter().counters().underruns,
        talked_ms: participant.talked_ticks() * FRAME_MS,
    }
}
