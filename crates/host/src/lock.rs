//! Locks with flock(2), which the kernel releases however the process ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::inherit;

/// Interval between attempts while waiting.
const RETRY: Duration = Duration::from_millis(10);

/// A lock on a file, exclusive or shared: flock(2). It is held until this value is dropped or the process ends. Child processes don't inherit
/// the lock.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
}

impl Lock {
    /// Locks the file at `path`; `None` if another process has the lock.
    ///
    /// The file is created if necessary and never removed: otherwise two processes could lock two files of the same name.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { file })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }

    /// Takes a shared lock on the file at `path`, which is created if necessary; `None` if another process has an exclusive lock
    /// on the file.
    pub fn share(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
            }
            result => result,
        };
        match Flock::lock(file?, FlockArg::LockSharedNonblock) {
            Ok(file) => Ok(Some(Self { file })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }

    /// Locks an existing file or directory, and waits at most `timeout` for another process to release it; `None` after the
    /// timeout.
    pub fn wait(path: &Path, timeout: Duration) -> io::Result<Option<Self>> {
        let until = Instant::now() + timeout;
        let mut file = File::open(path)?;
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => return Ok(Some(Self { file })),
                Err((_, Errno::EWOULDBLOCK)) if Instant::now() >= until => return Ok(None),
                Err((file, Errno::EWOULDBLOCK)) => file,
                Err((_, errno)) => return Err(errno.into()),
            };
            thread::sleep(RETRY);
        }
    }

    /// Duplicates the lock to standard input, from which the next program takes it with [`Self::from_stdin`]. The lock is
    /// held across exec.
    pub fn to_stdin(&self) -> io::Result<()> {
        inherit::put_on_stdin(&*self.file)
    }

    /// Takes the lock that the previous program left on standard input, and redirects standard input from `/dev/null`. `None`
    /// if another process has the lock.
    pub fn from_stdin() -> io::Result<Option<Self>> {
        // If the open file description has the lock already, locking it again succeeds and changes nothing: flock(2).
        match Flock::lock(inherit::take_stdin()?, FlockArg::LockExclusiveNonblock) {
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
    fn a_lock_has_one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::take(&path).unwrap().unwrap();
        assert!(Lock::take(&path).unwrap().is_none());
        assert!(Lock::wait(&path, Duration::ZERO).unwrap().is_none());
        drop(first);
        assert!(Lock::take(&path).unwrap().is_some());
        assert!(Lock::wait(dir.path(), Duration::ZERO).unwrap().is_some());
    }

    #[test]
    fn a_shared_lock_excludes_only_a_lock_of_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        drop(Lock::share(&path).unwrap().unwrap());
        assert!(path.exists(), "the file is created");
        let alone = Lock::take(&path).unwrap().unwrap();
        assert!(Lock::share(&path).unwrap().is_none());
        drop(alone);
        let _shared = [Lock::share(&path).unwrap().unwrap(), Lock::share(&path).unwrap().unwrap()];
        assert!(Lock::take(&path).unwrap().is_none());
    }
}
