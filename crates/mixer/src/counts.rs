//! What is counted, for those who watch over the mixer: written beside the rooms every few seconds while sound flows.

use std::path::PathBuf;
use std::time::Duration;

use palabre_room::{FRAME_MS, Losses, MixerReport};

use crate::context::{Complaint, Context};
use crate::rooms::Rooms;

/// So often while sound flows,
const PERIOD: Duration = Duration::from_secs(5);
/// and when the last voice ends, if the last time is so long ago.
const PERIOD_AT_THE_END: Duration = Duration::from_secs(1);

/// The counters, and when they were written.
#[derive(Debug)]
pub struct Counts {
    rooms: PathBuf,
    report: MixerReport,
    written_at: Option<Duration>,
    complaint: Complaint,
}

impl Counts {
    /// Nothing has been counted; `rooms` is the directory of the rooms.
    pub fn new(rooms: PathBuf) -> Self {
        Self { rooms, report: MixerReport::default(), written_at: None, complaint: Complaint::default() }
    }

    /// A tick was handled by so much too late.
    pub fn tick(&mut self, late: Duration) {
        self.report.tick(u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
    }

    /// How many ticks there were.
    pub fn ticks(&self) -> u64 {
        self.report.ticks
    }

    /// Writes what was counted, if it is time; `ends`: nobody's sound flows any more.
    pub fn write(&mut self, cx: &mut Context, rooms: &Rooms, skipped: u64, ends: bool) {
        let now = cx.now.since_boot;
        let period = if ends { PERIOD_AT_THE_END } else { PERIOD };
        if self.written_at.is_some_and(|at| now < at + period) {
            return;
        }
        self.written_at = Some(now);
        self.report.skipped = skipped;
        self.report.participants = losses(rooms);
        match self.report.write(&self.rooms) {
            Ok(()) => {
                self.complaint.clear();
            }
            Err(error) => self.complaint.say(cx, format!("{error}; 'palabre status' doesn't show what is lost")),
        }
    }
}

fn losses(rooms: &Rooms) -> Vec<Losses> {
    let of_room = |room: &crate::room::Room| {
        let of = |participant: &crate::participant::Participant| Losses {
            room: room.name.clone(),
            name: participant.name.clone(),
            lost_frames: participant.ear().lost_frames(),
            underruns: participant.jitter().counters().underruns,
            talked_ms: participant.talked_ticks() * FRAME_MS,
        };
        room.participants().map(of).collect::<Vec<_>>()
    };
    let mut losses: Vec<Losses> = rooms.iter().flat_map(of_room).collect();
    losses.sort_by(|a, b| (&a.room, &a.name).cmp(&(&b.room, &b.name)));
    losses
}
