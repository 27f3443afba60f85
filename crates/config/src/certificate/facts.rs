//! Reads the properties of a certificate that an operator must know, with the PEM parser that listeners use. Verifies no
//! signature.

use std::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;

use rcgen::KeyPair;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

use super::flaws::{self, Flaw};
use super::{CertificateError, read};
use crate::Moment;

const DAY_S: i64 = 24 * 60 * 60;

/// Properties of the server's certificate, which is the first certificate in its file. The chain follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Start of the certificate's validity.
    pub not_before: Moment,
    /// End of the certificate's validity.
    pub not_after: Moment,
    /// Whether the certificate is self-signed: its issuer is its subject.
    pub self_signed: bool,
    /// DNS names (lower case, with wildcards such as `*.example.org`) and IP addresses.
    pub names: Vec<String>,
    /// What keeps listeners or browsers from using the certificate or its chain.
    pub flaws: Vec<Flaw>,
    /// The public key, as private keys contain it: the point of an elliptic curve, or the modulus of an RSA key.
    public_key: Vec<u8>,
    /// The content of the field subjectPublicKey.
    subject_public_key: Vec<u8>,
}

impl Facts {
    /// Reads the certificate from a PEM file.
    pub fn load(path: &Path) -> Result<Self, CertificateError> {
        let malformed = |cause| CertificateError::Malformed { path: path.to_owned(), cause };
        Self::parse(&read(path)?).map_err(malformed)
    }

    /// Parses the certificates in a PEM text. Returns the cause if the text or the first certificate is invalid.
    fn parse(pem: &[u8]) -> Result<Self, String> {
        let chain = parse_chain(pem)?;
        let (_, certificate) =
            X509Certificate::from_der(&chain[0]).map_err(|error| format!("the certificate is invalid: {error}"))?;
        let moment = |time: OffsetDateTime| {
            let time = SystemTime::from(time);
            Moment::after(time, std::time::Duration::ZERO).ok_or_else(|| {
                "the certificate's validity begins or ends in a year that can't be represented (after 9999)".to_owned()
            })
        };
        let (validity, key) = (certificate.validity(), certificate.public_key());
        let public_key = match key.parsed() {
            Ok(PublicKey::RSA(key)) => key.modulus.iter().copied().skip_while(|byte| *byte == 0).collect(),
            _ => key.subject_public_key.data.to_vec(),
        };
        Ok(Self {
            not_before: moment(validity.not_before.to_datetime())?,
            not_after: moment(validity.not_after.to_datetime())?,
            self_signed: is_own_issuer(&certificate),
            names: names(&certificate),
            flaws: flaws::of(pem, &certificate, &chain),
            public_key,
            subject_public_key: key.subject_public_key.data.to_vec(),
        })
    }

    /// Returns the whole days until the end of the certificate's validity, negative if the certificate has expired.
    #[must_use]
    pub fn days_left(&self, now: SystemTime) -> i64 {
        self.not_after.seconds_from(now).div_euclid(DAY_S)
    }

    /// Returns whether the certificate is valid for `host`. Names are compared without case, and `*.` stands for one
    /// label.
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let parent = host.split_once('.').map(|(_, parent)| parent).filter(|_| host.parse::<IpAddr>().is_err());
        self.names.iter().any(|name| *name == host || (parent.is_some() && name.strip_prefix("*.") == parent))
    }

    /// Returns whether the private key in a PEM file belongs to this certificate: PKCS #8, PKCS #1 (`RSA PRIVATE KEY`) or SEC1
    /// (`EC PRIVATE KEY`). `None` if the key is of a kind that neither listeners nor this function support.
    pub fn is_of_key(&self, path: &Path) -> Result<Option<bool>, CertificateError> {
        let pem = read(path)?;
        let malformed = |cause| CertificateError::Malformed { path: path.to_owned(), cause };
        let key = parse_key(&pem).map_err(malformed)?;
        if let Ok(pair) = KeyPair::try_from(&key) {
            return Ok(Some(pair.public_key_raw() == self.subject_public_key));
        }
        // Except for kinds of keys that listeners don't support, the DER encoding of a private key contains the public key too.
        let contains = key.secret_der().windows(self.public_key.len().max(1)).any(|part| part == self.public_key);
        Ok((contains || !matches!(key, PrivateKeyDer::Pkcs8(_))).then_some(contains))
    }
}

/// Parses the certificates in a PEM text. Returns the cause if the text is invalid or contains no certificate.
pub fn parse_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| format!("the certificate is not valid PEM: {error}"))?;
    if chain.is_empty() {
        return Err("the file of the certificate contains no certificate in PEM format".to_owned());
    }
    Ok(chain)
}

/// Parses the private key in a PEM text. Returns the cause if there is no valid one.
pub fn parse_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| no_key(pem, &error))
}

/// Returns the cause if a PEM text contains no private key that can be read.
fn no_key(pem: &[u8], error: &rustls_pki_types::pem::Error) -> String {
    let text = String::from_utf8_lossy(pem);
    if text.contains("ENCRYPTED") && text.contains("PRIVATE KEY-----") {
        return "the private key is encrypted with a passphrase, which Palabre can't ask for".to_owned();
    }
    match text.contains("PRIVATE KEY-----") {
        true => format!("the private key is not valid PEM: {error}"),
        false => "the file of the key contains no private key in PEM format".to_owned(),
    }
}

/// Returns whether a certificate in DER is self-signed. An invalid certificate counts as self-signed.
#[must_use]
pub fn is_self_signed(der: &[u8]) -> bool {
    X509Certificate::from_der(der).map_or(true, |(_, certificate)| is_own_issuer(&certificate))
}

fn is_own_issuer(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    names.iter().filter_map(name).collect()
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::self_signed;
    use super::*;
    use std::time::Duration;

    fn written(hosts: &[&str]) -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let (certificate, key) = self_signed(&hosts).unwrap().write(dir.path()).unwrap();
        (dir, certificate, key)
    }

    #[test]
    fn names_and_validity_of_a_certificate_are_read() {
        let (_dir, certificate, key) = written(&["localhost", "*.voice.example", "127.0.0.1", "::1"]);
        let facts = Facts::load(&certificate).unwrap();
        assert!(facts.self_signed);
        assert_eq!(facts.names, ["localhost", "*.voice.example", "127.0.0.1", "::1"]);
        let now = SystemTime::now();
        assert!((395..=396).contains(&facts.days_left(now)), "{}", facts.days_left(now));
        assert_eq!(facts.days_left(now + Duration::from_secs(500 * 86_400)).signum(), -1);
        assert_eq!(facts.is_of_key(&key).unwrap(), Some(true));
        for (host, is) in [
            ("LocalHost", true),
            ("::1", true),
            ("127.0.0.2", false),
            ("a.voice.example", true),
            ("voice.example", false),
            ("a.b.voice.example", false),
        ] {
            assert_eq!(facts.is_for(host), is, "{host}");
        }
    }

    #[test]
    fn a_key_of_another_certificate_does_not_match() {
        let (_dir, certificate, key) = written(&["localhost"]);
        let (_other, _, others_key) = written(&["localhost"]);
        let facts = Facts::load(&certificate).unwrap();
        assert_eq!(facts.is_of_key(&others_key).unwrap(), Some(false));
        std::fs::write(&key, "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n").unwrap();
        assert_eq!(facts.is_of_key(&key).unwrap(), Some(false));
        let error = facts.is_of_key(&certificate).unwrap_err().to_string();
        assert!(error.contains("cert.pem': the file of the key contains no private key"), "{error}");
    }

    #[test]
    fn invalid_certificates_are_reported() {
        let (_dir, certificate, key) = written(&["localhost"]);
        let error = Facts::load(&key).unwrap_err().to_string();
        assert!(error.contains("key.pem': the file of the certificate contains no certificate"), "{error}");
        std::fs::write(&certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        let error = Facts::load(&certificate).unwrap_err().to_string();
        assert!(error.contains("the certificate is invalid"), "{error}");
        std::fs::remove_file(&certificate).unwrap();
        let error = Facts::load(&certificate).unwrap_err().to_string();
        assert!(error.starts_with("unable to read '") && error.contains("No such file"), "{error}");
    }
}
