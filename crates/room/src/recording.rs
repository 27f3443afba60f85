//! What a room says, for whoever records it: one pipe, in which every talker's frames are told by name and time.
//!
//! The pipe is there while the room is recorded; the reader makes it and removes it. As for ears, the mixer never waits for
//! the reader: what doesn't fit into the pipe is lost for the recording alone. A record is written whole or not at all.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use nix::sys::stat::Mode;

use crate::reader::open_pipe;
use crate::{Format, Name, OpenError, RoomError, Wrote};

/// As much as anybody may ask for without privileges: half a second of forty talkers at 24000 Hz.
const PIPE_BYTES: i32 = 1 << 20;
const FILE_MODE: u32 = 0o660;
const TIME_BYTES: usize = 8;
const NAME_BYTES: usize = 32;
const HEAD_BYTES: usize = TIME_BYTES + NAME_BYTES;

// A record of the largest frame is one write: PIPE_BUF is 4096 on Linux.
const _: () = assert!(HEAD_BYTES + 48 * crate::FRAME_MS as usize * 2 <= 4096);

/// One frame of one talker, gain applied, as it went into the mix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Take {
    /// The mixer's tick: CLOCK_MONOTONIC since boot.
    pub at: Duration,
    /// Who.
    pub name: Name,
    /// 20 ms.
    pub frame: Vec<i16>,
}

/// The writing end, for the mixer.
#[derive(Debug)]
pub struct RecordingWriter {
    file: File,
    bytes: Vec<u8>,
}

impl RecordingWriter {
    /// Opens the pipe at `path`, which somebody must be reading.
    ///
    /// # Errors
    /// As [`crate::PipeWriter::open`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self { file: open_pipe(path, OpenOptions::new().write(true))?, bytes: Vec::new() })
    }

    /// Writes one record without waiting.
    pub fn write(&mut self, at: Duration, name: &Name, frame: &[i16]) -> Wrote {
        self.bytes.clear();
        self.bytes.extend(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX).to_le_bytes());
        self.bytes.extend(name.as_str().as_bytes());
        self.bytes.resize(HEAD_BYTES, 0);
        self.bytes.extend(frame.iter().flat_map(|sample| sample.to_le_bytes()));
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

/// The reading end, for the recorder; the pipe goes when this is dropped.
#[derive(Debug)]
pub struct RecordingReader {
    file: Flock<File>,
    path: PathBuf,
    format: Format,
    bytes: Vec<u8>,
}

impl RecordingReader {
    /// Makes the pipe at `path`, in place of one that a reader left behind who died.
    ///
    /// # Errors
    /// Another process reads the one that is there (a [`RoomError::Content`]), or what the system says.
    pub fn create(path: &Path, format: Format) -> Result<Self, RoomError> {
        let make = || RoomError::io("create pipe", path);
        match open_pipe(path, OpenOptions::new().read(true).write(true)).map(|file| locked(file).is_ok()) {
            Ok(true) | Err(OpenError::Missing(_)) => {}
            Ok(false) => return Err(RoomError::content(path, "another process is recording this room; stop it first")),
            Err(error) => return Err(RoomError::content(path, error.to_string())),
        }
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        let _ = std::fs::remove_file(&new);
        nix::unistd::mkfifo(&new, Mode::from_bits_truncate(FILE_MODE)).map_err(|errno| make()(errno.into()))?;
        std::fs::set_permissions(&new, Permissions::from_mode(FILE_MODE)).map_err(make())?;
        let file = open_pipe(&new, OpenOptions::new().read(true).write(true));
        let file = file.map_err(|error| RoomError::content(path, error.to_string()))?;
        let file = locked(file).map_err(make())?;
        // What the kernel refuses is only time to be late in.
        let _ = fcntl(file.as_fd(), FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        // The mixer notices it when it has its name, and can open it then.
        std::fs::rename(&new, path).map_err(make())?;
        Ok(Self { file, path: path.to_owned(), format, bytes: Vec::new() })
    }

    /// Appends what is in the pipe, at most about a megabyte; 0 when nothing is there now.
    ///
    /// # Errors
    /// What `read(2)` says, except that nothing is there.
    pub fn read(&mut self, takes: &mut Vec<Take>) -> io::Result<usize> {
        let record = HEAD_BYTES + self.format.frame_bytes();
        // Whole records: the next read begins with the next one.
        self.bytes.resize(record * (PIPE_BYTES as usize / record), 0);
        let got = match (&*self.file).read(&mut self.bytes) {
            Ok(got) => got,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(error) => return Err(error),
        };
        let before = takes.len();
        takes.extend(self.bytes[..got].chunks_exact(record).filter_map(take));
        Ok(takes.len() - before)
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

/// Nothing where the name is not one.
fn take(record: &[u8]) -> Option<Take> {
    let (time, rest) = record.split_first_chunk::<TIME_BYTES>()?;
    let (name, samples) = rest.split_first_chunk::<NAME_BYTES>()?;
    let name = name.split(|&byte| byte == 0).next().and_then(|name| std::str::from_utf8(name).ok())?;
    let frame = samples.chunks_exact(2).map(|sample| i16::from_le_bytes([sample[0], sample[1]])).collect();
    Some(Take { at: Duration::from_nanos(u64::from_le_bytes(*time)), name: name.parse().ok()?, frame })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn name(name: &str) -> Name {
        name.parse().unwrap()
    }

    #[test]
    fn takes_come_out_as_they_went_in() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("recording");
        assert!(matches!(RecordingWriter::open(&path), Err(OpenError::Missing(_))));
        let mut reader = RecordingReader::create(&path, Format::default()).unwrap();
        let mut writer = RecordingWriter::open(&path).unwrap();
        let takes: Vec<Take> = [("a", 20), ("bob", 20), (&"z".repeat(32), 40)]
            .map(|(who, ms)| Take { at: Duration::from_millis(ms), name: name(who), frame: vec![ms as i16; 480] })
            .to_vec();
        for take in &takes {
            assert_eq!(writer.write(take.at, &take.name, &take.frame), Wrote::Whole);
        }
        let mut read = Vec::new();
        assert_eq!(reader.read(&mut read).unwrap(), 3);
        assert_eq!(read, takes);
        assert_eq!(reader.read(&mut read).unwrap(), 0);
        drop(reader);
        assert_eq!(writer.write(Duration::ZERO, &name("a"), &[0; 480]), Wrote::Gone);
        assert!(!path.exists());
    }

    #[test]
    fn a_reader_that_is_late_loses_whole_records() {
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
    fn a_second_reader_is_refused_and_a_pipe_left_behind_is_replaced() {
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
