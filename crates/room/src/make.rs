//! Creates directories and pipes in directories into which every member of the group may write.
//!
//! Such a member may replace any entry by a symbolic link at any time. So each directory is opened once, without following a link,
//! and the next entry is created relative to the open directory.

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::libc::{S_IFDIR, S_IFIFO, S_IFMT, S_IFREG};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchown, geteuid, mkfifoat};

use crate::RoomError;
use crate::small_file::FILE_MODE;

/// Mode of the directory that holds the rooms, and of a room's directory. With the sticky bit, only the owner of an entry or of
/// the directory may replace or remove the entry.
pub(crate) const ROOM_MODE: u32 = 0o3770;
/// Mode of a participant's directory.
pub(crate) const PARTICIPANT_MODE: u32 = 0o2770;
/// Mode of a directory into which only its owner writes, and that the group may read.
pub(crate) const SHARED_MODE: u32 = 0o2750;
/// Mode of a directory into which the owner and the directory's own group write.
pub(crate) const OF_GROUP_MODE: u32 = 0o2770;

/// Returns the parent directory and the name of the directory at `path`.
pub(crate) fn split(path: &Path) -> Result<(&Path, &OsStr), RoomError> {
    path.parent().zip(path.file_name()).ok_or_else(|| RoomError::content(path, "the path has no parent directory"))
}

/// An open directory.
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
    /// Owner of the directory with the rooms: the daemons' user.
    rooms_owner: Uid,
}

impl Dir {
    /// Opens the directory at `path`, which only root and the daemons' user may replace. Creates the directory if it doesn't
    /// exist. Symbolic links are followed.
    pub(crate) fn trusted(path: &Path) -> Result<Self, RoomError> {
        let created = DirBuilder::new().recursive(true).mode(ROOM_MODE).create(path);
        created.map_err(RoomError::io("create directory", path))?;
        let fd = open(path, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
        let fd = fd.map_err(failed("open directory", path))?;
        let rooms_owner = Uid::from_raw(fstat(&fd).map_err(failed("examine", path))?.st_uid);
        Ok(Self { fd, path: path.to_owned(), rooms_owner })
    }

    /// Creates the directory `name` with this mode, or opens the present directory and sets its mode. Refuses a symbolic
    /// link, and a directory of a user other than root and the user of this process.
    pub(crate) fn own_dir(&self, name: &OsStr, mode: u32) -> Result<Self, RoomError> {
        let dir = self.dir(name, mode)?;
        let failed = |verb| failed(verb, &dir.path);
        let metadata = fstat(&dir.fd).map_err(failed("examine"))?;
        if metadata.st_uid != geteuid().as_raw() && !Uid::from_raw(metadata.st_uid).is_root() {
            let why = format!("the directory belongs to user {}, not to the daemons' user; remove it", metadata.st_uid);
            return Err(RoomError::content(&dir.path, why));
        }
        // Only the owner may set the mode, and root's directory may have the right mode already.
        let mode = Mode::from_bits_truncate(mode);
        if Mode::from_bits_truncate(metadata.st_mode) != mode {
            fchmod(&dir.fd, mode).map_err(failed("set the mode of"))?;
        }
        Ok(dir)
    }

    /// Does the same as [`Self::own_dir`], with two exceptions for a directory of the owner of the rooms. A process with another user, such as
    /// a listener, accepts the directory as it is. The owner's process doesn't change the mode [`OF_GROUP_MODE`].
    pub(crate) fn shared_dir(&self, name: &OsStr, mode: u32) -> Result<(), RoomError> {
        let present = fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok();
        let present = present.filter(|metadata| metadata.st_mode & S_IFMT == S_IFDIR);
        let keeps = present.is_some_and(|metadata| {
            let owner = Uid::from_raw(metadata.st_uid);
            owner == self.rooms_owner && (owner != geteuid() || metadata.st_mode & 0o7777 == OF_GROUP_MODE)
        });
        if keeps { Ok(()) } else { self.own_dir(name, mode).map(drop) }
    }

    /// Gives the directory `name` to this group, whose members may then write into it. This process must own the directory, and be a member of the group
    /// or root.
    pub(crate) fn give_to_group(&self, name: &OsStr, group: Gid) -> Result<(), RoomError> {
        let dir = self.dir(name, OF_GROUP_MODE)?;
        let failed = |verb| failed(verb, &dir.path);
        fchown(&dir.fd, None, Some(group)).map_err(failed("set the group of"))?;
        fchmod(&dir.fd, Mode::from_bits_truncate(OF_GROUP_MODE)).map_err(failed("set the mode of"))
    }

    /// Opens the directory `name`, whose owner may be anyone. Creates it with this mode if it doesn't exist. Refuses a symbolic
    /// link.
    pub(crate) fn dir(&self, name: &OsStr, mode: u32) -> Result<Self, RoomError> {
        let path = self.path.join(name);
        let failed = |verb| failed(verb, &path);
        match mkdirat(&self.fd, name, Mode::from_bits_truncate(mode)) {
            Err(errno) if errno != Errno::EEXIST => return Err(failed("create directory")(errno)),
            _ => {}
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::ENOTDIR | Errno::ELOOP => {
                RoomError::content(&path, "the file is a symbolic link or not a directory; remove it")
            }
            other => failed("open directory")(other),
        })?;
        Ok(Self { fd, path, rooms_owner: self.rooms_owner })
    }

    /// Creates the pipe `name` with mode 660, or sets the mode of the present pipe. Fails if the file is neither a pipe nor a
    /// regular file. The mixer reads and writes regular files too.
    pub(crate) fn pipe(&self, name: &str) -> Result<(), RoomError> {
        let path = self.path.join(name);
        let failed = |verb| failed(verb, &path);
        let mode = Mode::from_bits_truncate(FILE_MODE);
        match mkfifoat(&self.fd, name, mode) {
            Err(errno) if errno != Errno::EEXIST => return Err(failed("create pipe")(errno)),
            _ => {}
        }
        let metadata = fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed("examine"))?;
        match metadata.st_mode & S_IFMT {
            S_IFREG => Ok(()),
            S_IFIFO if Mode::from_bits_truncate(metadata.st_mode) == mode => Ok(()),
            // Set the mode: the umask has removed bits, or the pipe existed before, with another mode.
            S_IFIFO => {
                let changed = fchmodat(&self.fd, name, mode, FchmodatFlags::NoFollowSymlink);
                changed.map_err(failed("set the mode of"))
            }
            _ => Err(RoomError::content(&path, "the file is neither a named pipe nor a regular file; remove it")),
        }
    }
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(Errno) -> RoomError {
    let error = RoomError::io(verb, path);
    move |errno| error(errno.into())
}
