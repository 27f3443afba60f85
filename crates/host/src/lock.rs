//! One instance only: flock(2) on a file, which the kernel gives back however the process ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::inherit;

/// How often somebody who waits looks again.
const LOOK: Duration = Duration::from_millis(10);

/// A lock that is held until this is dropped or the process ends. Children don't inherit it.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
}

impl Lock {
    /// Takes the lock on the file at `path`, which is made where it doesn't exist and never removed (removing it would
    /// let two processes lock two files of one name). `Ok(None)` when another process has it.
    ///
    /// # Errors
    /// Those of open(2) and flock(2).
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { file })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }

    /// Takes the lock on a file or a directory that exists, and waits at most `patience` for whoever has it. `Ok(None)` when
    /// that wasn't enough.
    ///
    /// # Errors
    /// Those of open(2) and flock(2).
    pub fn wait(path: &Path, patience: Duration) -> io::Result<Option<Self>> {
        let until = Instant::now() + patience;
        let mut file = File::open(path)?;
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => return Ok(Some(Self { file })),
                Err((_, Errno::EWOULDBLOCK)) if Instant::now() >= until => return Ok(None),
                Err((file, Errno::EWOULDBLOCK)) => file,
                Err((_, errno)) => return Err(errno.into()),
            };
            thread::sleep(LOOK);
        }
    }

    /// Puts the lock where a program that replaces this one finds it by [`Self::from_stdin`]: it is held all the time.
    ///
    /// # Errors
    /// Those of dup2(2).
    pub fn to_stdin(&self) -> io::Result<()> {
        inherit::put_on_stdin(&*self.file)
    }

    /// Takes the lock that the program before us has left, from standard input, which is empty afterwards. `Ok(None)` when
    /// another process has it: then it was no lock of ours.
    ///
    /// # Errors
    /// Those of fcntl(2), open(2), dup2(2) and flock(2).
    pub fn from_stdin() -> io::Result<Option<Self>> {
        // Locking what is locked by the same open file description changes nothing: flock(2).
        match Flock::lock(inherit::take_from_stdin()?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { file })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::take(&path).unwrap().unwrap();
        assert!(Lock::take(&path).unwrap().is_none());
        assert!(Lock::wait(&path, Duration::ZERO).unwrap().is_none());
        drop(first);
        assert!(Lock::take(&path).unwrap().is_some());
        assert!(Lock::wait(dir.path(), Duration::ZERO).unwrap().is_some(), "a directory is as good");
    }
}
