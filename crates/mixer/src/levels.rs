//! The file `levels` of a room: who is talking and how loud.

use std::time::Duration;

use palabre_room::{LevelLine, RoomDir};

use crate::context::{Context, LastWarning};

/// Minimum interval between two writes of `levels`.
const INTERVAL: Duration = Duration::from_millis(200);
/// Minimum interval between two writes of `levels` when a participant starts or stops talking.
const URGENT_INTERVAL: Duration = Duration::from_millis(40);
/// Interval after which a failed write of `levels` is repeated.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A room's file `levels`, and when to write it next.
#[derive(Debug)]
pub(crate) struct LevelsFile {
    /// Time of the last attempt to write the file.
    tried_at: Option<Duration>,
    /// Content of the file; `None` if the content is unknown.
    written: Option<Vec<LevelLine>>,
    /// If a write is requested: minimum interval between the last write and this one.
    requested: Option<Duration>,
    last_warning: LastWarning,
}

impl LevelsFile {
    /// Creates the state for the file `levels` in the room `dir`. The first write replaces a file that a previous mixer left.
    pub(crate) fn new(dir: &RoomDir) -> Self {
        let is_stale = dir.path().join("levels").exists();
        let written = (!is_stale).then(Vec::new);
        let requested = is_stale.then_some(INTERVAL);
        Self { tried_at: None, written, requested, last_warning: LastWarning::default() }
    }

    /// Requests a write of the file.
    pub(crate) fn request(&mut self) {
        self.requested.get_or_insert(INTERVAL);
    }

    /// Requests an urgent write: a participant has started or stopped talking.
    pub(crate) fn request_urgently(&mut self) {
        self.requested = Some(URGENT_INTERVAL);
    }

    /// Returns the earliest time for the requested write, or `None` if no write is requested.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.requested.map(|interval| self.tried_at.map_or(Duration::ZERO, |at| at + interval))
    }

    /// Writes the file if a write is due and the lines differ from its content. A failed write is repeated.
    pub(crate) fn write(&mut self, cx: &mut Context, dir: &RoomDir, lines: impl FnOnce() -> Vec<LevelLine>) {
        let now = cx.now.since_boot;
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.requested = None;
        let lines = lines();
        if self.written.as_ref() == Some(&lines) {
            return;
        }
        self.tried_at = Some(now);
        match dir.write_levels(&lines) {
            Ok(()) => {
                self.written = Some(lines);
                self.last_warning.clear();
            }
            Err(error) => {
                (self.written, self.requested) = (None, Some(RETRY_INTERVAL));
                cx.warn_if_new(&mut self.last_warning, format!("{error}; pages don't show who is talking"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_of_talk_is_written_sooner_than_a_level() {
        let mut levels = LevelsFile::new(&RoomDir::new("/nonexistent"));
        assert_eq!(levels.deadline(), None);
        levels.request();
        assert_eq!(levels.deadline(), Some(Duration::ZERO));
        levels.tried_at = Some(Duration::from_secs(1));
        assert_eq!(levels.deadline(), Some(Duration::from_millis(1200)));
        levels.request_urgently();
        levels.request();
        assert_eq!(levels.deadline(), Some(Duration::from_millis(1040)));
    }
}
