//! A regular file in a pipe's place: what lies at a path, and how a file there is opened.
//!
//! Whoever is in the group may put anything there, so no link is followed and nothing is waited for. What the bytes mean
//! (a WAV that grows) is for whoever opens it to know.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::libc::{O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK};

use crate::{OpenError, PipeId};

/// What lies where a pipe is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A FIFO.
    Pipe,
    /// A regular file.
    File,
    /// Something that has no business there: a link, a directory, a device.
    Other,
}

/// What lies at `path`, links not followed; `None` where there is nothing.
#[must_use]
pub fn kind(path: &Path) -> Option<Kind> {
    let kind = std::fs::symlink_metadata(path).ok()?.file_type();
    Some(match kind {
        kind if kind.is_fifo() => Kind::Pipe,
        kind if kind.is_file() => Kind::File,
        _ => Kind::Other,
    })
}

/// A regular file that is read while another program writes it, or written while others read it.
#[derive(Debug)]
pub struct SoundFile {
    file: File,
    id: PipeId,
}

impl SoundFile {
    /// Opens the file at `path` for reading.
    ///
    /// # Errors
    /// [`OpenError::Missing`], [`OpenError::NotAFile`], or what the system says.
    pub fn read(path: &Path) -> Result<Self, OpenError> {
        Self::open(path, OpenOptions::new().read(true))
    }

    /// Opens the file at `path` for reading and writing. It must be there.
    ///
    /// # Errors
    /// [`OpenError::Missing`], [`OpenError::NotAFile`], or what the system says.
    pub fn write(path: &Path) -> Result<Self, OpenError> {
        Self::open(path, OpenOptions::new().read(true).write(true))
    }

    fn open(path: &Path, options: &mut OpenOptions) -> Result<Self, OpenError> {
        // O_NONBLOCK: a pipe that took the file's place must not stop us.
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
        Ok(Self { file, id: PipeId::of(&metadata) })
    }

    /// Which file this is.
    #[must_use]
    pub fn id(&self) -> PipeId {
        self.id
    }

    /// Bytes that are in it now.
    ///
    /// # Errors
    /// What `fstat(2)` says.
    pub fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// When somebody last wrote into it.
    ///
    /// # Errors
    /// What `fstat(2)` says.
    pub fn modified(&self) -> io::Result<SystemTime> {
        self.file.metadata()?.modified()
    }

    /// Reads at `offset` as much as is there, at most as much as `bytes` holds; says how much.
    ///
    /// # Errors
    /// What `pread(2)` says.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < bytes.len() {
            match self.file.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Writes all of `bytes` at `offset`; what lies between the present end and there becomes zeros.
    ///
    /// # Errors
    /// What `pwrite(2)` says; a part may have been written.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Makes it `bytes` long; what is new is zeros, and takes no room on the disk.
    ///
    /// # Errors
    /// What `ftruncate(2)` says.
    pub fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::RoomDir;

    #[test]
    fn pipes_files_and_the_rest_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let alice = RoomDir::new(dir.path()).participant(&"alice".parse().unwrap());
        alice.create().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let kinds =
            [&alice.mic(), &file, &link, &dir.path().to_owned(), &dir.path().join("none")].map(|path| kind(path));
        assert_eq!(kinds, [Some(Kind::Pipe), Some(Kind::File), Some(Kind::Other), Some(Kind::Other), None]);
        assert!(SoundFile::read(&file).is_ok());
        for path in [&alice.mic(), &link, &dir.path().to_owned()] {
            assert!(matches!(SoundFile::read(path), Err(OpenError::NotAFile(_))), "{}", path.display());
            assert!(SoundFile::write(path).is_err());
        }
        assert!(matches!(SoundFile::read(&dir.path().join("none")), Err(OpenError::Missing(_))));
    }

    #[test]
    fn a_file_is_read_and_written_where_one_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "abc").unwrap();
        let file = SoundFile::write(&path).unwrap();
        file.write_at(b"x", 5).unwrap();
        file.set_bytes(7).unwrap();
        let mut bytes = [9; 10];
        assert_eq!((file.read_at(&mut bytes, 1).unwrap(), file.bytes().unwrap()), (6, 7));
        assert_eq!(&bytes[..6], b"bc\0\0x\0");
    }
}
