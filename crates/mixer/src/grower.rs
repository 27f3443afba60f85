//! An ear that is a file: a WAV that is valid at every moment and continuous in time.
//!
//! Sound goes where its time is, so what an idle room skipped is zeros; they cost nothing, being holes in the file. The
//! head is brought up to date once a second, always after the samples that it tells of.

use std::io;
use std::path::Path;
use std::time::Duration;

use palabre_room::{Format, OpenError, PipeId, SoundFile};
use palabre_sound::wav::{self, HEAD_BYTES};

/// How often the head is brought up to date, and an idle room's file made longer.
const PERIOD: Duration = Duration::from_secs(1);
/// A tick may be handled so late; nothing that it may still write is filled with silence.
const LATE_MAX: Duration = Duration::from_millis(200);
const SAMPLE_BYTES: u64 = 2;

/// Writes a WAV that grows.
#[derive(Debug)]
pub struct Grower {
    file: SoundFile,
    rate_hz: u32,
    /// The time of the first sample that this grower writes.
    began: Duration,
    /// Bytes of sound that were there before.
    before: u64,
    /// Bytes of sound after that, in the file or due to be zeros.
    written: u64,
    /// Bytes of sound that the head tells of.
    told: u64,
    tell_at: Duration,
    bytes: Vec<u8>,
}

impl Grower {
    /// Goes on at the end of the file at `path`: it must be empty, or a WAV as this writes them.
    ///
    /// # Errors
    /// As [`SoundFile::write`]; the file is something else ([`OpenError::Io`]), or its head can't be written.
    pub fn open(path: &Path, format: Format, now: Duration) -> Result<Self, OpenError> {
        let file = SoundFile::write(path)?;
        let rate_hz = format.rate.hz();
        let before = prepare(&file, rate_hz).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let (written, told, bytes) = (0, before, Vec::new());
        Ok(Self { file, rate_hz, began: now, before, written, told, tell_at: now + PERIOD, bytes })
    }

    /// Which file this is.
    pub fn id(&self) -> PipeId {
        self.file.id()
    }

    /// When [`Self::catch_up`] is due.
    pub fn deadline(&self) -> Duration {
        self.tell_at
    }

    /// Appends a frame that belongs to the time `at`.
    ///
    /// # Errors
    /// Those of pwrite(2), or a WAV can't hold more.
    pub fn write(&mut self, frame: &[i16], at: Duration) -> io::Result<()> {
        let begin = self.before + self.written.max(self.due(at));
        let end = begin + frame.len() as u64 * SAMPLE_BYTES;
        if end > wav::DATA_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a WAV holds 4 GiB"));
        }
        self.bytes.clear();
        self.bytes.extend(frame.iter().flat_map(|sample| sample.to_le_bytes()));
        self.file.write_at(&self.bytes, HEAD_BYTES as u64 + begin)?;
        self.written = end - self.before;
        if at >= self.tell_at { self.tell(at) } else { Ok(()) }
    }

    /// Makes the file as long as the time that has passed, if that is due.
    ///
    /// # Errors
    /// Those of ftruncate(2) and pwrite(2).
    pub fn catch_up(&mut self, now: Duration) -> io::Result<()> {
        if now < self.tell_at {
            return Ok(());
        }
        let due = self.due(now.saturating_sub(LATE_MAX)).min(wav::DATA_BYTES_MAX - self.before);
        if due > self.written {
            self.file.set_bytes(HEAD_BYTES as u64 + self.before + due)?;
            self.written = due;
        }
        self.tell(now)
    }

    /// Brings the head up to date.
    ///
    /// # Errors
    /// Those of pwrite(2).
    pub fn tell(&mut self, now: Duration) -> io::Result<()> {
        self.tell_at = now + PERIOD;
        let data_bytes = self.before + self.written;
        if data_bytes != self.told {
            self.file.write_at(&wav::sized_head(self.rate_hz, data_bytes), 0)?;
            self.told = data_bytes;
        }
        Ok(())
    }

    /// Bytes of sound up to the time `at`.
    fn due(&self, at: Duration) -> u64 {
        let samples = at.saturating_sub(self.began).as_nanos() * u128::from(self.rate_hz) / 1_000_000_000;
        u64::try_from(samples).unwrap_or(u64::MAX / SAMPLE_BYTES) * SAMPLE_BYTES
    }
}

/// Writes the first head, or finds out how much sound there is.
fn prepare(file: &SoundFile, rate_hz: u32) -> io::Result<u64> {
    let len = file.bytes()?;
    if len == 0 {
        file.write_at(&wav::sized_head(rate_hz, 0), 0)?;
        return Ok(0);
    }
    let mut head = [0; HEAD_BYTES];
    let got = file.read_at(&mut head, 0)?;
    let mut expected = wav::sized_head(rate_hz, 0);
    for size in [4..8, 40..44] {
        expected[size.clone()].copy_from_slice(&head[size]);
    }
    if got < HEAD_BYTES || head[..] != expected {
        let what = "it is neither empty nor a WAV in the room's format; empty it or remove it";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let data_bytes = (len - HEAD_BYTES as u64) / SAMPLE_BYTES * SAMPLE_BYTES;
    // Whoever wrote it before us may have died before telling.
    file.write_at(&wav::sized_head(rate_hz, data_bytes), 0)?;
    Ok(data_bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const RATE_HZ: u32 = 24_000;

    fn empty() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ear");
        std::fs::write(&path, "").unwrap();
        (directory, path)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The samples of a file whose head is true.
    fn samples(path: &Path) -> Vec<i16> {
        let bytes = std::fs::read(path).unwrap();
        let samples: Vec<i16> = bytes[44..].chunks_exact(2).map(|x| i16::from_le_bytes([x[0], x[1]])).collect();
        assert!(bytes == wav::little(RATE_HZ, &samples));
        samples
    }

    #[test]
    fn sound_is_where_its_time_is_and_the_rest_is_silence() {
        let (_directory, path) = empty();
        let mut grower = Grower::open(&path, Format::default(), ms(1_000)).unwrap();
        assert!(samples(&path).is_empty());
        grower.write(&[1; 480], ms(1_020)).unwrap();
        grower.write(&[2; 480], ms(1_040)).unwrap();
        grower.write(&[3; 480], ms(1_500)).unwrap();
        grower.tell(ms(1_500)).unwrap();
        let expected = [vec![0; 480], vec![1; 480], vec![2; 480], vec![0; 440 * 24], vec![3; 480]].concat();
        assert_eq!(samples(&path), expected);
    }

    #[test]
    fn an_idle_room_makes_it_longer_once_a_second() {
        let (_directory, path) = empty();
        let mut grower = Grower::open(&path, Format::default(), ms(0)).unwrap();
        grower.catch_up(ms(500)).unwrap();
        assert!(samples(&path).is_empty());
        grower.catch_up(ms(1_000)).unwrap();
        assert_eq!(samples(&path).len(), 800 * 24);
        assert_eq!(grower.deadline(), ms(2_000));
        grower.write(&[1; 480], ms(1_015)).unwrap();
        grower.tell(ms(1_015)).unwrap();
        assert_eq!(samples(&path)[1_015 * 24..], [1; 480]);
    }

    #[test]
    fn what_a_frame_told_is_never_more_than_there_is() {
        let (_directory, path) = empty();
        let mut grower = Grower::open(&path, Format::default(), ms(0)).unwrap();
        for tick in 0..200 {
            grower.write(&[1; 480], ms(tick * 20)).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let (_, told) = wav::Head::read_with_size(&mut &bytes[..]).unwrap();
            let there = bytes.len() - 44;
            assert!(told as usize <= there && there - told as usize <= 48_000 + 960, "{told} {there}");
        }
    }

    #[test]
    fn it_goes_on_at_the_end_of_its_own_files_and_leaves_others_alone() {
        let (_directory, path) = empty();
        // As after a crash: the head tells less than there is, and half a sample was written.
        let mut bytes = wav::little(RATE_HZ, &[1, 2, 3]);
        bytes[40..44].copy_from_slice(&2u32.to_le_bytes());
        bytes.push(9);
        std::fs::write(&path, bytes).unwrap();
        let mut grower = Grower::open(&path, Format::default(), ms(0)).unwrap();
        grower.write(&[4], ms(0)).unwrap();
        grower.tell(ms(0)).unwrap();
        assert_eq!(samples(&path), [1, 2, 3, 4]);
        for other in [wav::little(48_000, &[1]), b"these are words".to_vec()] {
            std::fs::write(&path, &other).unwrap();
            assert!(Grower::open(&path, Format::default(), ms(0)).is_err());
            assert_eq!(std::fs::read(&path).unwrap(), other);
        }
    }
}
