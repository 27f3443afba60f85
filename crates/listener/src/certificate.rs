//! The certificate of the listener, and its key or the connection to palabre-signer, which has the key.
//!
//! When a connection arrives, at most every two seconds, and after SIGHUP, the listener checks whether there is a new certificate. If a new
//! certificate can't be used, the error is logged and reported to the supervisor, and new connections use the previous certificate. Open
//! connections keep their certificate.

use crate::signer::{CHECK_TIMEOUT, START_TIMEOUT, Signer};
use crate::tls;
use anyhow::{Context as _, Result, anyhow};
use palabre_config::certificate::{self, Facts};
use palabre_config::signing::ChainId;
use palabre_host::packet::Packet;
use palabre_host::stamp::FileStamp;
use rustls::ServerConfig;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Minimum interval between two checks for a new certificate.
const INTERVAL: Duration = Duration::from_secs(2);

/// The present certificate, and the source of new certificates.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// The source and the time of the last check. A check holds this lock, so a connection that arrives meanwhile waits for the new certificate.
    source: Mutex<(Source, Instant)>,
    present: Mutex<Present>,
}

#[derive(Debug)]
enum Source {
    /// This process has created its own certificate.
    Own,
    /// The files of the certificate and its key, and the stamps of the files that were read last.
    Files([PathBuf; 2], [Option<FileStamp>; 2]),
    /// palabre-signer, and the chain that it sent last.
    Signer(Arc<Signer>, ChainId),
}

#[derive(Debug)]
struct Present {
    config: Arc<ServerConfig>,
    /// Whether the certificate is self-signed. A certificate that can't be parsed counts as self-signed.
    is_self_signed: bool,
    /// Why the certificate that was read last can't be used; `None` if it is used.
    fault: Option<String>,
    reads: u64,
}

impl Certificate {
    /// Returns a certificate that never changes.
    pub(crate) fn fixed(config: Arc<ServerConfig>) -> Self {
        Present { reads: 0, ..Present::new(config) }.of(Source::Own)
    }

    /// Reads the files of the certificate and its key.
    pub(crate) fn from_files(certificate: PathBuf, private_key: PathBuf) -> Result<Self> {
        let files = [certificate, private_key];
        // Take the stamps before reading. Then a file that is replaced during the reading is noticed at the next check.
        let stamps = stamps(&files);
        let config = tls::load(&files[0], &files[1])?;
        let is_self_signed = is_self_signed(&files[0]);
        Ok(Present { is_self_signed, ..Present::new(config) }.of(Source::Files(files, stamps)))
    }

    /// Gets the certificate from palabre-signer, whose key signs the handshakes.
    pub(crate) fn from_signer(connection: Packet) -> Result<Self> {
        let signer = Arc::new(Signer::new(connection));
        let got = signer.chain(None, START_TIMEOUT)?;
        // Fail also if the signer keeps a previous certificate, so that the operator learns that the new certificate can't be used.
        if !got.fault.is_empty() {
            return Err(anyhow!(got.fault));
        }
        let chain = got.chain.context("palabre-signer has no certificate")?;
        let (id, is_self_signed) = (chain.id, certificate::is_self_signed(&chain.certificates[0]));
        let config = tls::signed_by(&signer, chain)?;
        Ok(Present { is_self_signed, ..Present::new(config) }.of(Source::Signer(signer, id)))
    }

    /// Returns the TLS configuration for a new connection.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.present().config)
    }

    /// Returns whether the certificate in use is self-signed.
    pub(crate) fn is_self_signed(&self) -> bool {
        self.present().is_self_signed
    }

    /// Returns why the certificate that was read last can't be used; `None` if it is used.
    pub(crate) fn fault(&self) -> Option<String> {
        self.present().fault.clone()
    }

    /// Returns the number of times that the certificate was read.
    pub(crate) fn reads(&self) -> u64 {
        self.present().reads
    }

    /// Uses a new certificate if there is one. Returns whether the report to the supervisor has changed.
    pub(crate) fn check(&self, now: Instant) -> bool {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(source.1) < INTERVAL {
            return false;
        }
        let has_changed = self.renew(&mut source.0, false);
        source.1 = now;
        has_changed
    }

    /// Reads the certificate again.
    pub(crate) fn read(&self) {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        self.renew(&mut source.0, true);
    }

    /// Reads the certificate if `is_forced` or if it has changed. Returns whether the certificate or its fault was read anew.
    fn renew(&self, source: &mut Source, is_forced: bool) -> bool {
        let read = match source {
            Source::Own => return false,
            Source::Files(files, stamped) => {
                let stamps = stamps(files);
                if !is_forced && stamps == *stamped {
                    return false;
                }
                *stamped = stamps;
                Read { is_self_signed: is_self_signed(&files[0]), ..Read::of(tls::load(&files[0], &files[1])) }
            }
            Source::Signer(signer, id) => ask(signer, id),
        };
        let mut present = self.present();
        if !is_forced && matches!(source, Source::Signer(..)) && read.config.is_none() && read.fault == present.fault {
            return false;
        }
        if let Some(config) = read.config {
            log::info!("using the renewed certificate for new connections");
            (present.config, present.is_self_signed) = (config, read.is_self_signed);
        }
        if let Some(fault) = &read.fault {
            log::error!("{fault}; keeping the previous certificate");
        }
        (present.fault, present.reads) = (read.fault, present.reads + 1);
        true
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Present {
    fn new(config: Arc<ServerConfig>) -> Self {
        Self { config, is_self_signed: true, fault: None, reads: 1 }
    }

    fn of(self, source: Source) -> Certificate {
        Certificate { source: Mutex::new((source, Instant::now())), present: Mutex::new(self) }
    }
}

/// The result of reading the certificate.
#[derive(Default)]
struct Read {
    /// `None` if the certificate has not changed or can't be used.
    config: Option<Arc<ServerConfig>>,
    is_self_signed: bool,
    fault: Option<String>,
}

impl Read {
    fn of(result: Result<Arc<ServerConfig>>) -> Self {
        match result {
            Ok(config) => Self { config: Some(config), is_self_signed: true, fault: None },
            Err(error) => Self { config: None, is_self_signed: true, fault: Some(format!("{error:#}")) },
        }
    }
}

/// Asks the signer for its certificate chain if it differs from the chain `id`. Stores the ID of a new chain in `id`.
fn ask(signer: &Arc<Signer>, id: &mut ChainId) -> Read {
    let got = match signer.chain(Some(*id), CHECK_TIMEOUT) {
        Ok(got) => got,
        Err(error) => return Read::of(Err(error)),
    };
    let read = got.chain.map(|chain| {
        let (new, is_self_signed) = (chain.id, certificate::is_self_signed(&chain.certificates[0]));
        let read = Read { is_self_signed, ..Read::of(tls::signed_by(signer, chain)) };
        if read.config.is_some() {
            *id = new;
        }
        read
    });
    let read = read.unwrap_or_default();
    Read { fault: read.fault.or_else(|| (!got.fault.is_empty()).then_some(got.fault)), ..read }
}

/// Returns whether the certificate in a file is self-signed. A certificate that can't be parsed counts as self-signed.
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
        let (path, key) = new();
        let certificate = Certificate::from_files(path, key.clone()).unwrap();
        let mut now = Instant::now() + INTERVAL;
        let first = certificate.config();
        assert!(!certificate.check(now), "the same");
        new();
        assert!(!certificate.check(now + INTERVAL / 2), "a moment ago");
        now += INTERVAL;
        assert!(certificate.check(now) && !Arc::ptr_eq(&first, &certificate.config()));
        let second = certificate.config();
        std::fs::write(&key, self_signed(&["localhost".into()]).unwrap().key_pem).unwrap();
        now += INTERVAL;
        assert!(certificate.check(now) && Arc::ptr_eq(&second, &certificate.config()), "another one's key");
        assert!(certificate.fault().unwrap().starts_with("unable to use certificate '"), "{:?}", certificate.fault());
        // For example after the operator has made the key readable.
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        now += INTERVAL;
        assert!(certificate.check(now));
        assert_eq!(certificate.reads(), 4, "read again after a change of the mode");
        new();
        now += INTERVAL;
        assert!(certificate.check(now) && certificate.fault().is_none());
        assert_eq!(certificate.reads(), 5);
        certificate.read();
        assert_eq!(certificate.reads(), 6);
    }
}
