//! The server's certificate: reads its properties, and makes self-signed certificates.
//!
//! Browsers warn of a self-signed certificate once and then store an exception. Chromium accepts a self-signed
//! certificate by the pin of its key (`--ignore-certificate-errors-spki-list`).

mod facts;
mod flaws;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData,
};
use sha2::{Digest, Sha256};

use crate::file;

pub use facts::{Facts, is_self_signed, parse_chain, parse_key};
pub use flaws::Flaw;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Validity of a self-signed certificate in days. Browsers refuse certificates that are valid for more than 398 days
/// (CA/Browser Forum, section 6.3.2).
const VALID_DAYS: u32 = 397;

/// Maximum size of a file with a certificate and its chain, or a private key, in bytes.
const MAX_BYTES: u64 = 256 * 1024;

/// First line of the files of [`SelfSigned::write`], by which [`is_ours`] recognizes these files. PEM parsers ignore
/// the line (RFC 7468 §2).
const OURS: &str = "Self-signed by palabre, for a start: browsers warn of it.\n";

/// Error: a certificate can't be made, read, written or used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A host is neither a DNS name in ASCII nor an IP address, or there is no host.
    #[error("unable to make a certificate for '{hosts}': {cause}")]
    Hosts {
        /// The hosts, separated by commas.
        hosts: String,
        /// The cause.
        cause: String,
    },
    /// A file can't be written.
    #[error("unable to write '{}': {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file can't be read.
    #[error("unable to read '{}': {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The content of a file is invalid.
    #[error("unable to use '{}': {cause}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: String,
    },
}

impl CertificateError {
    /// Returns whether the user of this process has no permission to read the file.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// A self-signed certificate and its key.
#[derive(Clone)]
pub struct SelfSigned {
    /// Certificate, PEM.
    pub cert_pem: String,
    /// Private key, PKCS #8 in PEM.
    pub key_pem: String,
    /// Base64 of SHA-256 of the SubjectPublicKeyInfo (RFC 7469 §2.4), for Chromium.
    pub spki_pin_base64: String,
}

/// Makes a certificate for DNS names and IP addresses: ECDSA P-256, not a CA, valid from yesterday for 397 days.
pub fn self_signed(hosts: &[String]) -> Result<SelfSigned, CertificateError> {
    let refused = |cause: String| CertificateError::Hosts { hosts: hosts.join(", "), cause };
    let Some(first) = hosts.first() else {
        return Err(refused("the certificate needs at least one DNS name or IP address".into()));
    };
    make(hosts, first).map_err(|error| refused(error.to_string()))
}

fn make(hosts: &[String], common_name: &str) -> Result<SelfSigned, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // The certificate is valid from yesterday on, since the browser's clock may be slow.
    let from = SystemTime::now() - DAY;
    params.not_before = from.into();
    params.not_after = (from + DAY * VALID_DAYS).into();
    let certificate = params.self_signed(&key)?;
    let spki_pin_base64 = STANDARD.encode(Sha256::digest(key.subject_public_key_info()));
    Ok(SelfSigned { cert_pem: certificate.pem(), key_pem: key.serialize_pem(), spki_pin_base64 })
}

impl SelfSigned {
    /// Writes `key.pem` (mode 0640) and then `cert.pem` (mode 0644) into `dir`, each atomically. Returns the paths of the
    /// certificate and the key. The key is written first, so that there is never a certificate without a key.
    pub fn write(&self, dir: &Path) -> Result<(PathBuf, PathBuf), CertificateError> {
        let (certificate, private_key) = (dir.join("cert.pem"), dir.join("key.pem"));
        self.write_to(&certificate, &private_key)?;
        Ok((certificate, private_key))
    }

    /// Writes the certificate to `certificate` and the key to `private_key`, as [`Self::write`] does.
    pub fn write_to(&self, certificate: &Path, private_key: &Path) -> Result<(), CertificateError> {
        replace(private_key, &self.key_pem, 0o640)?;
        replace(certificate, &self.cert_pem, 0o644)
    }
}

/// Reads a file with a certificate and its chain, or with a private key.
pub fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    file::read_bytes(path, MAX_BYTES).map_err(|source| CertificateError::Read { path: path.to_owned(), source })
}

/// Returns whether [`SelfSigned::write`] wrote the file at `path`; `None` if the file doesn't exist.
pub fn is_ours(path: &Path) -> io::Result<Option<bool>> {
    match file::read_bytes(path, MAX_BYTES) {
        Ok(bytes) => Ok(Some(bytes.starts_with(OURS.as_bytes()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn replace(path: &Path, pem: &str, mode: u32) -> Result<(), CertificateError> {
    file::replace(path, format!("{OURS}{pem}").as_bytes(), mode)
        .map_err(|source| CertificateError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    fn hosts(hosts: &[&str]) -> Vec<String> {
        hosts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_key_is_not_world_readable() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = self_signed(&hosts(&["localhost"])).unwrap().write(dir.path()).unwrap();
        assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::metadata(certificate).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn an_invalid_host_is_refused() {
        assert!(self_signed(&[]).is_err());
        let error = self_signed(&hosts(&["é.org"])).err().unwrap().to_string();
        assert!(error.starts_with("unable to make a certificate for 'é.org': "), "{error}");
    }

    #[test]
    fn only_files_written_here_are_recognized() {
        let dir = tempfile::tempdir().unwrap();
        let made = self_signed(&hosts(&["localhost"])).unwrap();
        let (certificate, key) = made.write(dir.path()).unwrap();
        assert_eq!(is_ours(&certificate).unwrap(), Some(true));
        assert_eq!(is_ours(&key).unwrap(), Some(true));
        fs::write(&certificate, &made.cert_pem).unwrap();
        assert_eq!(is_ours(&certificate).unwrap(), Some(false));
        assert_eq!(is_ours(&dir.path().join("other.pem")).unwrap(), None);
    }

    /// Checks with openssl, an independent implementation, what a self-signed certificate contains.
    #[test]
    fn openssl_reads_names_addresses_and_usage() {
        let dir = tempfile::tempdir().unwrap();
        let made = self_signed(&hosts(&["localhost", "127.0.0.1", "::1"])).unwrap();
        let (certificate, _) = made.write(dir.path()).unwrap();
        let seen = match Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(certificate).output() {
            Ok(seen) => seen,
            Err(error) => {
                let reason = format!("unable to run 'openssl': {error}");
                return palabre_testing::not_shown("openssl reads a self-signed certificate", &reason);
            }
        };
        let text = String::from_utf8_lossy(&seen.stdout);
        for part in
            ["DNS:localhost", "IP Address:127.0.0.1", "IP Address:0:0:0:0:0:0:0:1", "CA:FALSE", "TLS Web Server"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
