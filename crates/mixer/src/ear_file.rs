//! An `ear` that is a file: a WAV that is valid at every time, and whose duration grows with the time, also while the room is idle.
//!
//! The time of a frame gives its position in the file, so the file has silence where the room was idle.

use std::io;
use std::time::Duration;

use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use palabre_room::{Format, RegularFile};
use palabre_sound::wav::GrowingWav;

/// Interval between updates of the WAV header. While the room is idle, the file is also extended with silence at this interval.
const UPDATE_INTERVAL: Duration = Duration::from_secs(1);
/// Interval between checks of the free space while frames are written.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum lateness of a frame. The newest part of the file, of this duration, is not filled with silence, since a frame may still come.
const LATE_MAX: Duration = Duration::from_millis(200);
/// Minimum free space of the file system, in bytes. The mixer stops writing below it, to leave space for files such as `levels`. In a file
/// system in memory, which the whole machine uses, half of the space remains free.
const FREE_BYTES_MIN: u64 = 16 << 20;

/// A WAV file being recorded. The mixer's ticks give the position of each sample.
#[derive(Debug)]
pub(crate) struct EarFile {
    wav: GrowingWav,
    rate_hz: u32,
    /// Time at which the file was opened: the time of the sample at position `first`.
    began: Duration,
    /// Number of samples that the file had when it was opened.
    first: u64,
    update_at: Duration,
    check_at: Duration,
}

impl EarFile {
    /// Appends to `file` from time `now` on. Fails if `file` is neither empty nor a WAV in the room's format.
    pub(crate) fn open(file: RegularFile, format: Format, now: Duration) -> io::Result<Self> {
        let rate_hz = format.rate.hz();
        let wav = GrowingWav::open(file.into_file(), rate_hz)?;
        Ok(Self { first: wav.samples(), wav, rate_hz, began: now, update_at: now + UPDATE_INTERVAL, check_at: now })
    }

    /// Returns the time at which to call [`Self::update`].
    pub(crate) fn deadline(&self) -> Duration {
        self.update_at
    }

    /// Writes a frame into the `ear` file at the position of its time `at` (since boot), or at the end of the file if that is later.
    pub(crate) fn write(&mut self, frame: &[i16], at: Duration) -> io::Result<()> {
        if at >= self.check_at {
            self.check_free_space()?;
            self.check_at = at + CHECK_INTERVAL;
        }
        self.wav.write(self.wav.samples().max(self.position(at)), frame)?;
        if at < self.update_at { Ok(()) } else { self.update_head(at) }
    }

    /// Extends the file with silence to almost the time `now`, and updates the header, if an update is due.
    pub(crate) fn update(&mut self, now: Duration) -> io::Result<()> {
        if now < self.update_at {
            return Ok(());
        }
        self.wav.extend_to(self.position(now.saturating_sub(LATE_MAX)))?;
        self.update_head(now)
    }

    /// Updates the WAV header, and closes the file.
    pub(crate) fn close(mut self) -> io::Result<()> {
        self.wav.update_head()
    }

    fn update_head(&mut self, now: Duration) -> io::Result<()> {
        self.update_at = now + UPDATE_INTERVAL;
        self.wav.update_head()
    }

    fn check_free_space(&self) -> io::Result<()> {
        let file_system = fstatfs(self.wav.file())?;
        let block_bytes = u64::try_from(file_system.block_size()).unwrap_or_default();
        let (memory_min, remedy) = match file_system.filesystem_type() {
            TMPFS_MAGIC => (
                file_system.blocks() * block_bytes / 2,
                "; this file system is in memory: put the file with the sound on a disk",
            ),
            _ => (0, ""),
        };
        let bytes_min = memory_min.max(FREE_BYTES_MIN);
        if file_system.blocks_available() * block_bytes >= bytes_min {
            return Ok(());
        }
        let what =
            format!("less than {} MiB are free in the file system of the file with the sound{remedy}", bytes_min >> 20);
        Err(io::Error::new(io::ErrorKind::StorageFull, what))
    }

    /// Returns the position of the sample at time `at`.
    fn position(&self, at: Duration) -> u64 {
        let samples = at.saturating_sub(self.began).as_nanos() * u128::from(self.rate_hz) / 1_000_000_000;
        self.first + u64::try_from(samples).unwrap_or(u64::from(u32::MAX))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_sound::wav;
    use std::path::{Path, PathBuf};

    const RATE_HZ: u32 = 24_000;

    fn empty() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ear");
        std::fs::write(&path, "").unwrap();
        (dir, path)
    }

    fn open(path: &Path, now: Duration) -> EarFile {
        EarFile::open(RegularFile::open_to_write(path).unwrap(), Format::default(), now).unwrap()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Returns the samples of a WAV, and checks that the header counts all of them.
    fn samples(path: &Path) -> Vec<i16> {
        let bytes = std::fs::read(path).unwrap();
        let samples: Vec<i16> = bytes[44..].chunks_exact(2).map(|x| i16::from_le_bytes([x[0], x[1]])).collect();
        assert!(bytes == wav::little(RATE_HZ, &samples));
        samples
    }

    #[test]
    fn frames_are_written_at_the_position_of_their_time() {
        let (_dir, path) = empty();
        let mut ear = open(&path, ms(1_000));
        assert!(samples(&path).is_empty());
        ear.write(&[1; 480], ms(1_020)).unwrap();
        ear.write(&[2; 480], ms(1_040)).unwrap();
        ear.write(&[3; 480], ms(1_500)).unwrap();
        ear.close().unwrap();
        let expected = [vec![0; 480], vec![1; 480], vec![2; 480], vec![0; 440 * 24], vec![3; 480]].concat();
        assert_eq!(samples(&path), expected);
        let mut ear = open(&path, ms(9_000));
        ear.write(&[4; 480], ms(9_000)).unwrap();
        ear.close().unwrap();
        assert_eq!(samples(&path), [expected, vec![4; 480]].concat());
    }

    #[test]
    fn file_of_an_idle_room_is_extended_once_a_second() {
        let (_dir, path) = empty();
        let mut ear = open(&path, ms(0));
        ear.update(ms(500)).unwrap();
        assert!(samples(&path).is_empty());
        ear.update(ms(1_000)).unwrap();
        assert_eq!(samples(&path).len(), 800 * 24);
        assert_eq!(ear.deadline(), ms(2_000));
        ear.write(&[1; 480], ms(1_015)).unwrap();
        ear.close().unwrap();
        assert_eq!(samples(&path)[1_015 * 24..], [1; 480]);
    }

    #[test]
    fn head_is_at_most_a_second_behind_and_never_ahead() {
        let (_dir, path) = empty();
        let mut ear = open(&path, ms(0));
        for tick in 0..200 {
            ear.write(&[1; 480], ms(tick * 20)).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let counted = wav::Head::read(&mut &bytes[..]).unwrap().data_bytes.unwrap();
            let (counted, there) = (counted as usize, bytes.len() - 44);
            assert!(counted <= there && there - counted <= 48_000 + 960, "{counted} {there}");
        }
    }
}
