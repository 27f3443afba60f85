//! A lock file that identifies the process that holds it, with fcntl(2): any process that may read the file can ask the
//! kernel for the holder's process id, which can't be forged.
//!
//! The kernel releases the lock when the process ends or calls execve(2), since the file is close-on-exec.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Maximum number of bytes that are read from the file.
const MAX_BYTES: u64 = 4096;

/// A held lock. It is released when this is dropped, when another descriptor of the same file is closed, or when the process
/// ends.
#[derive(Debug)]
pub struct Claim {
    file: File,
}

impl Claim {
    /// Locks the file, and creates it if necessary; `None` if another process has the lock. Symbolic links are not followed.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o640);
        let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        match fcntl(&file, FcntlArg::F_SETLK(&whole_file(libc::F_WRLCK))) {
            Ok(_) => Ok(Some(Self { file })),
            Err(Errno::EACCES | Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Replaces the content of the file.
    pub fn say(&self, text: &str) -> io::Result<()> {
        // Truncated first, so that a reader never sees a mixture of old and new text.
        self.file.set_len(0)?;
        self.file.write_all_at(text.as_bytes(), 0)
    }
}

/// Returns the process id of the holder and the content of the file; `None` if nobody holds the lock or the file doesn't exist.
pub fn holder(path: &Path) -> io::Result<Option<(u32, String)>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    // A read lock conflicts with the holder's write lock, and needs no write permission.
    let mut lock = whole_file(libc::F_RDLCK);
    fcntl(&file, FcntlArg::F_GETLK(&mut lock))?;
    let pid = u32::try_from(lock.l_pid).ok().filter(|pid| *pid > 0 && i32::from(lock.l_type) != libc::F_UNLCK);
    let mut said = String::new();
    file.take(MAX_BYTES).read_to_string(&mut said)?;
    Ok(pid.map(|pid| (pid, said)))
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    // The kernel's constants are small: fcntl(2).
    let kind = libc::c_short::try_from(kind).unwrap_or_default();
    libc::flock { l_type: kind, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_file_contains_the_last_text_and_has_no_holder_after_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("claim");
        assert!(holder(&path).unwrap().is_none());
        let claim = Claim::take(&path).unwrap().unwrap();
        claim.say("a long word\n").unwrap();
        claim.say("short\n").unwrap();
        // A process doesn't see its own lock: fcntl(2). The mixer's tests cover what another process sees.
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "short\n");
        drop(claim);
        assert!(holder(&path).unwrap().is_none());
    }
}
