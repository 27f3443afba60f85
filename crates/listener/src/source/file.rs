//! A WAV file that another program writes and that grows: heard from its live edge, at the pace of real time.
//!
//! The file is looked at every 40 ms (listeners never use inotify, whose instances are scarce) and heard in pieces of that
//! length, whatever the length of a chunk: more at once would be taken for sound that has waited too long. The sizes in its head
//! are not believed. When it is replaced or truncated it is followed: a short one is heard from its beginning.

use palabre_host::log_limit::LastWarning;
use palabre_room::Format;
use palabre_sound::wav::{Tail, WavError};
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The longest piece that is given at once.
const PIECE_MS: u64 = 40;
/// More than this behind, the newest half of it is kept: a writer may well write a second at a time.
const MOST_BEHIND_MS: u64 = 2000;
/// A replacement of this length or shorter has just begun and is heard from its beginning.
const FRESH_MS: u64 = 1000;

/// The file, if it is there, and the clock by which it is heard.
pub struct FileSource {
    path: PathBuf,
    format: Format,
    chunk_ms: u64,
    piece: Duration,
    piece_samples: usize,
    due: Instant,
    open: Option<Open>,
    was_open: bool,
    backlog: Vec<i16>,
    last_warning: LastWarning,
}

struct Open {
    file: File,
    id: (u64, u64),
    tail: Tail,
}

impl std::fmt::Debug for FileSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSource").field("path", &self.path).finish_non_exhaustive()
    }
}

impl FileSource {
    /// The file at `path`, which need not exist yet, heard in the rate of `format`.
    pub fn new(path: PathBuf, format: Format, chunk_ms: u64) -> Self {
        Self {
            path,
            format,
            chunk_ms,
            piece: Duration::from_millis(chunk_ms.min(PIECE_MS)),
            piece_samples: format.samples_in_ms(chunk_ms.min(PIECE_MS)),
            due: Instant::now(),
            open: None,
            was_open: false,
            backlog: Vec::new(),
            last_warning: LastWarning::default(),
        }
    }

    /// See [`super::Source::read`].
    pub fn read(&mut self, until: Instant, out: &mut Vec<i16>) {
        let now = Instant::now();
        std::thread::sleep(self.due.min(until).saturating_duration_since(now));
        let now = Instant::now();
        if now < self.due {
            return;
        }
        self.due += self.piece;
        if self.due + Duration::from_millis(300) < now {
            self.due = now + self.piece;
        }
        let before = self.backlog.len();
        self.look();
        let grew = self.backlog.len() > before;
        self.forget_the_stale();
        // What is shorter than a piece waits for its rest as long as the file grows.
        if self.backlog.len() >= self.piece_samples || !grew {
            let count = self.backlog.len().min(self.piece_samples);
            out.extend(self.backlog.drain(..count));
        }
    }

    fn look(&mut self) {
        match self.read_more() {
            Ok(()) => {
                self.last_warning.clear();
            }
            // The file may be moved away, and another one take its place.
            Err(error) => {
                if let Some(error) = self.last_warning.unless_repeated(error.to_string()) {
                    let path = self.path.display();
                    log::warn!("unable to hear '{path}': {error}; the streams are silent until it is there");
                }
            }
        }
    }

    /// Reads what the file has grown by, or what another file in its place holds.
    fn read_more(&mut self) -> Result<(), WavError> {
        let meta = std::fs::metadata(&self.path)?;
        if self.open.as_ref().is_none_or(|open| open.id != id(&meta)) {
            self.open = None;
            if !meta.is_file() {
                return Err(WavError::NotWav);
            }
            let (file, tail) = (File::open(&self.path)?, Tail::new(self.format.rate.hz()));
            self.open = Some(Open { id: id(&file.metadata()?), file, tail });
        }
        let Some(Open { file, tail, .. }) = &mut self.open else { return Ok(()) };
        if tail.update(file)? {
            let is_fresh = self.was_open && tail.waiting() <= self.format.samples_in_ms(FRESH_MS) as u64;
            if !is_fresh {
                tail.keep_newest(file, self.format.samples_in_ms(self.chunk_ms) as u64)?;
            }
            self.was_open = true;
        }
        tail.keep_newest(file, self.format.samples_in_ms(MOST_BEHIND_MS) as u64)?;
        tail.read(file, self.format.samples_in_ms(MOST_BEHIND_MS), &mut self.backlog)?;
        Ok(())
    }

    fn forget_the_stale(&mut self) {
        let most = self.format.samples_in_ms(MOST_BEHIND_MS);
        if self.backlog.len() > most {
            let kept = most / 2;
            self.backlog.drain(..self.backlog.len() - kept);
        }
    }
}

fn id(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_sound::wav;
    use std::io::Write as _;

    fn head() -> Vec<u8> {
        wav::endless_head(24000)
    }

    fn bytes(samples: &[i16]) -> Vec<u8> {
        samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
    }

    /// Looks as often as it takes until `count` samples were heard.
    fn hear(source: &mut FileSource, count: usize) -> Vec<i16> {
        let mut out = Vec::new();
        let end = Instant::now() + Duration::from_secs(10);
        while out.len() < count && Instant::now() < end {
            source.read(Instant::now() + Duration::from_millis(20), &mut out);
        }
        out
    }

    #[test]
    fn a_growing_file_is_heard_from_its_live_edge() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dat.wav");
        let old: Vec<i16> = (0..24000).map(|i| i as i16).collect();
        std::fs::write(&path, [head(), bytes(&old)].concat()).unwrap();
        let mut source = FileSource::new(path.clone(), Format::default(), 20);
        assert_eq!(hear(&mut source, 480), old[old.len() - 480..]);
        let new: Vec<i16> = (0..960).map(|i| -i as i16).collect();
        File::options().append(true).open(&path).unwrap().write_all(&bytes(&new)).unwrap();
        assert_eq!(hear(&mut source, 960), new);
    }

    #[test]
    fn a_file_that_is_replaced_or_truncated_is_followed_from_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dat.wav");
        let mut source = FileSource::new(path.clone(), Format::default(), 20);
        let mut none = Vec::new();
        source.read(Instant::now() + Duration::from_millis(30), &mut none);
        assert!(none.is_empty());
        std::fs::write(&path, [head(), bytes(&[1; 480])].concat()).unwrap();
        assert_eq!(hear(&mut source, 480), [1; 480]);

        let next = dir.path().join("next.wav");
        std::fs::write(&next, [head(), bytes(&[2; 960])].concat()).unwrap();
        std::fs::rename(&next, &path).unwrap();
        assert_eq!(hear(&mut source, 960), [2; 960]);

        std::fs::write(&path, [head(), bytes(&[3; 480])].concat()).unwrap();
        assert_eq!(hear(&mut source, 480), [3; 480]);
    }

    #[test]
    fn a_file_at_another_rate_is_converted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dat.wav");
        std::fs::write(&path, [wav::endless_head(48000), bytes(&[0; 9600])].concat()).unwrap();
        let mut source = FileSource::new(path, Format::default(), 100);
        // 100 ms at the edge, less what the resampler keeps.
        assert!(hear(&mut source, 2000).len() >= 2000);
    }
}
