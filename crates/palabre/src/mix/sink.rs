//! An output of `palabre mix`: a WAV under a temporary name, which gets its final name when all outputs are complete.

use std::fs::{self, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use palabre_sound::wav;
use tempfile::{NamedTempFile, TempPath};

/// Number of buffered sample bytes at which the buffer is written to the file.
const WRITE_BYTES: usize = 15 * 1024;
/// Prefix of the names of temporary files, which are in the directory of the outputs.
const TEMPORARY: &str = ".palabre-mix-";

/// An output file under a temporary name. If it is dropped before [`commit`], the file is removed.
pub(crate) struct Sink {
    target: PathBuf,
    file: NamedTempFile,
    rate_hz: u32,
    data_bytes: u64,
    bytes: Vec<u8>,
}

impl Sink {
    /// Creates the temporary WAV. [`commit`] renames it to `target`.
    pub(crate) fn new(target: PathBuf, rate_hz: u32) -> io::Result<Self> {
        let mut file = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .suffix(".new")
            // The umask reduces this mode, as for any new file.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory_of(&target))?;
        file.write_all(&wav::sized_head(rate_hz, 0))?;
        Ok(Self { target, file, rate_hz, data_bytes: 0, bytes: Vec::new() })
    }

    /// Returns the final path of the output.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Appends samples. Fails if the file becomes larger than the maximum of the WAV format, 4 GiB.
    pub(crate) fn write(&mut self, samples: &[i16]) -> io::Result<()> {
        let before = self.bytes.len();
        self.bytes.resize(before + samples.len() * 2, 0);
        for (bytes, sample) in self.bytes[before..].chunks_exact_mut(2).zip(samples) {
            bytes.copy_from_slice(&sample.to_le_bytes());
        }
        if self.bytes.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.data_bytes += self.bytes.len() as u64;
        if self.data_bytes > wav::DATA_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "a WAV file holds at most 4 GiB; split the inputs",
            ));
        }
        self.file.write_all(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }

    /// Writes buffered samples and the final header.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&wav::sized_head(self.rate_hz, self.data_bytes))
    }
}

/// Renames all outputs to their final names. After an error, restores the files that were replaced and removes the outputs. The error
/// contains the path of the output that failed.
pub(crate) fn commit(sinks: Vec<Sink>) -> Result<(), (PathBuf, io::Error)> {
    let mut replaced: Vec<Replaced> = Vec::with_capacity(sinks.len());
    for Sink { target, file, .. } in sinks {
        let result = Replaced::back_up(&target).and_then(|old| match file.persist(&target) {
            Ok(_) => Ok(old),
            Err(error) => {
                old.put_back();
                Err(error.error)
            }
        });
        match result {
            Ok(old) => replaced.push(old),
            Err(error) => {
                replaced.into_iter().for_each(Replaced::restore);
                return Err((target, error));
            }
        }
    }
    Ok(())
}

/// A file that an output replaces, and its backup. Dropping this removes the backup.
struct Replaced {
    target: PathBuf,
    /// Temporary name of the old file; `None` if there was no file at `target`.
    backup: Option<TempPath>,
}

impl Replaced {
    /// Gives the file at `target` a temporary name by a hard link. On a file system without hard links, renames the file.
    fn back_up(target: &Path) -> io::Result<Self> {
        if target.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let mut temporary = tempfile::Builder::new();
        temporary.prefix(TEMPORARY).suffix(".old");
        let link = |backup: &Path| match fs::hard_link(target, backup) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                fs::rename(target, backup)
            }
            result => result,
        };
        let backup = match temporary.make_in(directory_of(target), link) {
            Ok(backup) => Some(backup.into_temp_path()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { target: target.to_owned(), backup })
    }

    /// Restores the file from the backup if there is no file at `target`.
    fn put_back(self) {
        if self.target.symlink_metadata().is_err() {
            self.restore();
        }
    }

    /// Restores the file from the backup. If there was no file before, removes the output at `target`.
    fn restore(self) {
        let _ = match self.backup {
            Some(backup) => backup.persist(&self.target).map_err(|error| error.error),
            None => fs::remove_file(&self.target),
        };
    }
}

fn directory_of(target: &Path) -> &Path {
    target.parent().unwrap_or(Path::new("."))
}
