//! The certificate of the listener, and its key or the connection to palabre-signer, which has the key.
//!
//! When a connection arrives, at most every two seconds, and after SIGHUP, the listener checks whether there is a new certificate. If a new
//! certificate can't be used, the error is logged and reported to the supervisor, and new connections use the previous certificate. Open
//! connections keep their certificate.

use crate::signer::{CHECK_TIMEOUT, START_TIMEOUT, Signer};
use crate::tls::{self, Tls};
use anyhow::Result;
use palabre_config::signing::ChainId;
use palabre_host::exit::Failure;
use palabre_host::packet::Packet;
use palabre_host::stamp::FileStamp;
use rustls::ServerConfig;
use std::path::PathBuf;
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
    tls: Tls,
    /// Why the certificate that was read last can't be used; `None` if it is used.
    fault: Option<String>,
    reads: u64,
}

impl Certificate {
    /// Returns a certificate that never changes.
    pub(crate) fn fixed(tls: Tls) -> Self {
        Present { tls, fault: None, reads: 0 }.of(Source::Own)
    }

    /// Reads the files of the certificate and its key.
    pub(crate) fn from_files(certificate: PathBuf, private_key: PathBuf) -> Result<Self> {
        let files = [certificate, private_key];
        // Take the stamps before reading. Then a file that is replaced during the reading is noticed at the next check.
        let stamps = stamps(&files);
        let tls = tls::load(&files[0], &files[1])?;
        Ok(Present { tls, fault: None, reads: 1 }.of(Source::Files(files, stamps)))
    }

    /// Gets the certificate from palabre-signer, whose key signs the handshakes. If the signer can't use the present files, this is the previous
    /// certificate.
    pub(crate) fn from_signer(connection: Packet) -> Result<Self, Failure> {
        let signer = Arc::new(Signer::new(connection));
        let got = signer.chain(None, START_TIMEOUT).map_err(Failure::system)?;
        let Some(chain) = got.chain else {
            return Err(Failure::config(got.fault.as_deref().unwrap_or("palabre-signer has no certificate")));
        };
        if let Some(fault) = &got.fault {
            log::error!("{fault}; keeping the previous certificate");
        }
        let (id, fault) = (chain.id, got.fault);
        let tls = tls::signed_by(&signer, chain).map_err(Failure::config)?;
        Ok(Present { tls, fault, reads: 1 }.of(Source::Signer(signer, id)))
    }

    /// Returns the TLS configuration for a new connection.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.present().tls.config)
    }

    /// Returns whether the certificate in use is self-signed. A certificate that can't be parsed counts as self-signed.
    pub(crate) fn is_self_signed(&self) -> bool {
        self.present().tls.is_self_signed
    }

    /// Returns why the certificate that was read last can't be used; `None` if it is used.
    pub(crate) fn fault(&self) -> Option<String> {
        self.present().fault.clone()
    }

    /// Returns how many times this process has read the certificate. A check that found no change doesn't count.
    pub(crate) fn reads(&self) -> u64 {
        self.present().reads
    }

    /// Uses a new certificate if there is one. Returns whether the report to the supervisor has changed.
    pub(crate) fn check(&self, now: Instant) -> bool {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(source.1) < INTERVAL {
            return false;
        }
        let begun = Instant::now();
        let has_changed = self.renew(&mut source.0, false);
        // Connections that have waited for this check don't check again, even if the signer has not answered within its timeout.
        source.1 = now + begun.elapsed();
        has_changed
    }

    /// Reads the certificate again.
    pub(crate) fn read(&self) {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        self.renew(&mut source.0, true);
    }

    /// Reads the certificate if `is_forced` or if it has changed. Returns whether the report to the supervisor has changed.
    fn renew(&self, source: &mut Source, is_forced: bool) -> bool {
        let read = match source {
            Source::Own => return false,
            Source::Files(files, stamped) => {
                let stamps = stamps(files);
                if !is_forced && stamps == *stamped {
                    return false;
                }
                *stamped = stamps;
                Some(Read::of(tls::load(&files[0], &files[1])))
            }
            Source::Signer(signer, id) => ask(signer, id),
        };
        let mut present = self.present();
        // If the signer doesn't answer, the fault that the previous check found stays.
        let read = read.unwrap_or_else(|| Read { tls: None, fault: present.fault.clone() });
        if !is_forced && matches!(source, Source::Signer(..)) && read.tls.is_none() && read.fault == present.fault {
            return false;
        }
        if let Some(tls) = read.tls {
            log::info!("new connections use the certificate that was just read");
            present.tls = tls;
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
    fn of(self, source: Source) -> Certificate {
        Certificate { source: Mutex::new((source, Instant::now())), present: Mutex::new(self) }
    }
}

/// The result of reading the certificate.
#[derive(Default)]
struct Read {
    /// `None` if the certificate has not changed or can't be used.
    tls: Option<Tls>,
    fault: Option<String>,
}

impl Read {
    fn of(result: Result<Tls>) -> Self {
        match result {
            Ok(tls) => Self { tls: Some(tls), fault: None },
            Err(error) => Self { tls: None, fault: Some(format!("{error:#}")) },
        }
    }
}

/// Asks the signer for its certificate chain if it differs from the chain `id`. Stores the ID of a new chain in `id`. Returns `None` if the signer
/// doesn't answer, or refuses because there are too many handshakes.
fn ask(signer: &Arc<Signer>, id: &mut ChainId) -> Option<Read> {
    let got = match signer.chain(Some(*id), CHECK_TIMEOUT) {
        Ok(got) => got,
        Err(error) => {
            signer.log_unanswered(&error);
            return None;
        }
    };
    let read = got.chain.map(|chain| {
        let new = chain.id;
        let read = Read::of(tls::signed_by(signer, chain));
        if read.tls.is_some() {
            *id = new;
        }
        read
    });
    let read = read.unwrap_or_default();
    Some(Read { fault: read.fault.or(got.fault), ..read })
}

fn stamps(files: &[PathBuf; 2]) -> [Option<FileStamp>; 2] {
    files.each_ref().map(|path| FileStamp::of(path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_config::certificate::{self, self_signed};
    use palabre_config::signing::{Chain, Content, Refusal, Reply, Request};
    use palabre_host::wait;

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
        now += 2 * INTERVAL;
        assert!(certificate.check(now) && !Arc::ptr_eq(&first, &certificate.config()));
        let second = certificate.config();
        std::fs::write(&key, self_signed(&["localhost".into()]).unwrap().key_pem).unwrap();
        now += 2 * INTERVAL;
        assert!(certificate.check(now) && Arc::ptr_eq(&second, &certificate.config()), "another one's key");
        assert!(certificate.fault().unwrap().starts_with("unable to use certificate '"), "{:?}", certificate.fault());
        // A change of the key's mode alone makes the listener read it again: the operator may have made the key readable.
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        now += 2 * INTERVAL;
        assert!(certificate.check(now));
        assert_eq!(certificate.reads(), 4, "read again after a change of the mode");
        new();
        now += 2 * INTERVAL;
        assert!(certificate.check(now) && certificate.fault().is_none());
        assert_eq!(certificate.reads(), 5);
        certificate.read();
        assert_eq!(certificate.reads(), 6);
    }

    #[test]
    fn signer_that_refuses_an_answer_is_no_fault_of_the_certificate() {
        let (ours, theirs) = Packet::pair().unwrap();
        let made = self_signed(&["localhost".into()]).unwrap();
        let certificates = certificate::parse_chain(made.cert_pem.as_bytes()).unwrap();
        let chain = Chain {
            id: ChainId([1; 32]),
            schemes: vec![0x0403],
            certificates: certificates.iter().map(|one| one.to_vec()).collect(),
        };
        let fault = "another one's key".to_owned();
        let signer = std::thread::spawn(move || {
            for content in [
                Content::Chain { fault: fault.clone(), chain: Some(chain) },
                Content::Refused(Refusal::TooOften),
                Content::Chain { fault: String::new(), chain: None },
                Content::Refused(Refusal::TooOften),
            ] {
                let mut buffer = [0; 512];
                assert!(wait::is_readable(&theirs, Duration::from_secs(10)).unwrap());
                let length = theirs.recv(&mut buffer).unwrap().unwrap();
                let number = Request::parse(&buffer[..length]).unwrap().number;
                theirs.send(&Reply { number, content }.encode()).unwrap();
            }
        });
        // The signer can't use the present files. The listener starts nevertheless, with the signer's previous certificate.
        let certificate = Certificate::from_signer(ours).unwrap();
        assert_eq!(certificate.fault().as_deref(), Some("another one's key"));
        let now = Instant::now();
        assert!(!certificate.check(now + 2 * INTERVAL) && certificate.fault().is_some());
        assert!(certificate.check(now + 4 * INTERVAL) && certificate.fault().is_none());
        certificate.read();
        assert_eq!((certificate.fault(), certificate.reads()), (None, 3));
        signer.join().unwrap();
    }
    #[test]
    fn listener_starts_again_if_the_signer_does_not_answer_and_not_if_the_signer_has_no_certificate() {
        let (ours, theirs) = Packet::pair().unwrap();
        drop(theirs);
        assert!(matches!(Certificate::from_signer(ours), Err(Failure::System(_))));
        let (ours, theirs) = Packet::pair().unwrap();
        theirs
            .send(
                &Reply { number: 1, content: Content::Chain { fault: "no such file".to_owned(), chain: None } }
                    .encode(),
            )
            .unwrap();
        let said = Certificate::from_signer(ours).map(drop).unwrap_err();
        assert!(matches!(&said, Failure::Config(why) if why == "no such file"), "{said:?}");
    }
}
