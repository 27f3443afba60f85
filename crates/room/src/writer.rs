//! The writing end of a pipe, which never blocks.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};

use crate::reader::{open_pipe, set_size};
use crate::{EarFrames, FRAME_MS, FileId, Format, OpenError, PIPE_MS};

/// `PIPE_BUF` of Linux: maximum size of an atomic write (pipe(7)).
const PIPE_BUF: usize = 4096;

/// Size of a new pipe (pipe(7)).
const DEFAULT_PIPE_BYTES: usize = 64 * 1024;

/// Result of a write into a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Wrote {
    /// All samples are in the pipe.
    Whole,
    /// `EAGAIN`: the pipe is full since the reader is slow. The samples are lost.
    Slow,
    /// `EPIPE`: there is no reader, and the content of the pipe is lost. Drop the writer and open the pipe again.
    Gone,
}

/// A pipe that is open for writing.
#[derive(Debug)]
pub struct PipeWriter {
    file: File,
    id: FileId,
    bytes: Vec<u8>,
    frame_bytes: usize,
    /// `owed` bytes that complete a frame, followed by the frames for the next write.
    gathered: Vec<u8>,
    /// Number of bytes at the beginning of `gathered` that complete the last frame in the pipe.
    owed: usize,
    gathered_max: usize,
}

impl PipeWriter {
    /// Opens the pipe at `path`, which must have a reader, and sets the pipe's size to 400 ms of `format`, unless the reader has chosen a larger size.
    ///
    /// # Errors
    /// [`OpenError::NoReader`], [`OpenError::Missing`], [`OpenError::NotAPipe`], or [`OpenError::Io`].
    pub fn open(path: &Path, format: Format) -> Result<Self, OpenError> {
        Self::open_for(path, format.frame_bytes(), format.bytes_in_ms(PIPE_MS))
    }

    /// Opens a pipe for sums of 32 bits per sample, as [`Self::open`]. Only [`Self::write_sums`] may write into it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_sums(path: &Path, format: Format) -> Result<Self, OpenError> {
        Self::open_for(path, format.sum_bytes_in_ms(FRAME_MS), format.sum_bytes_in_ms(PIPE_MS))
    }

    fn open_for(path: &Path, frame_bytes: usize, pipe_bytes: usize) -> Result<Self, OpenError> {
        let file = open_pipe(path, OpenOptions::new().write(true))?;
        let metadata = file.metadata().map_err(|error| OpenError::io(path, error))?;
        let (id, bytes, gathered) = (FileId::of(&metadata), Vec::new(), Vec::new());
        let mut writer = Self { file, id, bytes, frame_bytes, gathered, owed: 0, gathered_max: 1 };
        writer.set_size(pipe_bytes);
        Ok(writer)
    }

    /// Sets the pipe's size, so that it holds two writes of `frames`.
    pub fn make_room_for(&mut self, frames: EarFrames) {
        let frames_in_pipe = usize::try_from(frames.pipe_ms() / FRAME_MS).unwrap_or(usize::MAX);
        self.set_size(frames_in_pipe.saturating_mul(self.frame_bytes));
    }

    /// Sets the size of a pipe that is too small, or that still has the default size. A larger size that the reader has chosen stays.
    fn set_size(&mut self, bytes: usize) {
        let present =
            |file: &File| fcntl(file, FcntlArg::F_GETPIPE_SZ).ok().and_then(|size| usize::try_from(size).ok());
        if present(&self.file).is_none_or(|size| size < bytes || size == DEFAULT_PIPE_BYTES) {
            // An error is ignored here: if the size can't be set, the pipe holds more sound or less sound than wanted.
            let _ = set_size(self.file.as_fd(), bytes);
        }
        self.gathered_max = (present(&self.file).unwrap_or(PIPE_BUF) / 2 / self.frame_bytes).max(1);
    }

    /// Adds a frame to the next [`Self::write_gathered`].
    pub fn gather(&mut self, frame: &[i16]) {
        let start = self.gathered.len();
        self.gathered.resize(start + 2 * frame.len(), 0);
        let (pairs, _) = self.gathered[start..].as_chunks_mut::<2>();
        pairs.iter_mut().zip(frame).for_each(|(pair, sample)| *pair = sample.to_le_bytes());
    }

    /// Returns the number of gathered frames.
    #[must_use]
    pub fn gathered(&self) -> usize {
        (self.gathered.len() - self.owed) / self.frame_bytes
    }

    /// Returns the number of gathered frames that fill half of the pipe. Call [`Self::write_gathered`] at
    /// the latest when this number is gathered.
    #[must_use]
    pub fn gathered_max(&self) -> usize {
        self.gathered_max
    }

    /// Writes the gathered frames in one write(2), without blocking. Frames that don't fit into the pipe are lost. Returns
    /// their number, or `None` if the pipe has no reader.
    ///
    /// A write of more than `PIPE_BUF` bytes can end within a frame. The next write then begins with the rest of that
    /// frame, so the reader gets whole frames.
    pub fn write_gathered(&mut self) -> Option<usize> {
        let written = loop {
            match self.file.write(&self.gathered) {
                Ok(written) => break written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break 0,
                Err(_) => return None,
            }
        };
        let owed = match written.checked_sub(self.owed) {
            None => self.owed - written,
            Some(frames) => frames.next_multiple_of(self.frame_bytes) - frames,
        };
        let lost = (self.gathered.len() - written - owed) / self.frame_bytes;
        self.gathered.copy_within(written..written + owed, 0);
        self.gathered.truncate(owed);
        self.owed = owed;
        Some(lost)
    }

    /// Writes samples without blocking. Up to 2048 samples are written atomically. More samples are written in chunks
    /// of 2048 samples, up to the first chunk that doesn't fit into the pipe.
    pub fn write(&mut self, samples: &[i16]) -> Wrote {
        for chunk in samples.chunks(PIPE_BUF / 2) {
            self.bytes.clear();
            self.bytes.extend(chunk.iter().flat_map(|sample| sample.to_le_bytes()));
            match write_atomically(&mut self.file, &self.bytes) {
                Wrote::Whole => {}
                refused => return refused,
            }
        }
        Wrote::Whole
    }

    /// Adds a frame of sums to the next [`Self::write_gathered`].
    pub fn gather_sums(&mut self, frame: &[i32]) {
        self.gathered.extend(frame.iter().flat_map(|sum| sum.to_le_bytes()));
    }

    /// Writes the sums of one frame in one atomic write, without blocking.
    pub fn write_sums(&mut self, frame: &[i32]) -> Wrote {
        self.bytes.clear();
        self.bytes.extend(frame.iter().take(PIPE_BUF / 4).flat_map(|sample| sample.to_le_bytes()));
        write_atomically(&mut self.file, &self.bytes)
    }

    /// Returns the device and inode number of the pipe.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.id
    }
}

/// Writes at most `PIPE_BUF` bytes into a pipe: either all bytes or none.
pub(crate) fn write_atomically(pipe: &mut File, bytes: &[u8]) -> Wrote {
    loop {
        return match pipe.write(bytes) {
            Ok(_) => Wrote::Whole,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Wrote::Slow,
            Err(_) => Wrote::Gone,
        };
    }
}

impl AsFd for PipeWriter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::reader::STRAY_MS;
    use crate::{PipeReader, RoomDir, Start};

    fn pipe() -> (tempfile::TempDir, PathBuf, Format) {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path());
        let alice = room.participant(&"alice".parse().unwrap());
        alice.create().unwrap();
        (dir, alice.mic(), Format::default())
    }

    fn read_all(reader: &mut PipeReader) -> Vec<i16> {
        let mut samples = Vec::new();
        while reader.read(Instant::now(), &mut samples, 1 << 20).unwrap() > 0 {}
        samples
    }

    #[test]
    fn a_pipe_without_a_reader_is_not_opened() {
        let (_dir, path, format) = pipe();
        assert!(matches!(PipeWriter::open(&path, format), Err(OpenError::NoReader(_))));
    }

    #[test]
    fn written_samples_are_read() {
        let (_dir, path, format) = pipe();
        let mut reader = PipeReader::open(&path, format, Start::Discard).unwrap();
        let mut writer = PipeWriter::open(&path, format).unwrap();
        assert_eq!(writer.write(&[1, -2, 256, i16::MIN, i16::MAX]), Wrote::Whole);
        assert_eq!(read_all(&mut reader), [1, -2, 256, i16::MIN, i16::MAX]);
        assert_eq!(reader.id(), writer.id());
    }

    #[test]
    fn written_sums_are_read_and_a_stray_byte_among_them_is_discarded() {
        let (_dir, path, format) = pipe();
        let mut reader = PipeReader::open_sums(&path, format, Start::Discard).unwrap();
        let mut writer = PipeWriter::open_sums(&path, format).unwrap();
        let (now, mut sums) = (Instant::now(), Vec::new());
        assert_eq!(writer.write_sums(&[1, -2, 70_000, i32::MIN]), Wrote::Whole);
        assert_eq!(reader.read_sums(now, &mut sums, 100).unwrap(), 4);
        assert_eq!(sums, [1, -2, 70_000, i32::MIN]);
        std::io::Write::write_all(&mut OpenOptions::new().write(true).open(&path).unwrap(), &[9, 9, 9]).unwrap();
        assert_eq!(reader.read_sums(now, &mut sums, 100).unwrap(), 0);
        assert_eq!(writer.write_sums(&[5]), Wrote::Whole);
        let later = now + Duration::from_millis(STRAY_MS);
        assert_eq!((reader.read_sums(later, &mut sums, 100).unwrap(), reader.stray_bytes()), (1, 3));
        assert_eq!(sums[4..], [5]);
    }

    #[test]
    fn a_full_pipe_holds_less_than_a_second_and_refuses_frames() {
        let (_dir, path, format) = pipe();
        let mut reader = PipeReader::open(&path, format, Start::Discard).unwrap();
        let mut writer = PipeWriter::open(&path, format).unwrap();
        let frame = vec![7; format.frame_samples()];
        let whole = (0..100).take_while(|_| writer.write(&frame) == Wrote::Whole).count();
        assert!((20..50).contains(&whole), "{whole} frames of 20 ms");
        assert_eq!(read_all(&mut reader).len(), whole * frame.len());
        assert_eq!(writer.write(&frame), Wrote::Whole);
    }

    #[test]
    fn gathered_frames_are_written_at_once() {
        let (_dir, path, format) = pipe();
        let mut reader = PipeReader::open(&path, format, Start::Discard).unwrap();
        let mut writer = PipeWriter::open(&path, format).unwrap();
        assert!(writer.gathered_max() >= 10);
        let samples: Vec<i16> = (0..5 * 480).collect();
        samples.chunks(480).for_each(|frame| writer.gather(frame));
        assert_eq!((writer.gathered(), read_all(&mut reader)), (5, vec![]));
        assert_eq!((writer.write_gathered(), writer.gathered()), (Some(0), 0));
        assert_eq!(read_all(&mut reader), samples);
        drop(reader);
        writer.gather(&samples[..480]);
        assert_eq!(writer.write_gathered(), None);
    }

    #[test]
    fn gathered_sums_are_written_at_once() {
        let (_dir, path, format) = pipe();
        let mut reader = PipeReader::open_sums(&path, format, Start::Discard).unwrap();
        let mut writer = PipeWriter::open_sums(&path, format).unwrap();
        let sums: Vec<i32> = (0..3 * 480).map(|i| i * 100_000).collect();
        sums.chunks(480).for_each(|frame| writer.gather_sums(frame));
        assert_eq!((writer.gathered(), writer.write_gathered()), (3, Some(0)));
        let mut read = Vec::new();
        assert_eq!(reader.read_sums(Instant::now(), &mut read, 1 << 20).unwrap(), 3 * 480);
        assert_eq!(read, sums);
    }

    #[test]
    fn a_slow_reader_gets_whole_frames_of_gathered_writes() {
        let (_dir, path, format) = pipe();
        let mut reader = PipeReader::open(&path, format, Start::Discard).unwrap();
        let mut writer = PipeWriter::open(&path, format).unwrap();
        let (mut lost, mut read) = (0, Vec::new());
        for round in 0..400_i16 {
            (0..7).for_each(|frame| writer.gather(&[round * 7 + frame; 480]));
            lost += writer.write_gathered().unwrap();
            // Read fewer samples than were written, and no whole number of frames, so that the pipe becomes full and stops a write in the middle of a frame.
            reader.read(Instant::now(), &mut read, 3 * 480 + 77).unwrap();
        }
        // The rest of a frame follows with the next write.
        let rest = read_all(&mut reader);
        read.extend(rest);
        writer.gather(&[-1; 480]);
        assert_eq!(writer.write_gathered(), Some(0));
        read.extend(read_all(&mut reader));
        let frames: Vec<&[i16]> = read.chunks(480).collect();
        assert!(frames.iter().all(|frame| frame.len() == 480 && frame.iter().all(|sample| *sample == frame[0])));
        assert!(frames[..frames.len() - 1].windows(2).all(|pair| pair[0][0] < pair[1][0]));
        assert!(lost > 0 && frames.len() == 400 * 7 + 1 - lost, "{lost} lost, {} read", frames.len());
    }

    #[test]
    fn a_second_reader_is_refused_until_the_first_closes_the_pipe() {
        let (_dir, path, format) = pipe();
        let first = PipeReader::open(&path, format, Start::Discard).unwrap();
        assert!(matches!(PipeReader::open(&path, format, Start::Discard), Err(OpenError::Taken(_))));
        drop(first);
        assert!(PipeReader::open(&path, format, Start::Discard).is_ok());
    }

    #[test]
    fn a_successor_loses_no_sample() {
        let (_dir, path, format) = pipe();
        let first = PipeReader::open(&path, format, Start::Discard).unwrap();
        let mut writer = PipeWriter::open(&path, format).unwrap();
        assert_eq!(writer.write(&[1, 2, 3]), Wrote::Whole);
        let (waiting, error) = PipeReader::succeed(&path, format).unwrap().take().unwrap_err();
        assert!(matches!(error, OpenError::Taken(_)));
        drop(first);
        let mut second = waiting.take().unwrap();
        assert!(!second.is_awaited());
        assert_eq!(writer.write(&[4]), Wrote::Whole);
        assert_eq!(read_all(&mut second), [1, 2, 3, 4]);
    }

    #[test]
    fn a_reader_sees_that_a_successor_requests_the_lock() {
        let (_dir, path, format) = pipe();
        let first = PipeReader::open(&path, format, Start::Discard).unwrap();
        let writer = PipeWriter::open(&path, format).unwrap();
        let successor = PipeReader::succeed(&path, format).unwrap();
        assert!(!first.is_awaited(), "it has not requested the lock");
        let (waiting, _) = successor.take().unwrap_err();
        assert!(first.is_awaited());
        drop(waiting);
        assert!(!first.is_awaited());
        drop(writer);
    }

    #[test]
    fn a_writer_detects_that_the_reader_has_closed_the_pipe() {
        let (_dir, path, format) = pipe();
        let reader = PipeReader::open(&path, format, Start::Discard).unwrap();
        let mut writer = PipeWriter::open(&path, format).unwrap();
        assert_eq!(writer.write(&[1]), Wrote::Whole);
        drop(reader);
        assert_eq!(writer.write(&[2]), Wrote::Gone);
    }

    #[test]
    fn old_sound_is_discarded_or_kept() {
        let (_dir, path, format) = pipe();
        // Another process keeps the pipe open without a lock.
        let _other = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        for (start, expected) in [(Start::Discard, vec![]), (Start::Keep, vec![9])] {
            let mut writer = PipeWriter::open(&path, format).unwrap();
            assert_eq!(writer.write(&[9]), Wrote::Whole);
            let mut reader = PipeReader::open(&path, format, start).unwrap();
            assert_eq!(read_all(&mut reader), expected);
        }
    }

    #[test]
    fn a_stray_byte_is_discarded_after_100_ms_and_counted() {
        let (_dir, path, format) = pipe();
        let mut reader = PipeReader::open(&path, format, Start::Discard).unwrap();
        let mut raw = OpenOptions::new().write(true).open(&path).unwrap();
        let start = Instant::now();
        let mut samples = Vec::new();
        raw.write_all(&[1]).unwrap();
        assert_eq!(reader.read(start, &mut samples, 100).unwrap(), 0);
        assert_eq!(reader.stray_deadline(), Some(start + Duration::from_millis(STRAY_MS)));
        reader.read(start + Duration::from_millis(STRAY_MS), &mut samples, 100).unwrap();
        assert_eq!((reader.stray_bytes(), reader.stray_deadline()), (1, None));
        raw.write_all(&[5, 0, 6, 0]).unwrap();
        reader.read(start, &mut samples, 100).unwrap();
        assert_eq!(samples, [5, 6]);
    }

    #[test]
    fn sound_after_a_stray_byte_waits_until_the_stray_byte_is_discarded() {
        let (_dir, path, format) = pipe();
        let mut reader = PipeReader::open(&path, format, Start::Discard).unwrap();
        let mut raw = OpenOptions::new().write(true).open(&path).unwrap();
        let start = Instant::now();
        let mut samples = Vec::new();
        raw.write_all(&[1]).unwrap();
        for frame in 0..8 {
            let now = start + Duration::from_millis(20 * frame);
            let got = reader.read(now, &mut samples, 100).unwrap();
            assert_eq!(got > 0, now >= start + Duration::from_millis(STRAY_MS), "frame {frame}");
            raw.write_all(&[5, 0, 6, 0]).unwrap();
        }
        assert_eq!((samples, reader.stray_bytes()), ([5, 6].repeat(7), 1));
    }

    #[test]
    fn writes_of_odd_size_are_not_stray_bytes() {
        let (_dir, path, format) = pipe();
        let mut reader = PipeReader::open(&path, format, Start::Discard).unwrap();
        let mut raw = OpenOptions::new().write(true).open(&path).unwrap();
        let start = Instant::now();
        let mut samples = Vec::new();
        for piece in 0..20 {
            raw.write_all(if piece % 2 == 0 { &[7, 0, 8] } else { &[0, 9, 0] }).unwrap();
            reader.read(start + Duration::from_millis(90 * piece), &mut samples, 100).unwrap();
        }
        assert_eq!((samples, reader.stray_bytes()), ([7, 8, 9].repeat(10), 0));
    }

    #[test]
    fn half_a_sample_waits_for_the_other_half() {
        let (_dir, path, format) = pipe();
        let mut reader = PipeReader::open(&path, format, Start::Discard).unwrap();
        let mut raw = OpenOptions::new().write(true).open(&path).unwrap();
        let start = Instant::now();
        let mut samples = Vec::new();
        raw.write_all(&[5, 0, 6]).unwrap();
        reader.read(start, &mut samples, 100).unwrap();
        raw.write_all(&[0, 7, 0]).unwrap();
        reader.read(start + Duration::from_secs(1), &mut samples, 100).unwrap();
        assert_eq!((samples.as_slice(), reader.stray_bytes()), ([5, 6, 7].as_slice(), 0));
    }

    #[test]
    fn a_read_is_limited() {
        let (_dir, path, format) = pipe();
        let mut reader = PipeReader::open(&path, format, Start::Discard).unwrap();
        let mut writer = PipeWriter::open(&path, format).unwrap();
        assert_eq!(writer.write(&[1, 2, 3, 4, 5]), Wrote::Whole);
        let mut samples = Vec::new();
        assert_eq!(reader.read(Instant::now(), &mut samples, 3).unwrap(), 3);
        assert_eq!(reader.read(Instant::now(), &mut samples, 3).unwrap(), 2);
        assert_eq!(samples, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn files_and_links_are_not_opened() {
        let (dir, path, format) = pipe();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(PipeReader::open(&file, format, Start::Keep), Err(OpenError::NotAPipe(_))));
        assert!(matches!(PipeWriter::open(&file, format), Err(OpenError::NotAPipe(_))));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(PipeReader::open(&link, format, Start::Keep), Err(OpenError::NotAPipe(_))));
        let missing = dir.path().join("missing");
        assert!(matches!(PipeReader::open(&missing, format, Start::Keep), Err(OpenError::Missing(_))));
    }
}
