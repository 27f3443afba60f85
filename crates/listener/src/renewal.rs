//! The certificate's files, looked at again: when somebody says so (SIGHUP), and when they are other files than before.
//!
//! Nobody watches them: a listener asks for their inodes and times when a connection comes, every two seconds at most. What
//! can't be used is refused once and told; the one before serves on, and connections that are open keep theirs anyway.

use crate::tls;
use anyhow::Result;
use palabre_host::stamp::FileStamp;
use rustls::ServerConfig;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the files are looked at, at most.
const EVERY: Duration = Duration::from_secs(2);

/// Certificate and key, and how they were when they were read last.
#[derive(Debug)]
pub struct Renewal {
    files: [PathBuf; 2],
    stamps: [Option<FileStamp>; 2],
    looked_at: Instant,
    refused: bool,
}

impl Renewal {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// Those of [`tls::load`].
    pub fn begin(certificate: PathBuf, private_key: PathBuf) -> Result<(Arc<ServerConfig>, Self)> {
        let files = [certificate, private_key];
        // Looked at before they are read: who replaces them meanwhile is noticed later.
        let stamps = stamps(&files);
        let tls = tls::load(&files[0], &files[1])?;
        Ok((tls, Self { files, stamps, looked_at: Instant::now(), refused: false }))
    }

    /// Whether what is in the files now could not be used.
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// The files' new meaning, where they have changed and have one.
    pub fn look(&mut self, now: Instant) -> Option<Arc<ServerConfig>> {
        if now.saturating_duration_since(self.looked_at) < EVERY {
            return None;
        }
        self.looked_at = now;
        (stamps(&self.files) != self.stamps).then(|| self.read()).flatten()
    }

    /// The files' meaning, read again. What is wrong is logged.
    pub fn read(&mut self) -> Option<Arc<ServerConfig>> {
        self.stamps = stamps(&self.files);
        let read = tls::load(&self.files[0], &self.files[1]);
        self.refused = read.is_err();
        match read {
            Ok(tls) => {
                log::info!("the certificate was read again");
                Some(tls)
            }
            Err(error) => {
                log::error!("{error:#}; the one before serves on");
                None
            }
        }
    }
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
    fn only_what_has_changed_and_can_be_used_is_taken_and_not_all_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let new = || self_signed(&["localhost".into()]).unwrap().write(dir.path()).unwrap();
        let (certificate, key) = new();
        let (_, mut renewal) = Renewal::begin(certificate.clone(), key.clone()).unwrap();
        let mut now = Instant::now() + EVERY;
        assert!(renewal.look(now).is_none(), "the same");
        new();
        assert!(renewal.look(now + EVERY / 2).is_none(), "a moment ago");
        now += EVERY;
        assert!(renewal.look(now).is_some());
        std::fs::write(&key, self_signed(&["localhost".into()]).unwrap().key_pem).unwrap();
        now += EVERY;
        assert!(renewal.look(now).is_none() && renewal.is_refused(), "another one's key");
        new();
        now += EVERY;
        assert!(renewal.look(now).is_some() && !renewal.is_refused());
    }
}
