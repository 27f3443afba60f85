//! The file `levels` of a room: who is talking and how loud.

use std::time::Duration;

use palabre_room::{LevelLine, RoomDir};

use crate::context::{Context, LastWarning};

/// Minimum interval between two writes.
const INTERVAL: Duration = Duration::from_millis(200);
/// Minimum interval between two writes when a participant starts or stops talking.
const URGENT_INTERVAL: Duration = Duration::from_millis(40);
/// Interval after which a failed write is repeated.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Decides when `levels` is written.
#[derive(Debug)]
pub(crate) struct LevelsFile {
    /// When a write was last tried.
    tried_at: Option<Duration>,
    /// Content of the file, `None` if it is not known.
    written: Option<Vec<LevelLine>>,
    /// Minimum interval since the last write, if another one is requested.
    requested: Option<Duration>,
    last_warning: LastWarning,
}

impl LevelsFile {
    /// For the room `dir`. A file of a previous mixer will be replaced.
    pub(crate) fn new(dir: &RoomDir) -> Self {
        let is_stale = dir.path().join("levels").exists();
        let written = (!is_stale).then(Vec::new);
        let requested = is_stale.then_some(INTERVAL);
        Self { tried_at: None, written, requested, last_warning: LastWarning::default() }
    }

    /// Requests a write.
    pub(crate) fn request(&mut self) {
        self.requested.get_or_insert(INTERVAL);
    }

    /// Requests an urgent write: a participant has started or stopped talking.
    pub(crate) fn request_urgently(&mut self) {
        self.requested = Some(URGENT_INTERVAL);
    }

    /// Returns when a requested write is due.
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
