//! The reading end of a pipe, which has one reader.
//!
//! A reader opens the pipe for reading *and* writing, so that it never sees an end of file while writers come and go
//! (fifo(7)). The reader locks the pipe with flock(2), so that a second reader is refused and can't take frames away.
//! The reader sets the pipe's size, since the default of 64 KiB would hold more than a second of old sound.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use nix::libc::{self, F_RDLCK, F_UNLCK, F_WRLCK, O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK};

use crate::{EarFrames, FileId, FileKind, Format, OpenError, PIPE_MS, lookup};

/// Maximum time for which half a sample waits for the other half, in ms.
pub(crate) const STRAY_MS: u64 = 100;
/// Maximum number of bytes that are read at once.
const READ_BYTES: usize = 8192;
/// Maximum number of reads that discard old sound, since a writer may be faster than the reader.
const DISCARD_READS: usize = 32;

/// What happens to old sound that is in the pipe when the pipe is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The old sound is discarded.
    Discard,
    /// The old sound is kept.
    Keep,
}

/// A pipe that is open for reading and locked. Dropping the `PipeReader` releases the lock.
#[derive(Debug)]
pub struct PipeReader {
    file: Flock<File>,
    id: FileId,
    /// Bytes that were read and not returned: a part of a sample, and what followed it while the part was incomplete.
    held: Vec<u8>,
    /// Bytes of a sample: 2, or 4 in a pipe with sums.
    sample_bytes: usize,
    /// Time since which a part of a sample was left over each time that the pipe was empty.
    odd_since: Option<Instant>,
    stray_bytes: u64,
    size_refused: bool,
}

/// A pipe that is open, but locked by its present reader. While the `Successor` exists, the pipe keeps its content.
#[derive(Debug)]
pub struct Successor {
    file: File,
    id: FileId,
    path: PathBuf,
    sample_bytes: usize,
    pipe_bytes: usize,
}

impl PipeReader {
    /// Opens the pipe at `path`, locks the pipe, and sets the pipe's size to 400 ms of `format`.
    ///
    /// # Errors
    /// [`OpenError::Taken`], [`OpenError::Missing`], [`OpenError::NotAPipe`], or [`OpenError::Io`].
    pub fn open(path: &Path, format: Format, start: Start) -> Result<Self, OpenError> {
        Self::begin(Self::succeed(path, format)?, start)
    }

    /// Opens a pipe with sums of 32 bits per sample, as [`Self::open`]. Only [`Self::read_sums`] may read it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_sums(path: &Path, format: Format, start: Start) -> Result<Self, OpenError> {
        Self::begin(Self::waiting(path, 4, format.sum_bytes_in_ms(PIPE_MS))?, start)
    }

    fn begin(waiting: Successor, start: Start) -> Result<Self, OpenError> {
        let mut reader = waiting.take().map_err(|(_, error)| error)?;
        if start == Start::Discard {
            reader.discard();
        }
        Ok(reader)
    }

    /// Opens the pipe without requesting the lock, to take over from its present reader.
    ///
    /// # Errors
    /// [`OpenError::Missing`], [`OpenError::NotAPipe`], or [`OpenError::Io`].
    pub fn succeed(path: &Path, format: Format) -> Result<Successor, OpenError> {
        Self::waiting(path, 2, format.bytes_in_ms(PIPE_MS))
    }

    /// Opens the pipe as [`Self::succeed`]. The pipe's size will be enough for two writes of `frames`.
    ///
    /// # Errors
    /// As [`Self::succeed`].
    pub fn succeed_with(path: &Path, format: Format, frames: EarFrames) -> Result<Successor, OpenError> {
        Self::waiting(path, 2, format.bytes_in_ms(frames.pipe_ms()))
    }

    fn waiting(path: &Path, sample_bytes: usize, pipe_bytes: usize) -> Result<Successor, OpenError> {
        let file = open_pipe(path, OpenOptions::new().read(true).write(true))?;
        let metadata = file.metadata().map_err(|error| OpenError::io(path, error))?;
        Ok(Successor { file, id: FileId::of(&metadata), path: path.to_owned(), sample_bytes, pipe_bytes })
    }

    /// Returns whether a [`Successor`] has requested the lock.
    pub fn is_awaited(&self) -> bool {
        let mut request = whole_pipe(F_WRLCK);
        fcntl(&*self.file, FcntlArg::F_OFD_GETLK(&mut request)).is_ok() && i32::from(request.l_type) != F_UNLCK
    }

    /// Appends at most `max_samples` from the pipe to `out` and returns their number, which is 0 if the pipe is empty.
    ///
    /// If half a sample is left over each time that the pipe is empty, for 100 ms, a writer has written a stray byte.
    /// The following bytes are held back meanwhile, because they would be decoded as noise. Then the stray byte is
    /// discarded. Call this again at [`PipeReader::stray_deadline`].
    ///
    /// # Errors
    /// The error of read(2), except `EAGAIN` and `EINTR`.
    pub fn read(&mut self, now: Instant, out: &mut Vec<i16>, max_samples: usize) -> io::Result<usize> {
        let whole = self.read_whole(now, max_samples)?;
        out.extend(self.held[..whole].as_chunks::<2>().0.iter().map(|&bytes| i16::from_le_bytes(bytes)));
        self.held.drain(..whole);
        Ok(whole / 2)
    }

    /// Reads as [`Self::read`] from a pipe that was opened by [`Self::open_sums`].
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_sums(&mut self, now: Instant, out: &mut Vec<i32>, max_samples: usize) -> io::Result<usize> {
        let whole = self.read_whole(now, max_samples)?;
        out.extend(self.held[..whole].as_chunks::<4>().0.iter().map(|&bytes| i32::from_le_bytes(bytes)));
        self.held.drain(..whole);
        Ok(whole / 4)
    }

    /// Reads from the pipe. Returns the number of bytes at the beginning of `held` that are whole samples.
    fn read_whole(&mut self, now: Instant, max_samples: usize) -> io::Result<usize> {
        let was_odd = !self.held.is_empty();
        let is_empty = self.fill(max_samples * self.sample_bytes)?;
        let odd = self.held.len() % self.sample_bytes;
        if was_odd && is_empty && odd > 0 {
            if self.stray_deadline().is_none_or(|deadline| now < deadline) {
                return Ok(0);
            }
            self.held.drain(..odd);
            self.stray_bytes += odd as u64;
        }
        let samples = (self.held.len() / self.sample_bytes).min(max_samples);
        let whole = samples * self.sample_bytes;
        if is_empty {
            self.odd_since = (self.held.len() > whole).then(|| self.odd_since.unwrap_or(now));
        }
        Ok(whole)
    }

    /// Returns the time at which the waiting half of a sample will be discarded; `None` if no half sample is waiting.
    #[must_use]
    pub fn stray_deadline(&self) -> Option<Instant> {
        self.odd_since.map(|since| since + Duration::from_millis(STRAY_MS))
    }

    /// Returns the number of stray bytes that were discarded.
    #[must_use]
    pub fn stray_bytes(&self) -> u64 {
        self.stray_bytes
    }

    /// Returns whether the pipe's size could not be set (`fs.pipe-user-pages-soft`), so that the pipe holds more or
    /// less than 400 ms of sound.
    #[must_use]
    pub fn size_refused(&self) -> bool {
        self.size_refused
    }

    /// Returns the device and inode number of the pipe.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Reads until `max_bytes` are held or the pipe is empty. Returns whether the pipe is empty.
    fn fill(&mut self, max_bytes: usize) -> io::Result<bool> {
        let mut bytes = [0; READ_BYTES];
        loop {
            let wanted = max_bytes.saturating_sub(self.held.len()).min(READ_BYTES);
            if wanted == 0 {
                return Ok(false);
            }
            let got = match (&*self.file).read(&mut bytes[..wanted]) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            self.held.extend_from_slice(&bytes[..got]);
            if got < wanted {
                // Another read(2) would return EAGAIN.
                return Ok(true);
            }
        }
    }

    fn discard(&mut self) {
        let mut bytes = [0; READ_BYTES];
        for _ in 0..DISCARD_READS {
            if !matches!((&*self.file).read(&mut bytes), Ok(got) if got == READ_BYTES) {
                break;
            }
        }
    }
}

impl Successor {
    /// Sets the pipe's size. Returns whether the kernel permits it (`fs.pipe-user-pages-soft`).
    #[must_use]
    pub fn set_size(&self) -> bool {
        set_size(self.file.as_fd(), self.pipe_bytes).is_ok()
    }

    /// Locks the pipe, if its previous reader has closed it; else requests the lock.
    ///
    /// # Errors
    /// [`OpenError::Taken`] or [`OpenError::Io`], with `self` to try again.
    pub fn take(self) -> Result<PipeReader, (Self, OpenError)> {
        let Self { file, id, path, sample_bytes, pipe_bytes } = self;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => {
                let _ = fcntl(&*file, FcntlArg::F_OFD_SETLK(&whole_pipe(F_UNLCK)));
                let size_refused = set_size(file.as_fd(), pipe_bytes).is_err();
                let (held, odd_since, stray_bytes) = (Vec::new(), None, 0);
                Ok(PipeReader { file, id, held, sample_bytes, odd_since, stray_bytes, size_refused })
            }
            Err((file, Errno::EWOULDBLOCK)) => {
                // The request is a lock of another kind (fcntl(2), open file description locks). The request blocks no
                // other process, and `PipeReader::is_awaited` sees the request. Without the request, the previous
                // reader leaves at its own deadline.
                let _ = fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_pipe(F_RDLCK)));
                let taken = OpenError::Taken(path.clone());
                Err((Self { file, id, path, sample_bytes, pipe_bytes }, taken))
            }
            Err((file, errno)) => {
                let error = OpenError::io(&path, errno);
                Err((Self { file, id, path, sample_bytes, pipe_bytes }, error))
            }
        }
    }
}

impl AsFd for PipeReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Opens a FIFO without blocking. A file of another type is not opened, since opening and closing a file causes
/// inotify(7) events.
pub(crate) fn open_pipe(path: &Path, options: &mut OpenOptions) -> Result<File, OpenError> {
    if matches!(lookup(path), Some((FileKind::Regular | FileKind::Other, _))) {
        return Err(OpenError::NotAPipe(path.to_owned()));
    }
    let opened = options.custom_flags(O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC).open(path);
    let file = opened.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENXIO) => OpenError::NoReader(path.to_owned()),
        Some(Errno::ENOENT | Errno::ENOTDIR) => OpenError::Missing(path.to_owned()),
        Some(Errno::ELOOP | Errno::EISDIR) => OpenError::NotAPipe(path.to_owned()),
        _ => OpenError::io(path, error),
    })?;
    let metadata = file.metadata().map_err(|error| OpenError::io(path, error))?;
    if metadata.file_type().is_fifo() { Ok(file) } else { Err(OpenError::NotAPipe(path.to_owned())) }
}

fn whole_pipe(kind: libc::c_int) -> libc::flock {
    // The conversion can't fail: `kind` is a small constant of fcntl(2), such as F_RDLCK.
    let kind = libc::c_short::try_from(kind).unwrap_or_default();
    libc::flock { l_type: kind, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 }
}

/// Sets the pipe's size, which the kernel rounds up to a number of pages that is a power of two.
pub(crate) fn set_size(fd: BorrowedFd<'_>, bytes: usize) -> nix::Result<()> {
    let wanted = i32::try_from(bytes).unwrap_or(i32::MAX);
    if fcntl(fd, FcntlArg::F_GETPIPE_SZ)? == wanted.max(4096).unsigned_abs().next_power_of_two().cast_signed() {
        return Ok(());
    }
    fcntl(fd, FcntlArg::F_SETPIPE_SZ(wanted)).map(drop)
}
