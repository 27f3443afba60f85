//! Small text files that are read with a maximum size and replaced as a whole.
//!
//! Every member of the group may create any file in the directories, so symbolic links are not followed, opening a file
//! never blocks, and only regular files are read.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FallocateFlags, fallocate};
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};

use crate::RoomError;

/// Mode of the files, pipes and sockets of a room.
pub(crate) const FILE_MODE: u32 = 0o660;
/// Minimum disk space that is reserved for a file, in bytes, so that the file can be overwritten when the file system
/// is full.
const RESERVED_BYTES: usize = 4096;

/// Returns the text of a regular file, or `None` if there is no file at `path`.
pub(crate) fn read(path: &Path, max_bytes: u64) -> Result<Option<String>, RoomError> {
    let Some(bytes) = read_bytes(path, max_bytes)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|_| RoomError::content(path, "the file is not UTF-8 text"))
}

/// Returns the content of a regular file, or `None` if there is no file at `path`.
pub(crate) fn read_bytes(path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>, RoomError> {
    let read = RoomError::io("read", path);
    let file = match OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(read(error)),
    };
    let Some(metadata) = file.metadata().ok().filter(fs::Metadata::is_file) else {
        return Err(RoomError::content(path, "the file is not a regular file"));
    };
    // One read(2) gets the content, and another one the end of the file.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(max_bytes)).unwrap_or(0) + 1);
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > max_bytes {
        return Err(RoomError::content(path, format!("the file is longer than {max_bytes} bytes")));
    }
    Ok(Some(bytes))
}

/// Replaces a file of a room. If no space is left, the file is overwritten instead, and a reader may see a part of it.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), RoomError> {
    write_bytes(path, text.as_bytes())
}

/// Replaces a file of a room as [`write`] does; the content need not be text.
pub(crate) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), RoomError> {
    let replaced = replace_with(path, FILE_MODE, |file| {
        reserve(file, bytes.len())?;
        file.write_all(bytes)
    });
    let written = match replaced {
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            overwrite(path, bytes).map_err(|_| error)
        }
        other => other,
    };
    written.map_err(RoomError::io("write", path))
}

/// Writes a file of a room, or removes the file if `text` is `None`.
pub(crate) fn write_or_remove(path: &Path, text: Option<String>) -> Result<(), RoomError> {
    match text {
        Some(text) => write(path, &text),
        None => match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RoomError::io("remove", path)(error)),
            _ => Ok(()),
        },
    }
}

/// Replaces the file at `path`, so that readers and a crash see either the old or the new content. When the function
/// returns, the content is on the disk, and the file has `mode` whatever the umask. The file keeps its group; a new file
/// gets the group of its directory, if this process may set that group.
///
/// # Errors
/// The file can't be created, written or renamed. The file at `path` is unchanged then.
pub fn replace_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    replace_with(path, mode, |file| {
        keep_group(file, path)?;
        file.write_all(content)?;
        file.sync_all()
    })
}

/// Sets the mode of the file at `path`, unless the file already has this mode, since the file may belong to another
/// user. Symbolic links are not followed.
pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), RoomError> {
    let examine = RoomError::io("examine", path);
    if std::fs::symlink_metadata(path).map_err(examine)?.permissions().mode() & 0o7777 == mode {
        return Ok(());
    }
    let changed = fchmodat(AT_FDCWD, path, Mode::from_bits_truncate(mode), FchmodatFlags::NoFollowSymlink);
    changed.map_err(|errno| RoomError::io("set the mode of", path)(errno.into()))
}

/// Returns the name for the replacement of `path`: `.NAME.PID`, in the same directory.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

fn replace_with(path: &Path, mode: u32, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let temporary = temporary(path);
    let replaced = create(&temporary, mode).and_then(|mut file| {
        write(&mut file)?;
        std::fs::rename(&temporary, path)
    });
    if replaced.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    replaced
}

/// Gives `file` the group of the file at `path`, or of its directory. Otherwise another user who reads the file as a
/// member of that group could no longer read it.
fn keep_group(file: &File, path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let old = std::fs::symlink_metadata(path).or_else(|_| std::fs::metadata(directory))?;
    if old.gid() == file.metadata()?.gid() {
        return Ok(());
    }
    match fchown(file, None, Some(old.gid())) {
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
        _ => Ok(()),
    }
}

/// Creates a new file. Replaces a file that a killed process left behind.
fn create(path: &Path, mode: u32) -> io::Result<File> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let file = match open() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path)?;
            open()?
        }
        other => other?,
    };
    // In its sandbox, a listener can't call fchmod(2). Its umask gives the file the right mode.
    if file.metadata()?.permissions().mode() & 0o7777 != mode {
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(file)
}

fn reserve(file: &File, bytes: usize) -> io::Result<()> {
    let bytes = i64::try_from(bytes.max(RESERVED_BYTES)).unwrap_or(i64::MAX);
    match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, bytes) {
        Err(errno @ (Errno::ENOSPC | Errno::EDQUOT)) => Err(errno.into()),
        // Any other error means that this file system can't reserve space at all, and is ignored.
        _ => Ok(()),
    }
}

/// Overwrites a file within the disk space that the file already has.
fn overwrite(path: &Path, content: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() != 1 || metadata.blocks() * 512 < content.len() as u64 {
        return Err(io::ErrorKind::StorageFull.into());
    }
    file.write_all_at(content, 0)?;
    file.set_len(content.len() as u64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_content_and_mode_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(temporary(&path), "left behind").unwrap();
        replace_file(&path, b"one", 0o640).unwrap();
        replace_file(&path, b"two", 0o640).unwrap();
        assert_eq!(read(&path, 10).unwrap().unwrap(), "two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn replaced_file_keeps_its_group_and_a_new_file_gets_that_of_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let group = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().gid();
        let own = group("");
        // Only root may set a group that this process doesn't have.
        let theirs = if nix::unistd::geteuid().is_root() { 54_321 } else { own };
        std::os::unix::fs::chown(dir.path(), None, Some(theirs)).unwrap();
        replace_file(&dir.path().join("new"), b"", 0o640).unwrap();
        assert_eq!(group("new"), theirs);
        std::os::unix::fs::chown(dir.path(), None, Some(own)).unwrap();
        replace_file(&dir.path().join("new"), b"", 0o640).unwrap();
        assert_eq!(group("new"), theirs);
    }

    #[test]
    fn an_empty_file_has_space_to_be_overwritten_and_a_linked_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("levels"), dir.path().join("link"));
        write(&path, "").unwrap();
        overwrite(&path, b"alice\ttalking\t-21.3\n").unwrap();
        overwrite(&path, b"short\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "short\n");
        assert!(overwrite(&path, &[b'x'; 1 << 20]).is_err());
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(overwrite(&link, b"x").is_err());
        std::fs::remove_file(&link).unwrap();
        std::fs::hard_link(&path, &link).unwrap();
        assert!(overwrite(&path, b"x").is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "short\n");
    }

    #[test]
    fn the_mode_of_a_links_target_is_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        std::fs::write(&target, "").unwrap();
        std::fs::set_permissions(&target, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(set_mode(&link, 0o660).is_err());
        assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o600);
        set_mode(&target, 0o660).unwrap();
        assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o660);
    }
}
