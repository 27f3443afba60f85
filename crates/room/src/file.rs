//! Identifies the file at a path, and opens a regular file that is in the place of a pipe.
//!
//! Every member of the group may create any file in a room's directory, so symbolic links are not followed and opening
//! never blocks.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::{O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK};

use crate::OpenError;

/// Identifies a file by device and inode number. A path's identity changes when its file is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Returns the device and inode number of the file at `path`. A symbolic link is not followed: it has its own inode number.
///
/// # Errors
/// The error of lstat(2).
pub fn file_id(path: &Path) -> io::Result<FileId> {
    Ok(FileId::of(&std::fs::symlink_metadata(path)?))
}

/// Type of the file at the path of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A FIFO.
    Pipe,
    /// A regular file.
    Regular,
    /// A symbolic link, a directory, a device or a socket: never opened.
    Other,
}

/// Returns the type, device and inode number of the file at `path`, or `None` if there is no file. A symbolic link is not
/// followed.
#[must_use]
pub fn lookup(path: &Path) -> Option<(FileKind, FileId)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    let kind = match metadata.file_type() {
        kind if kind.is_fifo() => FileKind::Pipe,
        kind if kind.is_file() => FileKind::Regular,
        _ => FileKind::Other,
    };
    Some((kind, FileId::of(&metadata)))
}

/// Returns the target of the symbolic link at `path` if the target is a regular file in `directory`. Returns `path` in all
/// other cases, and such a link is not followed.
#[must_use]
pub fn target_in(directory: Option<&Path>, path: &Path) -> PathBuf {
    let target = directory
        .and_then(|directory| std::fs::read_link(path).ok().filter(|target| target.parent() == Some(directory)));
    let target = target.filter(|target| matches!(lookup(target), Some((FileKind::Regular, _))));
    target.unwrap_or_else(|| path.to_owned())
}

/// Opens a file outside of a room's directory for reading. A symbolic link is followed. Fails at once if the path is not a
/// regular file, for example a FIFO without a writer.
///
/// # Errors
/// The error of open(2), or [`io::ErrorKind::InvalidInput`] if the file is not a regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK | O_CLOEXEC).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "the file is not a regular file")),
    }
}

/// An open regular file.
#[derive(Debug)]
pub struct RegularFile {
    file: File,
    id: FileId,
}

impl RegularFile {
    /// Opens the file at `path` for reading.
    ///
    /// # Errors
    /// [`OpenError::Missing`], [`OpenError::NotAFile`], or [`OpenError::Io`].
    pub fn open_to_read(path: &Path) -> Result<Self, OpenError> {
        Self::open(path, OpenOptions::new().read(true))
    }

    /// Opens the file at `path`, which must exist, for reading and writing.
    ///
    /// # Errors
    /// [`OpenError::Missing`], [`OpenError::NotAFile`], or [`OpenError::Io`].
    pub fn open_to_write(path: &Path) -> Result<Self, OpenError> {
        Self::open(path, OpenOptions::new().read(true).write(true))
    }

    /// Returns the device and inode number of the file.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Returns the file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns the file.
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }

    fn open(path: &Path, options: &mut OpenOptions) -> Result<Self, OpenError> {
        // O_NONBLOCK: a pipe may have taken the file's place.
        let opened = options.custom_flags(O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC).open(path);
        let file = opened.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ENOTDIR) => OpenError::Missing(path.to_owned()),
            Some(Errno::ELOOP | Errno::EISDIR | Errno::ENXIO) => OpenError::NotAFile(path.to_owned()),
            _ => OpenError::io(path, error),
        })?;
        let metadata = file.metadata().map_err(|error| OpenError::io(path, error))?;
        if !metadata.is_file() {
            return Err(OpenError::NotAFile(path.to_owned()));
        }
        Ok(Self { file, id: FileId::of(&metadata) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::RoomDir;

    #[test]
    fn a_link_is_followed_only_to_a_regular_file_in_the_directory() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (disk, link) = (dir.path().join("disk"), dir.path().join("link"));
        std::fs::create_dir_all(disk.join("below")).unwrap();
        for file in [disk.join("a.wav"), disk.join("below/b.wav"), elsewhere.path().join("c.wav")] {
            std::fs::write(file, "").unwrap();
        }
        std::os::unix::fs::symlink(elsewhere.path().join("c.wav"), disk.join("link.wav")).unwrap();
        let targets =
            ["a.wav", "below/b.wav", "below/../a.wav", "../disk/a.wav", "link.wav", "below", "..", "none.wav"];
        for target in targets.map(|name| disk.join(name)).into_iter().chain([elsewhere.path().join("c.wav")]) {
            std::os::unix::fs::symlink(&target, &link).unwrap();
            let followed = target_in(Some(&disk), &link);
            assert_eq!(followed == target, target == disk.join("a.wav"), "{}", target.display());
            assert!(followed == target || followed == link);
            assert_eq!(target_in(None, &link), link);
            std::fs::remove_file(&link).unwrap();
        }
    }

    #[test]
    fn pipes_regular_files_and_others_are_distinguished() {
        let dir = tempfile::tempdir().unwrap();
        let alice = RoomDir::new(dir.path()).participant(&"alice".parse().unwrap());
        alice.create().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let paths = [alice.mic(), file.clone(), link.clone(), dir.path().to_owned(), dir.path().join("none")];
        let kinds = paths.map(|path| lookup(&path).map(|(kind, _)| kind));
        use FileKind::{Other, Pipe, Regular};
        assert_eq!(kinds, [Some(Pipe), Some(Regular), Some(Other), Some(Other), None]);
        assert_ne!(file_id(&link).unwrap(), file_id(&file).unwrap());
        assert!(RegularFile::open_to_read(&file).is_ok());
        for path in [&alice.mic(), &link, &dir.path().to_owned()] {
            assert!(matches!(RegularFile::open_to_read(path), Err(OpenError::NotAFile(_))), "{}", path.display());
            assert!(RegularFile::open_to_write(path).is_err());
        }
        assert!(matches!(RegularFile::open_to_read(&dir.path().join("none")), Err(OpenError::Missing(_))));
        assert!(open_regular(&file).is_ok() && open_regular(&link).is_ok());
        for path in [&alice.mic(), dir.path(), Path::new("/dev/null"), &dir.path().join("none")] {
            assert!(open_regular(path).is_err(), "{}", path.display());
        }
    }
}
