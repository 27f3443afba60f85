//! The files of the TLS certificate and its key, read again after SIGHUP and when they have changed.
//!
//! The files are checked with stat(2) when a connection arrives, at most every two seconds. If new files are invalid, the error is logged
//! and reported to the supervisor, and new connections use the previous certificate. Open connections keep their certificate.

use crate::tls;
use anyhow::Result;
use palabre_config::certificate::Facts;
use palabre_host::stamp::FileStamp;
use rustls::ServerConfig;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Minimum interval between two checks of the files.
const INTERVAL: Duration = Duration::from_secs(2);

/// The paths of the certificate and key, and the stamps of the files that were read last.
#[derive(Debug)]
pub(crate) struct TlsFiles {
    files: [PathBuf; 2],
    stamps: [Option<FileStamp>; 2],
    checked_at: Instant,
    /// Why the files that were read last can't be used; `None` if they are used.
    fault: Option<String>,
    reads: u64,
    is_self_signed: bool,
}

impl TlsFiles {
    /// Reads the files for the first time.
    pub(crate) fn load(certificate: PathBuf, private_key: PathBuf) -> Result<(Arc<ServerConfig>, Self)> {
        let files = [certificate, private_key];
        // Take the stamps before reading. Then a file that is replaced during the reading is noticed at the next check.
        let stamps = stamps(&files);
        let tls = tls::load(&files[0], &files[1])?;
        let is_self_signed = is_self_signed(&files[0]);
        Ok((tls, Self { files, stamps, checked_at: Instant::now(), fault: None, reads: 1, is_self_signed }))
    }

    /// Returns why the files that were read last can't be used; `None` if they are used.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Returns whether the certificate in use is self-signed.
    pub(crate) fn is_self_signed(&self) -> bool {
        self.is_self_signed
    }

    /// Returns the number of times that the files were read.
    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }

    /// Returns a new TLS configuration if the files have changed and are valid.
    pub(crate) fn check(&mut self, now: Instant) -> Option<Arc<ServerConfig>> {
        if now.saturating_duration_since(self.checked_at) < INTERVAL {
            return None;
        }
        self.checked_at = now;
        (stamps(&self.files) != self.stamps).then(|| self.read()).flatten()
    }

    /// Reads the files again. Returns the new TLS configuration, or logs the error and returns `None`.
    pub(crate) fn read(&mut self) -> Option<Arc<ServerConfig>> {
        self.stamps = stamps(&self.files);
        let read = tls::load(&self.files[0], &self.files[1]);
        self.reads += 1;
        self.fault = read.as_ref().err().map(|error| format!("{error:#}"));
        match read {
            Ok(tls) => {
                self.is_self_signed = is_self_signed(&self.files[0]);
                log::info!("read the certificate '{}' again", self.files[0].display());
                Some(tls)
            }
            Err(error) => {
                log::error!("{error:#}; keeping the previous certificate");
                None
            }
        }
    }
}

/// Returns whether the certificate is self-signed, or can't be examined.
fn is_self_signed(certificate: &Path) -> bool {
    Facts::load(certificate).map_or(true, |facts| facts.self_signed)
}

fn stamps(files: &[PathBuf; 2]) -> [Option<FileStamp>; 2] {
    files.each_ref().map(|path| FileStamp::of(path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_config::certificate::self_signed;

    #[test]
    fn changed_and_valid_files_are_used_at_the_next_check() {
        let dir = tempfile::tempdir().unwrap();
        let new = || self_signed(&["localhost".into()]).unwrap().write(dir.path()).unwrap();
        let (certificate, key) = new();
        let (_, mut files) = TlsFiles::load(certificate.clone(), key.clone()).unwrap();
        let mut now = Instant::now() + INTERVAL;
        assert!(files.check(now).is_none(), "the same");
        new();
        assert!(files.check(now + INTERVAL / 2).is_none(), "a moment ago");
        now += INTERVAL;
        assert!(files.check(now).is_some());
        std::fs::write(&key, self_signed(&["localhost".into()]).unwrap().key_pem).unwrap();
        now += INTERVAL;
        assert!(files.check(now).is_none(), "another one's key");
        assert!(files.fault().unwrap().starts_with("unable to use certificate '"), "{:?}", files.fault());
        // For example after the operator has made the key readable.
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        now += INTERVAL;
        assert!(files.check(now).is_none());
        assert_eq!(files.reads(), 4, "read again after a change of the mode");
        new();
        now += INTERVAL;
        assert!(files.check(now).is_some() && files.fault().is_none());
        assert_eq!(files.reads(), 5);
    }
}
