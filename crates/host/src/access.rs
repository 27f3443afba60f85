//! Tests which files another user may use. The kernel gives the answer, so access control lists and security modules count.

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{self, AccessFlags, Gid, Uid};

/// Permission to read a file, or to list a directory.
pub const READ: u32 = 0o4;
/// Permission to write to a file, or to change the entries of a directory.
pub const WRITE: u32 = 0o2;
/// Permission to use the entries of a directory.
pub const SEARCH: u32 = 0o1;

/// A user and the user's groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group ids; the first is the primary group.
    pub gids: Vec<u32>,
}

impl User {
    /// Returns the effective user and the groups of a process; `None` if the process doesn't run.
    #[must_use]
    pub fn of_process(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }

    /// Parses proc_pid_status(5). Each of its lines `Uid` and `Gid` has four ids; the second is the effective id.
    fn parse(status: &str) -> Option<Self> {
        let numbers = |key: &str| -> Option<Vec<u32>> {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().map(|number| number.parse().ok()).collect()
        };
        let (uid, gid) = (*numbers("Uid:")?.get(1)?, *numbers("Gid:")?.get(1)?);
        let others = numbers("Groups:").unwrap_or_default().into_iter().filter(|other| *other != gid);
        Some(Self { uid, gids: [gid].into_iter().chain(others).collect() })
    }

    /// Returns whether this user has the permissions `bits` on the file at `path`. `None` if this process can't test it: only
    /// root can test the permissions of another user, and the kernel may refuse the test.
    #[must_use]
    pub fn may(&self, path: &Path, bits: u32) -> Option<bool> {
        let own = unistd::geteuid();
        if own.as_raw() == self.uid {
            return is_permitted(path, bits);
        }
        own.is_root().then(|| self.may_as_root(path, bits).ok()).flatten().flatten()
    }

    /// Tests the permission with the user's ids as file system ids: setfsuid(2).
    fn may_as_root(&self, path: &Path, bits: u32) -> io::Result<Option<bool>> {
        let groups = unistd::getgroups()?;
        unistd::setgroups(&self.gids.iter().copied().map(Gid::from_raw).collect::<Vec<_>>())?;
        let gid = unistd::setfsgid(Gid::from_raw(self.gids.first().copied().unwrap_or_default()));
        let uid = unistd::setfsuid(Uid::from_raw(self.uid));
        let permitted = is_permitted(path, bits);
        unistd::setfsuid(uid);
        unistd::setfsgid(gid);
        unistd::setgroups(&groups)?;
        Ok(permitted)
    }
}

/// Asks the kernel whether the effective user of this thread has the permissions `bits`, whose values are those of access(2). `None` if
/// the kernel doesn't answer, for example because a filter of system calls forbids faccessat2(2).
fn is_permitted(path: &Path, bits: u32) -> Option<bool> {
    let mode = AccessFlags::from_bits_truncate(bits.cast_signed());
    match unistd::faccessat(AT_FDCWD, path, mode, AtFlags::AT_EACCESS) {
        Ok(()) => Some(true),
        Err(Errno::EACCES | Errno::EROFS | Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Some(false),
        Err(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};

    /// A user id and group id that no user has.
    const OTHER: u32 = 54_321;

    #[test]
    fn user_and_groups_are_read_from_status() {
        let user = User::parse("Name:\tx\nUid:\t0\t7\t0\t0\nGid:\t1\t8\t1\t1\nGroups:\t8 9 10 \n").unwrap();
        assert_eq!((user.uid, user.gids), (7, vec![8, 9, 10]));
    }

    #[test]
    fn own_permissions_are_tested() {
        let own = User::of_process(std::process::id()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(own.may(dir.path(), READ | WRITE | SEARCH), Some(true));
        assert_eq!(own.may(&dir.path().join("missing"), READ), Some(false));
    }

    /// Root tests the permissions of another user. Other users can't do that.
    #[test]
    fn permissions_of_another_user_are_tested_by_root_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        let other = User { uid: OTHER, gids: vec![OTHER] };
        if !unistd::geteuid().is_root() {
            return assert_eq!(other.may(&file, READ), None);
        }
        assert_eq!((other.may(dir.path(), SEARCH), other.may(&file, READ)), (Some(true), Some(false)));
        chown(&file, None, Some(OTHER)).unwrap();
        assert_eq!((other.may(&file, READ), other.may(&file, WRITE)), (Some(true), Some(false)));
        assert_eq!(User::of_process(std::process::id()).unwrap().may(&file, WRITE), Some(true), "root again");
    }
}
