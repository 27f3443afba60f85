//! A WAV that is being written beside its final name, and takes it when everything has gone well.

use std::fs::Permissions;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use palabre_sound::wav;
use tempfile::NamedTempFile;

/// Written at once, about.
const WRITTEN_BYTES: usize = 15 * 1024;

/// One output. Dropped before [`Sink::commit`] it leaves nothing.
pub struct Sink {
    target: PathBuf,
    file: NamedTempFile,
    rate_hz: u32,
    data_bytes: u64,
    bytes: Vec<u8>,
}

impl Sink {
    /// Begins the WAV that will be at `target`.
    ///
    /// # Errors
    /// No file can be made there.
    pub fn new(target: PathBuf, rate_hz: u32) -> io::Result<Self> {
        let directory = target.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .prefix(".palabre-mix-")
            .suffix(".new")
            // As any file: what the umask leaves of this.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory)?;
        file.write_all(&wav::sized_head(rate_hz, 0))?;
        Ok(Self { target, file, rate_hz, data_bytes: 0, bytes: Vec::new() })
    }

    /// Where it will be.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Appends samples.
    ///
    /// # Errors
    /// Those of write(2), or it is longer than a WAV can be.
    pub fn write(&mut self, samples: &[i16]) -> io::Result<()> {
        let before = self.bytes.len();
        self.bytes.resize(before + samples.len() * 2, 0);
        for (bytes, sample) in self.bytes[before..].chunks_exact_mut(2).zip(samples) {
            bytes.copy_from_slice(&sample.to_le_bytes());
        }
        if self.bytes.len() >= WRITTEN_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.data_bytes += self.bytes.len() as u64;
        if self.data_bytes > wav::DATA_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a WAV holds 4 GiB; mix shorter pieces"));
        }
        self.file.write_all(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }

    /// Puts the true sizes into the head.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&wav::sized_head(self.rate_hz, self.data_bytes))
    }

    /// Gives it its name, in place of any file that had it.
    ///
    /// # Errors
    /// Those of rename(2).
    pub fn commit(self) -> io::Result<PathBuf> {
        self.file.persist(&self.target).map_err(|error| error.error)?;
        Ok(self.target)
    }
}
