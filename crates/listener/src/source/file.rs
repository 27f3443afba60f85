//! Streams a WAV file to which another program appends samples. Playback starts near the end of the file and runs in real time.
//!
//! The file is read once per chunk, at least every 40 ms; inotify isn't used because its instances are limited. Each read returns at
//! most 40 ms of samples, even for longer chunks, because the chunker drops samples if it gets many at a time. The sizes in the header
//! are ignored, since the file grows. If the file was replaced, the new file is opened; if it was truncated, its header is read again.
//! If the file is then short, it is played from its beginning.

use palabre_host::log_limit::LastWarning;
use palabre_room::Format;
use palabre_sound::wav::{Tail, WavError};
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Interval between two reads, and the maximum length of sound returned by each.
const PERIOD_MS: u64 = 40;
/// Maximum length of the samples that wait to be played, in ms. If more are waiting, only the newest half of this length is kept. A
/// program may write a second of sound at a time.
const MAX_BACKLOG_MS: u64 = 2000;
/// Maximum length of the samples in a replaced or truncated file that is played from its beginning, in ms.
const MAX_NEW_MS: u64 = 1000;
/// Maximum delay of a read that later reads make up for by shorter intervals. After a longer delay the schedule starts again.
const MAX_DELAY: Duration = Duration::from_millis(300);

/// A growing WAV file as the source of sound.
pub(crate) struct FileSource {
    path: PathBuf,
    format: Format,
    chunk_ms: u64,
    period: Duration,
    period_samples: usize,
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
    /// Creates a source for the file at `path`, which need not exist yet. Samples are converted to the rate of `format`.
    pub(super) fn new(path: PathBuf, format: Format, chunk_ms: u64) -> Self {
        Self {
            path,
            format,
            chunk_ms,
            period: Duration::from_millis(chunk_ms.min(PERIOD_MS)),
            period_samples: format.samples_in_ms(chunk_ms.min(PERIOD_MS)),
            due: Instant::now(),
            open: None,
            was_open: false,
            backlog: Vec::new(),
            last_warning: LastWarning::default(),
        }
    }

    /// See [`super::Source::due`].
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// See [`super::Source::read`].
    pub(super) fn read(&mut self, now: Instant, out: &mut Vec<i16>) {
        if now < self.due {
            return;
        }
        self.due += self.period;
        if self.due + MAX_DELAY < now {
            self.due = now + self.period;
        }
        let before = self.backlog.len();
        self.look();
        let grew = self.backlog.len() > before;
        self.limit_backlog();
        // While the file grows, fewer samples than one period stay in the backlog until a later read.
        if self.backlog.len() >= self.period_samples || !grew {
            let count = self.backlog.len().min(self.period_samples);
            out.extend(self.backlog.drain(..count));
        }
    }

    fn look(&mut self) {
        match self.read_more() {
            Ok(()) => {
                self.last_warning.clear();
            }
            // Reading is tried again, because the file may be repaired or replaced.
            Err(error) => {
                if let Some(error) = self.last_warning.unless_repeated(error.to_string()) {
                    let path = self.path.display();
                    log::warn!(
                        "unable to read '{path}': {error}; streams are silent until the sound source can be read"
                    );
                }
            }
        }
    }

    /// Reads the samples that were appended. If the file was replaced, opens and reads the new file.
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
            let is_new = self.was_open && tail.waiting() <= self.format.samples_in_ms(MAX_NEW_MS) as u64;
            if !is_new {
                tail.keep_newest(file, self.format.samples_in_ms(self.chunk_ms) as u64)?;
            }
            self.was_open = true;
        }
        tail.keep_newest(file, self.format.samples_in_ms(MAX_BACKLOG_MS) as u64)?;
        tail.read(file, self.format.samples_in_ms(MAX_BACKLOG_MS), &mut self.backlog)?;
        Ok(())
    }

    fn limit_backlog(&mut self) {
        let max = self.format.samples_in_ms(MAX_BACKLOG_MS);
        if self.backlog.len() > max {
            let kept = max / 2;
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

    /// Reads from the source until `count` samples have arrived. Returns them.
    fn hear(source: &mut FileSource, count: usize) -> Vec<i16> {
        let mut out = Vec::new();
        let end = Instant::now() + Duration::from_secs(10);
        while out.len() < count && Instant::now() < end {
            std::thread::sleep(source.due().saturating_duration_since(Instant::now()));
            source.read(Instant::now(), &mut out);
        }
        out
    }

    #[test]
    fn growing_file_is_played_from_its_end() {
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
    fn replaced_or_truncated_file_is_played_from_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dat.wav");
        let mut source = FileSource::new(path.clone(), Format::default(), 20);
        let mut none = Vec::new();
        source.read(Instant::now(), &mut none);
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
    fn file_at_another_rate_is_converted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dat.wav");
        std::fs::write(&path, [wav::endless_head(48000), bytes(&[0; 9600])].concat()).unwrap();
        let mut source = FileSource::new(path, Format::default(), 100);
        // The source starts 100 ms before the end of the file. At 24 kHz, these are 2400 samples, of which the resampler holds back a few.
        assert!(hear(&mut source, 2000).len() >= 2000);
    }
}
