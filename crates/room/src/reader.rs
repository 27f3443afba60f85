//! The reading end of a pipe: whoever has it keeps the pipe alive, and is the only one.
//!
//! A reader opens for reading *and* writing, so that it never sees an end of file while writers come and go (fifo(7)); takes
//! `flock(2)`, so that a second reader is refused instead of stealing every other frame; and sets the pipe's size, since the
//! kernel's 64 KiB would hide more than a second of stale sound.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use nix::libc::{self, F_RDLCK, F_UNLCK, F_WRLCK, O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK};

use crate::{Format, OpenError, PIPE_MS, PipeId};

/// How long a byte may wait for the other half of its sample, in ms.
pub const STRAY_MS: u64 = 100;
const READ_BYTES: usize = 8192;

/// What to do with sound that was in the pipe before it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It is stale: discard it.
    Discard,
    /// It is a predecessor's, whose work goes on here: keep it.
    Keep,
}

/// A pipe opened for reading; the lock is held until this is dropped.
#[derive(Debug)]
pub struct PipeReader {
    file: Flock<File>,
    id: PipeId,
    /// The first half of a sample whose second half has not come yet.
    half: Option<u8>,
    /// Since when there was such a half each time that the pipe was found empty.
    odd_since: Option<Instant>,
    stray_bytes: u64,
    size_refused: bool,
}

/// A pipe that is open but still locked by its present reader: as long as this exists nothing in the pipe is lost.
#[derive(Debug)]
pub struct Successor {
    file: File,
    id: PipeId,
    path: PathBuf,
    format: Format,
}

impl PipeReader {
    /// Opens the pipe at `path`, locks it and sets its size to 400 ms of `format`.
    ///
    /// # Errors
    /// [`OpenError::Taken`] when another process reads it, [`OpenError::Missing`], [`OpenError::NotAPipe`], or what the system says.
    pub fn open(path: &Path, format: Format, start: Start) -> Result<Self, OpenError> {
        let waiting = Self::succeed(path, format)?;
        let mut reader = waiting.take().map_err(|(_, error)| error)?;
        if start == Start::Discard {
            reader.discard();
        }
        Ok(reader)
    }

    /// Opens the pipe without asking for the lock, to take over from a reader that is about to leave.
    ///
    /// # Errors
    /// As [`PipeReader::open`], but never [`OpenError::Taken`].
    pub fn succeed(path: &Path, format: Format) -> Result<Successor, OpenError> {
        let file = open_pipe(path, OpenOptions::new().read(true).write(true))?;
        let metadata = file.metadata().map_err(|error| OpenError::io(path, error))?;
        Ok(Successor { file, id: PipeId::of(&metadata), path: path.to_owned(), format })
    }

    /// Whether a [`Successor`] has asked for the lock and waits for this reader to leave.
    pub fn is_awaited(&self) -> bool {
        let mut wish = whole_pipe(F_WRLCK);
        fcntl(&*self.file, FcntlArg::F_OFD_GETLK(&mut wish)).is_ok() && i32::from(wish.l_type) != F_UNLCK
    }

    /// Appends what is in the pipe to `out`, at most `max_samples`, and says how many that were: 0 means nothing is there now.
    ///
    /// Whoever writes whole samples leaves whole samples: a half that was there each time the pipe was found empty for
    /// [`STRAY_MS`] is a stray byte and is discarded, be it alone or before a voice. Call again at
    /// [`PipeReader::stray_deadline`].
    ///
    /// # Errors
    /// What `read(2)` says, except that nothing is there.
    pub fn read(&mut self, now: Instant, out: &mut Vec<i16>, max_samples: usize) -> io::Result<usize> {
        let mut bytes = [0; READ_BYTES];
        let before = out.len();
        loop {
            let left = max_samples.saturating_sub(out.len() - before);
            let wanted = (left * 2).saturating_sub(usize::from(self.half.is_some())).min(READ_BYTES);
            if wanted == 0 {
                break;
            }
            let got = match (&*self.file).read(&mut bytes[..wanted]) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            self.decode(&bytes[..got], out);
            if got < wanted {
                // The pipe is empty: save the system call that would only say so.
                self.found_empty(now);
                break;
            }
        }
        Ok(out.len() - before)
    }

    /// When the byte that waits alone, if there is one, may be discarded.
    #[must_use]
    pub fn stray_deadline(&self) -> Option<Instant> {
        self.odd_since.map(|since| since + Duration::from_millis(STRAY_MS))
    }

    /// How many bytes were discarded because the other half of their sample never came.
    #[must_use]
    pub fn stray_bytes(&self) -> u64 {
        self.stray_bytes
    }

    /// Whether the kernel refused the pipe's size (`fs.pipe-user-pages-soft`): sound may be lost early, or be stale.
    #[must_use]
    pub fn size_refused(&self) -> bool {
        self.size_refused
    }

    /// Which pipe this is.
    #[must_use]
    pub fn id(&self) -> PipeId {
        self.id
    }

    fn decode(&mut self, mut bytes: &[u8], out: &mut Vec<i16>) {
        if let (Some(low), Some((&high, rest))) = (self.half, bytes.split_first()) {
            out.push(i16::from_le_bytes([low, high]));
            self.half = None;
            bytes = rest;
        }
        let (pairs, odd) = bytes.as_chunks::<2>();
        out.extend(pairs.iter().map(|&pair| i16::from_le_bytes(pair)));
        if let [low] = odd {
            self.half = Some(*low);
        }
    }

    fn found_empty(&mut self, now: Instant) {
        if self.stray_deadline().is_some_and(|deadline| now >= deadline) && self.half.take().is_some() {
            self.stray_bytes += 1;
        }
        self.odd_since = self.half.and(self.odd_since.or(Some(now)));
    }

    /// Bounded, as a writer may write faster than this reads.
    fn discard(&mut self) {
        let mut bytes = [0; READ_BYTES];
        for _ in 0..32 {
            if !matches!((&*self.file).read(&mut bytes), Ok(got) if got == READ_BYTES) {
                break;
            }
        }
    }
}

impl Successor {
    /// The reader, if the one before has left.
    ///
    /// # Errors
    /// [`OpenError::Taken`] with `self` to try again, or what the system says.
    pub fn take(self) -> Result<PipeReader, (Self, OpenError)> {
        let Self { file, id, path, format } = self;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => {
                let _ = fcntl(&*file, FcntlArg::F_OFD_SETLK(&whole_pipe(F_UNLCK)));
                let size_refused = set_size(file.as_fd(), format).is_err();
                Ok(PipeReader { file, id, half: None, odd_since: None, stray_bytes: 0, size_refused })
            }
            Err((file, Errno::EWOULDBLOCK)) => {
                // The wish is a lock of the other kind (fcntl(2), open file descriptions), which hinders nobody and is seen by
                // `PipeReader::is_awaited`. Where it can't be had the reader leaves when its own time is over.
                let _ = fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_pipe(F_RDLCK)));
                let taken = OpenError::Taken(path.clone());
                Err((Self { file, id, path, format }, taken))
            }
            Err((file, errno)) => {
                let error = OpenError::io(&path, errno);
                Err((Self { file, id, path, format }, error))
            }
        }
    }
}

impl AsFd for PipeReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Opens without waiting and without following links; only a FIFO will do.
pub(crate) fn open_pipe(path: &Path, options: &mut OpenOptions) -> Result<File, OpenError> {
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
    // The kernel's constants are small: fcntl(2).
    let kind = libc::c_short::try_from(kind).unwrap_or_default();
    libc::flock { l_type: kind, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 }
}

/// A pipe is a latency budget: 400 ms, which the kernel rounds up to a power of two of pages.
pub(crate) fn set_size(fd: BorrowedFd<'_>, format: Format) -> nix::Result<()> {
    let wanted = i32::try_from(format.bytes_in_ms(PIPE_MS)).unwrap_or(i32::MAX);
    if fcntl(fd, FcntlArg::F_GETPIPE_SZ)? == wanted.max(4096).unsigned_abs().next_power_of_two().cast_signed() {
        return Ok(());
    }
    fcntl(fd, FcntlArg::F_SETPIPE_SZ(wanted)).map(drop)
}
