//! The file `recordings.json` in the runtime directory, with the present recordings. The next supervisor continues them, also after a crash.
//! A reboot empties the runtime directory and ends all recordings.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use palabre_host::clock;

use crate::saved::SavedRecording;

/// Maximum length of the file. A recording takes less than 1 KiB.
const MAX_BYTES: u64 = 4 << 20;

/// The file, and its content at the last write.
#[derive(Debug)]
pub(super) struct Stored {
    path: PathBuf,
    content: Vec<u8>,
}

impl Stored {
    /// Opens the file in the runtime directory `run`.
    pub(super) fn new(run: &Path) -> Self {
        Self { path: run.join("recordings.json"), content: Vec::new() }
    }

    /// Reads the recordings of an earlier supervisor. Times in the file count from the boot, so a start in the future is from before a reboot:
    /// ignores such a recording.
    pub(super) fn load(&self) -> Vec<SavedRecording> {
        let unable = |error: &dyn std::fmt::Display| {
            log::warn!("unable to read '{}': {error}; start the recordings again", self.path.display());
            Vec::new()
        };
        let mut text = Vec::new();
        match fs::File::open(&self.path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => return unable(&error),
            Ok(_) => {}
        }
        let now_ms = clock::monotonic().as_millis();
        match serde_json::from_slice::<Vec<SavedRecording>>(&text) {
            Ok(saved) => saved.into_iter().filter(|saved| u128::from(saved.began_ms) <= now_ms).collect(),
            Err(error) => unable(&error),
        }
    }

    /// Writes the recordings into the file if they have changed. Doesn't repeat a failed write before the next change.
    pub(super) fn store(&mut self, recordings: impl Iterator<Item = SavedRecording>) {
        // The next supervisor starts the recorders again, so their state isn't stored.
        let lasting = |saved| SavedRecording { pid: None, is_ready: false, note: None, ..saved };
        let Ok(content) = serde_json::to_vec(&recordings.map(lasting).collect::<Vec<_>>()) else { return };
        if content == self.content {
            return;
        }
        if let Err(error) = palabre_room::replace_file(&self.path, &content, 0o600) {
            let path = self.path.display();
            log::error!(
                "unable to write '{path}': {error}; recordings don't continue after the supervisor ends or crashes"
            );
            // Remove the file after a failed write: then no recording continues. With the old content, the next supervisor would continue stopped
            // recordings.
            let _ = fs::remove_file(&self.path);
        }
        self.content = content;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn saved(room: &str, began_ms: u64) -> SavedRecording {
        let (directory, note) = (format!("/r/{room}"), Some("speakers=1".into()));
        let room = room.to_owned();
        SavedRecording { room, directory, began_ms, pid: Some(1), is_ready: true, restarts: 2, note, failed: None }
    }

    #[test]
    fn recordings_are_read_as_written_except_those_from_before_a_reboot() {
        let dir = tempfile::tempdir().unwrap();
        let mut stored = Stored::new(dir.path());
        assert!(stored.load().is_empty());
        stored.store([saved("main", 1), saved("other", u64::MAX)].into_iter());
        let read = stored.load();
        let [main] = &read[..] else { panic!("{read:?}") };
        assert_eq!((main.room.as_str(), main.restarts, main.pid, &main.note), ("main", 2, None, &None));
        fs::write(dir.path().join("recordings.json"), "[{").unwrap();
        assert!(stored.load().is_empty());
    }

    #[test]
    fn stopped_recording_does_not_continue_after_a_failed_write() {
        let dir = tempfile::tempdir().unwrap();
        let mut stored = Stored::new(dir.path());
        stored.store([saved("main", 1)].into_iter());
        assert_eq!(stored.load().len(), 1);
        // A directory in the place of the temporary file makes the write fail.
        fs::create_dir(dir.path().join(format!(".recordings.json.{}", std::process::id()))).unwrap();
        stored.store(std::iter::empty());
        assert!(stored.load().is_empty());
    }
}
