//! The writing end of a pipe: it never waits, and every way in which a write can fail is an answer with a name.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use crate::reader::{open_pipe, set_size};
use crate::{Format, OpenError, PipeId};

/// `PIPE_BUF` of Linux: a write up to this size is all or nothing (pipe(7)).
const PIPE_BUF: usize = 4096;

/// What became of samples that were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Wrote {
    /// All of them are in the pipe.
    Whole,
    /// `EAGAIN`: the reader is slow and the pipe is full; these samples are not in it.
    Slow,
    /// `EPIPE`: the reader has left and what was in the pipe is gone; drop this writer and open again when somebody reads.
    Gone,
}

/// A pipe opened for writing.
#[derive(Debug)]
pub struct PipeWriter {
    file: File,
    id: PipeId,
    bytes: Vec<u8>,
    size_refused: bool,
}

impl PipeWriter {
    /// Opens the pipe at `path`, which somebody must be reading, and sets its size to 400 ms of `format`.
    ///
    /// # Errors
    /// [`OpenError::NoReader`] when nobody reads it, [`OpenError::Missing`], [`OpenError::NotAPipe`], or what the system says.
    pub fn open(path: &Path, format: Format) -> Result<Self, OpenError> {
        let file = open_pipe(path, OpenOptions::new().write(true))?;
        let size_refused = set_size(file.as_fd(), format).is_err();
        let metadata = file.metadata().map_err(|error| OpenError::io(path, error))?;
        Ok(Self { file, id: PipeId::of(&metadata), bytes: Vec::new(), size_refused })
    }

    /// Writes without waiting. Up to 2048 samples are all or nothing; more go in pieces of that size, and what follows a
    /// piece that was refused is not written.
    pub fn write(&mut self, samples: &[i16]) -> Wrote {
        for piece in samples.chunks(PIPE_BUF / 2) {
            self.bytes.clear();
            self.bytes.extend(piece.iter().flat_map(|sample| sample.to_le_bytes()));
            match self.write_piece() {
                Wrote::Whole => {}
                refused => return refused,
            }
        }
        Wrote::Whole
    }

    /// Whether the kernel refused the pipe's size (`fs.pipe-user-pages-soft`).
    #[must_use]
    pub fn size_refused(&self) -> bool {
        self.size_refused
    }

    /// Which pipe this is.
    #[must_use]
    pub fn id(&self) -> PipeId {
        self.id
    }

    fn write_piece(&mut self) -> Wrote {
        loop {
            return match self.file.write(&self.bytes) {
                Ok(_) => Wrote::Whole,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Wrote::Slow,
                Err(_) => Wrote::Gone,
            };
        }
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
    use crate::{PipeReader, RoomDir, STRAY_MS, Start};

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
    fn nobody_reading_is_an_answer() {
        let (_dir, path, format) = pipe();
        assert!(matches!(PipeWriter::open(&path, format), Err(OpenError::NoReader(_))));
    }

    #[test]
    fn samples_arrive_as_they_were_written() {
        let (_dir, path, format) = pipe();
        let mut reader = PipeReader::open(&path, format, Start::Discard).unwrap();
        let mut writer = PipeWriter::open(&path, format).unwrap();
        assert_eq!(writer.write(&[1, -2, 256, i16::MIN, i16::MAX]), Wrote::Whole);
        assert_eq!(read_all(&mut reader), [1, -2, 256, i16::MIN, i16::MAX]);
        assert_eq!(reader.id(), writer.id());
    }

    #[test]
    fn a_pipe_holds_less_than_a_second_and_then_says_slow_frame_by_frame() {
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
    fn a_second_reader_is_refused_until_the_first_leaves() {
        let (_dir, path, format) = pipe();
        let first = PipeReader::open(&path, format, Start::Discard).unwrap();
        assert!(matches!(PipeReader::open(&path, format, Start::Discard), Err(OpenError::Taken(_))));
        drop(first);
        assert!(PipeReader::open(&path, format, Start::Discard).is_ok());
    }

    #[test]
    fn a_successor_loses_nothing() {
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
    fn a_reader_sees_who_waits_for_it_to_leave() {
        let (_dir, path, format) = pipe();
        let first = PipeReader::open(&path, format, Start::Discard).unwrap();
        let writer = PipeWriter::open(&path, format).unwrap();
        let successor = PipeReader::succeed(&path, format).unwrap();
        assert!(!first.is_awaited(), "it has not asked yet");
        let (waiting, _) = successor.take().unwrap_err();
        assert!(first.is_awaited());
        drop(waiting);
        assert!(!first.is_awaited());
        drop(writer);
    }

    #[test]
    fn the_writer_learns_that_its_reader_left_and_stale_sound_is_gone() {
        let (_dir, path, format) = pipe();
        let reader = PipeReader::open(&path, format, Start::Discard).unwrap();
        let mut writer = PipeWriter::open(&path, format).unwrap();
        assert_eq!(writer.write(&[1]), Wrote::Whole);
        drop(reader);
        assert_eq!(writer.write(&[2]), Wrote::Gone);
    }

    #[test]
    fn what_was_in_the_pipe_is_discarded_or_kept_as_asked() {
        let (_dir, path, format) = pipe();
        // Somebody else keeps the pipe open without a lock, as a writer opened for both ways would.
        let _other = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        for (start, expected) in [(Start::Discard, vec![]), (Start::Keep, vec![9])] {
            let mut writer = PipeWriter::open(&path, format).unwrap();
            assert_eq!(writer.write(&[9]), Wrote::Whole);
            let mut reader = PipeReader::open(&path, format, start).unwrap();
            assert_eq!(read_all(&mut reader), expected);
        }
    }

    #[test]
    fn a_stray_byte_is_discarded_after_a_while_and_counted() {
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
    fn a_stray_byte_before_a_voice_is_noise_for_a_tenth_of_a_second_and_no_longer() {
        let (_dir, path, format) = pipe();
        let mut reader = PipeReader::open(&path, format, Start::Discard).unwrap();
        let mut raw = OpenOptions::new().write(true).open(&path).unwrap();
        let start = Instant::now();
        let mut last = Vec::new();
        raw.write_all(&[1]).unwrap();
        for frame in 0..8 {
            raw.write_all(&[5, 0, 6, 0]).unwrap();
            last.clear();
            reader.read(start + Duration::from_millis(20 * frame), &mut last, 100).unwrap();
        }
        assert_eq!((last.as_slice(), reader.stray_bytes()), ([5, 6].as_slice(), 1));
    }

    #[test]
    fn pieces_of_an_odd_size_are_no_stray_bytes() {
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
    fn half_a_sample_waits_for_its_other_half() {
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
    fn a_read_takes_no_more_than_was_asked_for() {
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
    fn files_and_links_are_not_pipes() {
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
