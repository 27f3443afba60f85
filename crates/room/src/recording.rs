//! The pipe `recording` of a room, in which every talker's frames are written with name and time.
//!
//! The recorder creates and removes the pipe. The mixer never waits for the recorder: frames that don't fit into the pipe are missing
//! in the recording. A record is written atomically.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use nix::sys::stat::Mode;

use crate::reader::open_pipe;
use crate::small_file::{FILE_MODE, set_mode, temporary};
use crate::writer::write_atomically;
use crate::{FileId, Format, Name, OpenError, RoomError, Wrote};

/// Size of the pipe in bytes, which is the maximum for a process without privileges: half a second of forty talkers at
/// 24000 Hz.
const PIPE_BYTES: i32 = 1 << 20;
const TIME_BYTES: usize = 8;
const NAME_BYTES: usize = 32;
const HEAD_BYTES: usize = TIME_BYTES + NAME_BYTES;

// The largest record must be at most PIPE_BUF, which is 4096 on Linux.
const _: () = assert!(HEAD_BYTES + 48 * crate::FRAME_MS as usize * 2 <= 4096);

/// One frame of one talker, as it was mixed: after levelling and gain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedFrame {
    /// Time of the mixer's tick, CLOCK_MONOTONIC.
    pub at: Duration,
    /// The talker.
    pub name: Name,
    /// The frame's samples: 20 ms.
    pub frame: Vec<i16>,
}

/// The writing end of a room's pipe `recording`, for the mixer.
#[derive(Debug)]
pub struct RecordingWriter {
    file: File,
    id: FileId,
    bytes: Vec<u8>,
}

impl RecordingWriter {
    /// Opens the pipe at `path`, which must have a reader.
    ///
    /// # Errors
    /// [`OpenError::NoReader`], [`OpenError::Missing`], [`OpenError::NotAPipe`], or [`OpenError::Io`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let file = open_pipe(path, OpenOptions::new().write(true))?;
        let metadata = file.metadata().map_err(|error| OpenError::io(path, error))?;
        Ok(Self { file, id: FileId::of(&metadata), bytes: Vec::new() })
    }

    /// Returns the device and inode number of the pipe.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Writes one record without blocking.
    pub fn write(&mut self, at: Duration, name: &Name, frame: &[i16]) -> Wrote {
        self.bytes.clear();
        self.bytes.extend(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX).to_le_bytes());
        self.bytes.extend(name.as_str().as_bytes());
        self.bytes.resize(HEAD_BYTES, 0);
        self.bytes.extend(frame.iter().flat_map(|sample| sample.to_le_bytes()));
        write_atomically(&mut self.file, &self.bytes)
    }
}

/// The reading end of a room's pipe `recording`, for the recorder. Dropping the `RecordingReader` removes the pipe.
#[derive(Debug)]
pub struct RecordingReader {
    file: Flock<File>,
    path: PathBuf,
    format: Format,
    bytes: Vec<u8>,
}

impl RecordingReader {
    /// Creates the pipe at `path`. Replaces a pipe that a killed recorder left behind.
    ///
    /// # Errors
    /// [`RoomError::Content`]: another process reads the existing pipe, or the file at `path` can't be opened as a pipe. Otherwise a system call failed.
    pub fn create(path: &Path, format: Format) -> Result<Self, RoomError> {
        let create = || RoomError::io("create pipe", path);
        match open_pipe(path, OpenOptions::new().read(true).write(true)).map(|file| locked(file).is_ok()) {
            Ok(true) | Err(OpenError::Missing(_)) => {}
            Ok(false) => return Err(RoomError::content(path, "another process is recording this room; stop it first")),
            Err(error) => return Err(RoomError::content(path, error.to_string())),
        }
        let new = temporary(path);
        let _ = std::fs::remove_file(&new);
        nix::unistd::mkfifo(&new, Mode::from_bits_truncate(FILE_MODE)).map_err(|errno| create()(errno.into()))?;
        set_mode(&new, FILE_MODE)?;
        let file = open_pipe(&new, OpenOptions::new().read(true).write(true));
        let file = file.map_err(|error| RoomError::content(path, error.to_string()))?;
        let file = locked(file).map_err(create())?;
        // If the size can't be set, the pipe is smaller and loses frames earlier.
        let _ = fcntl(file.as_fd(), FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        // The mixer opens the pipe as soon as the pipe has the name `path`. At that time the pipe already has a reader.
        std::fs::rename(&new, path).map_err(create())?;
        Ok(Self { file, path: path.to_owned(), format, bytes: Vec::new() })
    }

    /// Appends the frames that are in the pipe, at most about a megabyte, and returns their number.
    ///
    /// # Errors
    /// The error of read(2), except `EAGAIN` and `EINTR`.
    pub fn read(&mut self, frames: &mut Vec<RecordedFrame>) -> io::Result<usize> {
        let record = HEAD_BYTES + self.format.frame_bytes();
        // The buffer's length is a multiple of the record's size, so that each read begins with a record.
        self.bytes.resize(record * (PIPE_BYTES as usize / record), 0);
        let got = match (&*self.file).read(&mut self.bytes) {
            Ok(got) => got,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(error) => return Err(error),
        };
        let before = frames.len();
        frames.extend(self.bytes[..got].chunks_exact(record).filter_map(parse));
        Ok(frames.len() - before)
    }
}

impl AsFd for RecordingReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for RecordingReader {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn locked(file: File) -> io::Result<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}

/// Parses one record. Returns `None` if the talker's name is invalid.
fn parse(record: &[u8]) -> Option<RecordedFrame> {
    let (time, rest) = record.split_first_chunk::<TIME_BYTES>()?;
    let (name, samples) = rest.split_first_chunk::<NAME_BYTES>()?;
    let name = name.split(|&byte| byte == 0).next().and_then(|name| std::str::from_utf8(name).ok())?;
    let frame = samples.chunks_exact(2).map(|sample| i16::from_le_bytes([sample[0], sample[1]])).collect();
    Some(RecordedFrame { at: Duration::from_nanos(u64::from_le_bytes(*time)), name: name.parse().ok()?, frame })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn name(name: &str) -> Name {
        name.parse().unwrap()
    }

    #[test]
    fn written_frames_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("recording");
        assert!(matches!(RecordingWriter::open(&path), Err(OpenError::Missing(_))));
        let mut reader = RecordingReader::create(&path, Format::default()).unwrap();
        let mut writer = RecordingWriter::open(&path).unwrap();
        let frames: Vec<RecordedFrame> = [("a", 20), ("bob", 20), (&"z".repeat(32), 40)]
            .map(|(who, ms)| RecordedFrame {
                at: Duration::from_millis(ms),
                name: name(who),
                frame: vec![ms as i16; 480],
            })
            .to_vec();
        for frame in &frames {
            assert_eq!(writer.write(frame.at, &frame.name, &frame.frame), Wrote::Whole);
        }
        let mut read = Vec::new();
        assert_eq!(reader.read(&mut read).unwrap(), 3);
        assert_eq!(read, frames);
        assert_eq!(reader.read(&mut read).unwrap(), 0);
        drop(reader);
        assert_eq!(writer.write(Duration::ZERO, &name("a"), &[0; 480]), Wrote::Gone);
        assert!(!path.exists());
    }

    #[test]
    fn a_slow_reader_loses_whole_records() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("recording");
        let mut reader = RecordingReader::create(&path, Format::default()).unwrap();
        let mut writer = RecordingWriter::open(&path).unwrap();
        let written =
            (0..2_000).take_while(|i| writer.write(Duration::from_millis(*i), &name("a"), &[1; 480]) == Wrote::Whole);
        let written = written.count();
        let mut read = Vec::new();
        while reader.read(&mut read).unwrap() > 0 {}
        assert_eq!(read.len(), written);
        assert_eq!(read.last().unwrap().at, Duration::from_millis(written as u64 - 1));
    }

    #[test]
    fn a_second_recorder_is_refused_and_a_pipe_left_behind_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("recording");
        let reader = RecordingReader::create(&path, Format::default()).unwrap();
        let refused = RecordingReader::create(&path, Format::default()).unwrap_err();
        assert!(refused.to_string().contains("another process is recording"), "{refused}");
        drop(reader);
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        assert!(RecordingReader::create(&path, Format::default()).is_ok());
    }
}
