//! A `mic` that is a file: a WAV that another program is writing, and that the mixer reads in real time.
//!
//! Programs write in bursts that may be seconds apart, so samples are taken from the file in real time.

use std::path::Path;
use std::time::{Duration, SystemTime};

use palabre_room::{FileId, Format, OpenError, RegularFile};
use palabre_sound::wav::{Tail, WavError};

/// Maximum duration of the samples that wait in the file. If more samples wait, all but the newest are skipped.
const LAG_MAX: Duration = Duration::from_secs(5);
/// Duration of the newest samples that are kept when waiting samples are skipped, in ms.
const NEWEST_MS: u64 = 1_000;
/// Number of ticks in each of which samples must have waited before they count as a surplus. A surplus is read at once; the jitter
/// buffer then shortens it where that is inaudible.
const SURPLUS_TICKS: u32 = 250;
/// Maximum number of frames of a surplus that are read at once.
const SURPLUS_FRAMES: usize = 10;
/// Maximum number of frames that are read at once, without a surplus. More than one is possible after the file had too few samples for a tick.
const BURST_FRAMES: usize = 2;

/// Reads a WAV that another program is writing, and converts the samples to the room's rate.
#[derive(Debug)]
pub(crate) struct MicFile {
    file: RegularFile,
    tail: Tail,
    format: Format,
    /// Whether the samples that the file has at the first read are played. False if no program wrote to the file in the [`LAG_MAX`]
    /// before the mixer opened it: then these samples are old and are skipped.
    is_fresh: bool,
    /// Number of samples that may be read before the next tick.
    budget: usize,
    is_behind: bool,
    /// Lowest number of waiting samples since the last check for a surplus.
    lowest: u64,
    ticks: u32,
}

impl MicFile {
    /// Opens the file at `path`. If no program has written to it for [`LAG_MAX`], the samples that it already has will be skipped.
    pub(crate) fn open(path: &Path, format: Format) -> Result<Self, OpenError> {
        let file = RegularFile::open_to_read(path)?;
        let written = file.file().metadata().and_then(|metadata| metadata.modified());
        let written = written.map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        // A modification time in the future means that the clock was set back. Then the file counts as just written.
        let is_fresh = SystemTime::now().duration_since(written).map_or(true, |age| age < LAG_MAX);
        Ok(Self {
            file,
            tail: Tail::new(format.rate.hz()),
            format,
            is_fresh,
            budget: BURST_FRAMES * format.frame_samples(),
            // The file may have samples, since it was not read yet.
            is_behind: true,
            lowest: u64::MAX,
            ticks: 0,
        })
    }

    /// Returns the device and inode number of the file.
    pub(crate) fn id(&self) -> FileId {
        self.file.id()
    }

    /// Returns whether the file has samples that wait for the next tick.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Increases the read budget by one frame, and every [`SURPLUS_TICKS`] also by a surplus. Call it once per tick.
    pub(crate) fn refill(&mut self) {
        let frame = self.format.frame_samples();
        self.budget = (self.budget + frame).min(BURST_FRAMES * frame);
        self.lowest = self.lowest.min(self.tail.waiting());
        self.ticks += 1;
        if self.ticks == SURPLUS_TICKS {
            if self.lowest > (BURST_FRAMES * frame) as u64 {
                let surplus = usize::try_from(self.lowest).unwrap_or(usize::MAX);
                self.budget += surplus.min(SURPLUS_FRAMES * frame);
            }
            (self.lowest, self.ticks) = (u64::MAX, 0);
        }
    }

    /// Appends to `out` the samples that may be read now. Returns an error only once for the same invalid content.
    pub(crate) fn read(&mut self, out: &mut Vec<i16>) -> Result<(), WavError> {
        // Valid if reading fails below: then the file counts as one without samples until a program writes to it again.
        self.is_behind = false;
        let file = self.file.file();
        if self.tail.update(file)? {
            if !self.is_fresh {
                self.tail.keep_newest(file, 0)?;
            }
            // If a program replaces the content of the file, the new content is played from its start.
            self.is_fresh = true;
        }
        if self.tail.waiting() > self.format.samples_in_ms(LAG_MAX.as_millis() as u64) as u64 {
            self.tail.keep_newest(file, self.format.samples_in_ms(NEWEST_MS) as u64)?;
        }
        self.budget -= self.tail.read(file, self.budget, out)?.min(self.budget);
        self.is_behind = self.tail.waiting() > 0;
        Ok(())
    }

    /// Appends the last samples of the rate conversion. Call it when no more samples will be read.
    pub(crate) fn finish(&mut self, out: &mut Vec<i16>) {
        self.tail.finish(out);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_sound::wav;
    use palabre_sound::wav_examples::wavs;
    use std::fs::{File, FileTimes, OpenOptions};
    use std::io::Write;
    use std::path::PathBuf;

    struct Writer {
        _dir: tempfile::TempDir,
        path: PathBuf,
    }

    impl Writer {
        fn new(bytes: &[u8]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("mic");
            std::fs::write(&path, bytes).unwrap();
            Self { _dir: dir, path }
        }

        fn append(&self, samples: &[i16]) {
            let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            OpenOptions::new().append(true).open(&self.path).unwrap().write_all(&bytes).unwrap();
        }

        fn open(&self) -> MicFile {
            MicFile::open(&self.path, Format::default()).unwrap()
        }
    }

    /// Reads `mic` during a number of ticks, and returns the samples.
    fn read(mic: &mut MicFile, ticks: usize) -> Vec<i16> {
        let mut out = Vec::new();
        for _ in 0..ticks {
            mic.read(&mut out).unwrap();
            mic.refill();
        }
        out
    }

    fn ramp(samples: usize) -> Vec<i16> {
        (0..samples).map(|i| (i % 30_000) as i16).collect()
    }

    #[test]
    fn bursts_are_read_in_real_time_and_completely() {
        let writer = Writer::new(&wav::little(24_000, &ramp(4_900)));
        let mut mic = writer.open();
        assert_eq!(read(&mut mic, 1).len(), 960);
        assert!(mic.is_behind());
        assert_eq!(read(&mut mic, 10), ramp(4_900)[960..]);
        assert!(!mic.is_behind());
    }

    #[test]
    fn only_samples_are_read_whatever_chunks_the_file_has() {
        for (order, bytes) in wavs(24_000, &ramp(1_000)) {
            let writer = Writer::new(&bytes);
            assert!(read(&mut writer.open(), 5) == ramp(1_000), "{order}");
        }
    }

    #[test]
    fn samples_written_long_ago_are_skipped() {
        let writer = Writer::new(&wav::little(24_000, &ramp(1_000)));
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        let file = File::options().write(true).open(&writer.path).unwrap();
        file.set_times(FileTimes::new().set_modified(long_ago)).unwrap();
        let mut mic = writer.open();
        assert!(read(&mut mic, 3).is_empty());
        writer.append(&[7, 8, 9]);
        assert_eq!(read(&mut mic, 1), [7, 8, 9]);
        std::fs::write(&writer.path, wav::little(24_000, &[5; 500])).unwrap();
        assert_eq!(read(&mut mic, 1), [5; 500], "a file written again is heard from its beginning");
    }

    #[test]
    fn reading_far_behind_continues_with_the_newest_samples() {
        let writer = Writer::new(&wav::little(24_000, &ramp(10 * 24_000)));
        let out = read(&mut writer.open(), 60);
        assert_eq!(out, ramp(10 * 24_000)[9 * 24_000..]);
    }

    #[test]
    fn a_persistent_surplus_is_read() {
        let writer = Writer::new(&wav::little(24_000, &ramp(2 * 24_000)));
        let mut mic = writer.open();
        for tick in 0..600 {
            // The program writes one frame in each tick, so fewer samples wait only if the mixer reads the surplus.
            writer.append(&[5; 480]);
            let out = read(&mut mic, 1);
            assert!(out.len() <= 12 * 480, "{tick}");
        }
        assert!(mic.tail.waiting() < 2 * 24_000 - 15 * 480, "{}", mic.tail.waiting());
    }
}
