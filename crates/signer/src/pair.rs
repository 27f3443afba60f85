//! The certificate chain and its private key, read from files. A chain is only used together with its own key.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use palabre_config::signing::{Chain, ChainId, MAX_FAULT_CHARS};
use palabre_config::{Server, certificate};
use palabre_host::stamp::FileStamp;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{InconsistentKeys, SignatureScheme};
use sha2::{Digest, Sha256};

/// Time for which the previous key is kept after a renewal. Handshakes that have begun with the previous certificate end within this time.
const KEPT: Duration = Duration::from_secs(60);
/// The signature schemes of TLS 1.3 and TLS 1.2, in order of preference.
const SCHEMES: [SignatureScheme; 9] = [
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA256,
];

/// A certificate chain and its private key.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) chain: Chain,
    key: Arc<dyn SigningKey>,
}

impl Pair {
    /// Reads a chain and its key from PEM files. Returns an error message of at most [`MAX_FAULT_CHARS`] characters if the files can't be used, or if
    /// the key isn't that of the first certificate.
    fn load(certificate: &Path, private_key: &Path) -> Result<Self, String> {
        Self::from_files(certificate, private_key).map_err(|fault| fault.chars().take(MAX_FAULT_CHARS).collect())
    }

    fn from_files(certificate: &Path, private_key: &Path) -> Result<Self, String> {
        let read = |path| {
            certificate::read(path).map_err(|error| match error.is_denied() {
                true => format!(
                    "{error}; if palabre.toml names files in another directory than before, run 'palabre reload', or \
                     'systemctl restart palabre-signer' if the signer is a service of its own"
                ),
                false => error.to_string(),
            })
        };
        let (chain, key) = (read(certificate)?, read(private_key)?);
        Self::parse(&chain, &key).map_err(|cause| {
            let (certificate, private_key) = (certificate.display(), private_key.display());
            format!("unable to use certificate '{certificate}' with key '{private_key}': {cause}")
        })
    }

    fn parse(chain: &[u8], key: &[u8]) -> Result<Self, String> {
        let (chain, key) = (certificate::parse_chain(chain)?, certificate::parse_key(key)?);
        let provider = rustls::crypto::ring::default_provider();
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                "the key doesn't match the certificate".to_owned()
            }
            other => other.to_string(),
        })?;
        let id = certified.cert.iter().fold(Sha256::new(), Sha256::chain_update).finalize();
        let schemes = SCHEMES.iter().filter(|scheme| certified.key.choose_scheme(&[**scheme]).is_some());
        let chain = Chain {
            id: ChainId(id.into()),
            schemes: schemes.map(|scheme| u16::from(*scheme)).collect(),
            certificates: certified.cert.iter().map(|certificate| certificate.to_vec()).collect(),
        };
        match chain.fits() {
            true => Ok(Self { chain, key: certified.key }),
            false => Err("the certificate chain is longer than 60 KiB; remove certificates that are not needed".into()),
        }
    }

    /// Returns whether the key is an RSA key. An RSA signature takes much more time.
    pub(crate) fn is_rsa(&self) -> bool {
        self.chain.schemes.contains(&u16::from(SignatureScheme::RSA_PSS_SHA256))
    }

    /// Signs a message. Returns `None` if the key doesn't support the scheme.
    pub(crate) fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Option<Result<Vec<u8>, rustls::Error>> {
        Some(self.key.choose_scheme(&[scheme])?.sign(message))
    }
}

/// The files of the certificate and its key, and the pairs that were read from them.
#[derive(Debug)]
pub(crate) struct KeyFiles {
    /// Directory of `palabre.toml`.
    config: PathBuf,
    files: [PathBuf; 2],
    stamps: [Option<FileStamp>; 2],
    current: Option<Pair>,
    /// The pair before the last renewal, and the time at which to drop it.
    previous: Option<(Pair, Instant)>,
    /// Why the files that were read last can't be used; `None` if they are used.
    fault: Option<String>,
}

impl KeyFiles {
    /// Reads the files that `palabre.toml` in `config` names.
    pub(crate) fn load(config: &Path, now: Instant) -> Self {
        let server = Server::defaults(config);
        let files = [server.certificate, server.private_key];
        let (config, stamps) = (config.to_owned(), [None; 2]);
        let mut files = Self { config, files, stamps, current: None, previous: None, fault: None };
        files.read(now);
        files
    }

    /// Returns the paths of the certificate and the key.
    pub(crate) fn paths(&self) -> &[PathBuf; 2] {
        &self.files
    }

    /// Returns why the files that were read last can't be used; `None` if they are used.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Returns the pair that new handshakes use.
    pub(crate) fn current(&self) -> Option<&Pair> {
        self.current.as_ref()
    }

    /// Returns the pair of this chain: the current pair, or the pair that the last renewal has replaced.
    pub(crate) fn of_chain(&self, id: ChainId) -> Option<&Pair> {
        let previous = self.previous.as_ref().map(|(pair, _)| pair);
        self.current.iter().chain(previous).find(|pair| pair.chain.id == id)
    }

    /// Drops the previous key after [`KEPT`]. Returns the time at which to call this function again.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<Instant> {
        self.previous.take_if(|(_, until)| *until <= now);
        self.previous.as_ref().map(|(_, until)| *until)
    }

    /// Reads the files again if they have changed. Returns whether they were read.
    pub(crate) fn check(&mut self, now: Instant) -> bool {
        let has_changed = stamps(&self.files) != self.stamps;
        if has_changed {
            self.read_pair(now);
        }
        has_changed
    }

    /// Reads `palabre.toml` and the files that it names. If `palabre.toml` is invalid, reads the files that it named before.
    pub(crate) fn read(&mut self, now: Instant) {
        match Server::load(&self.config) {
            Ok(server) => self.files = [server.certificate, server.private_key],
            Err(error) => log::error!("{error}"),
        }
        self.read_pair(now);
    }

    /// Reads the files that `palabre.toml` names now, and returns why they can't be used; `None` if they can, or if `palabre.toml` is invalid.
    /// Changes nothing.
    pub(crate) fn fault_of_files(&self) -> Option<String> {
        let server = Server::load(&self.config).ok()?;
        Pair::load(&server.certificate, &server.private_key).err()
    }

    fn read_pair(&mut self, now: Instant) {
        // Take the stamps before reading. Then a file that is replaced during the reading is noticed at the next check.
        self.stamps = stamps(&self.files);
        match Pair::load(&self.files[0], &self.files[1]) {
            Ok(pair) => {
                self.fault = None;
                let path = self.files[0].display();
                match self.current.is_some() {
                    true => log::info!("the certificate '{path}' was read again"),
                    false => log::info!("the certificate '{path}' was read"),
                }
                if self.current.as_ref().is_none_or(|current| current.chain != pair.chain) {
                    self.previous = self.current.replace(pair).map(|pair| (pair, now + KEPT));
                }
            }
            Err(fault) => {
                match self.current.is_some() {
                    true => log::error!("{fault}; keeping the previous certificate"),
                    false => log::error!("{fault}; no listener can start until it is corrected"),
                }
                self.fault = Some(fault);
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
    use std::fs;

    fn write(directory: &Path) {
        self_signed(&["localhost".into()]).unwrap().write(&directory.join("tls")).unwrap();
    }

    fn load() -> (tempfile::TempDir, KeyFiles, Instant) {
        let (directory, now) = (tempfile::tempdir().unwrap(), Instant::now());
        fs::create_dir(directory.path().join("tls")).unwrap();
        write(directory.path());
        let files = KeyFiles::load(directory.path(), now);
        (directory, files, now)
    }

    #[test]
    fn renewed_certificate_is_used_and_the_previous_key_is_kept_for_a_while() {
        let (directory, mut files, now) = load();
        let first = files.current().unwrap().chain.id;
        assert!(!files.check(now), "nothing has changed");
        write(directory.path());
        assert!(files.check(now));
        let second = files.current().unwrap().chain.id;
        assert!(first != second && files.of_chain(first).is_some() && files.of_chain(second).is_some());
        assert_eq!(files.tick(now), Some(now + KEPT));
        assert_eq!(files.tick(now + KEPT), None);
        assert!(files.of_chain(first).is_none() && files.of_chain(second).is_some());
    }

    #[test]
    fn certificate_and_key_of_different_pairs_are_refused_until_both_are_replaced() {
        let (directory, mut files, now) = load();
        let first = files.current().unwrap().chain.id;
        let other = self_signed(&["localhost".into()]).unwrap();
        fs::write(directory.path().join("tls/key.pem"), &other.key_pem).unwrap();
        assert!(files.check(now));
        assert!(files.fault().unwrap().contains("unable to use certificate '"), "{:?}", files.fault());
        assert_eq!(files.current().unwrap().chain.id, first);
        fs::write(directory.path().join("tls/cert.pem"), &other.cert_pem).unwrap();
        assert!(files.check(now) && files.fault().is_none());
        assert!(files.of_chain(first).is_some() && files.current().unwrap().chain.id != first);
    }

    #[test]
    fn missing_files_are_a_fault_until_they_exist() {
        let (directory, now) = (tempfile::tempdir().unwrap(), Instant::now());
        let mut files = KeyFiles::load(directory.path(), now);
        assert!(files.current().is_none() && files.fault().unwrap().starts_with("unable to read '"));
        fs::create_dir(directory.path().join("tls")).unwrap();
        write(directory.path());
        assert!(files.check(now) && files.current().is_some() && files.fault().is_none());
        fs::write(directory.path().join("palabre.toml"), "certificate = \"/other.pem\"").unwrap();
        files.read(now);
        assert!(files.fault().unwrap().contains("/other.pem") && files.current().is_some());
        let long = "é".repeat(MAX_FAULT_CHARS);
        fs::write(directory.path().join("palabre.toml"), format!("certificate = \"/{long}\"")).unwrap();
        files.read(now);
        assert_eq!(files.fault().unwrap().chars().count(), MAX_FAULT_CHARS);
        assert_eq!(files.fault_of_files().unwrap().chars().count(), MAX_FAULT_CHARS);
    }

    #[test]
    fn key_offers_the_schemes_that_it_supports() {
        let (_directory, files, _) = load();
        let pair = files.current().unwrap();
        assert_eq!(pair.chain.schemes, [u16::from(SignatureScheme::ECDSA_NISTP256_SHA256)]);
        assert!(!pair.is_rsa() && pair.sign(SignatureScheme::RSA_PSS_SHA256, b"x").is_none());
        assert!(pair.sign(SignatureScheme::ECDSA_NISTP256_SHA256, b"x").unwrap().is_ok());
    }
}
