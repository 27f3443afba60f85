//! A file whose lock says which process does a job: a lock of fcntl(2), so that anybody who may read the file can ask the
//! kernel for the process id, and nobody can say another one's.
//!
//! The lock goes with the process, also with execve(2) where the file is close-on-exec, as it is here.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// The most bytes that are read of what the holder has written.
const MAX_BYTES: u64 = 4096;

/// A claim, held until the process ends. (Dropping it, or closing another descriptor of the same file, gives it back.)
#[derive(Debug)]
pub struct Claim {
    file: File,
}

impl Claim {
    /// Makes the file where there is none and locks it. `Ok(None)` when another process has it.
    ///
    /// # Errors
    /// Those of open(2) and fcntl(2).
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(path)?;
        match fcntl(&file, FcntlArg::F_SETLK(&whole_file(libc::F_WRLCK))) {
            Ok(_) => Ok(Some(Self { file })),
            Err(Errno::EACCES | Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes what the holder has to say in place of what stands there.
    ///
    /// # Errors
    /// Those of write(2) and ftruncate(2).
    pub fn say(&self, text: &str) -> io::Result<()> {
        // Emptied first: who reads meanwhile sees nothing, not something of both.
        self.file.set_len(0)?;
        self.file.write_all_at(text.as_bytes(), 0)
    }
}

/// Who holds the claim, and what they have said. `Ok(None)` where nobody does, or there is no such file.
///
/// # Errors
/// Those of open(2), fcntl(2) and read(2).
pub fn holder(path: &Path) -> io::Result<Option<(u32, String)>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    // One for reading: it would wait for the holder's, which is for writing, and needs no right to write.
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
    fn nobody_holds_what_nobody_has_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("claim");
        assert!(holder(&path).unwrap().is_none());
        let claim = Claim::take(&path).unwrap().unwrap();
        claim.say("a long word\n").unwrap();
        claim.say("short\n").unwrap();
        // Our own lock is none to ourselves: fcntl(2). What another process sees is tested with the mixer.
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "short\n");
        drop(claim);
        assert!(holder(&path).unwrap().is_none());
    }
}
