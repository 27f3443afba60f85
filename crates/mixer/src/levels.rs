//! The file `levels` of a room: who is talking and how loud, at most five times a second.

use std::time::Duration;

use palabre_room::{LevelLine, RoomDir};

use crate::context::{Complaint, Context};

const PERIOD: Duration = Duration::from_millis(200);

/// When `levels` was written, and what.
#[derive(Debug)]
pub struct Levels {
    written_at: Option<Duration>,
    /// `None` while nobody knows what the file says.
    written: Option<Vec<LevelLine>>,
    wanted: bool,
    complaint: Complaint,
}

impl Levels {
    /// For the room `dir`; what an earlier mixer left there is replaced.
    pub fn new(dir: &RoomDir) -> Self {
        let stale = dir.path().join("levels").exists();
        let written = (!stale).then(Vec::new);
        Self { written_at: None, written, wanted: stale, complaint: Complaint::default() }
    }

    /// Asks for the file to be written as soon as it may be.
    pub fn request(&mut self) {
        self.wanted = true;
    }

    /// When it must be written, if it must.
    pub fn deadline(&self) -> Option<Duration> {
        self.wanted.then(|| self.written_at.map_or(Duration::ZERO, |at| at + PERIOD))
    }

    /// Writes the file if it is wanted, due, and would say something else than it does.
    pub fn write(&mut self, cx: &mut Context, dir: &RoomDir, lines: impl FnOnce() -> Vec<LevelLine>) {
        let now = cx.now.since_boot;
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.wanted = false;
        let lines = lines();
        if self.written.as_ref() == Some(&lines) {
            return;
        }
        self.written_at = Some(now);
        match dir.write_levels(&lines) {
            Ok(()) => {
                self.complaint.clear();
            }
            Err(error) => self.complaint.say(cx, format!("{error}; the pages don't show who is talking")),
        }
        self.written = Some(lines);
    }
}
