//! The file `levels` of a room: who is talking and how loud, at most five times a second; who begins or ends to talk is in it
//! sooner.

use std::time::Duration;

use palabre_room::{LevelLine, RoomDir};

use crate::context::{Complaint, Context};

const PERIOD: Duration = Duration::from_millis(200);
/// The shortest time between two writes, when somebody begins or ends to talk.
const HURRY: Duration = Duration::from_millis(40);

/// When `levels` was written, and what.
#[derive(Debug)]
pub struct Levels {
    written_at: Option<Duration>,
    /// `None` while nobody knows what the file says.
    written: Option<Vec<LevelLine>>,
    wanted: bool,
    hurried: bool,
    complaint: Complaint,
}

impl Levels {
    /// For the room `dir`; what an earlier mixer left there is replaced.
    pub fn new(dir: &RoomDir) -> Self {
        let stale = dir.path().join("levels").exists();
        let written = (!stale).then(Vec::new);
        Self { written_at: None, written, wanted: stale, hurried: false, complaint: Complaint::default() }
    }

    /// Asks for the file to be written as soon as it may be.
    pub fn request(&mut self) {
        self.wanted = true;
    }

    /// The same, for news that people watch for: somebody began or ended to talk.
    pub fn hurry(&mut self) {
        self.wanted = true;
        self.hurried = true;
    }

    /// When it must be written, if it must.
    pub fn deadline(&self) -> Option<Duration> {
        let period = if self.hurried { HURRY } else { PERIOD };
        self.wanted.then(|| self.written_at.map_or(Duration::ZERO, |at| at + period))
    }

    /// Writes the file if it is wanted, due, and would say something else than it does.
    pub fn write(&mut self, cx: &mut Context, dir: &RoomDir, lines: impl FnOnce() -> Vec<LevelLine>) {
        let now = cx.now.since_boot;
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        (self.wanted, self.hurried) = (false, false);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_begins_to_talk_is_written_sooner_than_a_level() {
        let mut levels = Levels::new(&RoomDir::new("/nonexistent"));
        assert_eq!(levels.deadline(), None);
        levels.request();
        assert_eq!(levels.deadline(), Some(Duration::ZERO));
        levels.written_at = Some(Duration::from_secs(1));
        assert_eq!(levels.deadline(), Some(Duration::from_millis(1200)));
        levels.hurry();
        assert_eq!(levels.deadline(), Some(Duration::from_millis(1040)));
    }
}
