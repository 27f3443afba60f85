//! What a certificate says about itself, as far as an operator must know it.
//!
//! Whether anybody trusts it is the browsers' business: nothing is verified here but that it fits its key.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::time::SystemTime;

use rcgen::KeyPair;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

use super::CertificateError;
use crate::Moment;

/// The most bytes that a certificate with its chain, or a private key, may have.
const MAX_BYTES: u64 = 256 * 1024;
const DAY_S: i64 = 24 * 60 * 60;

/// What is known about a server's certificate: the first one in its file. The chain follows it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// When it begins to be valid.
    pub not_before: Moment,
    /// When it is valid no longer.
    pub not_after: Moment,
    /// It is signed by nobody but itself: its issuer is its subject.
    pub self_signed: bool,
    /// The DNS names (lower case, `*.example.org` among them) and IP addresses for which it is.
    pub names: Vec<String>,
    public_key: Vec<u8>,
}

impl Facts {
    /// Reads a PEM file.
    ///
    /// # Errors
    /// [`CertificateError::Read`] and [`CertificateError::Malformed`], with the path.
    pub fn load(path: &Path) -> Result<Self, CertificateError> {
        let malformed = |cause| CertificateError::Malformed { path: path.to_owned(), cause };
        Self::parse(&read(path)?).map_err(malformed)
    }

    /// The facts in a PEM text.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        let blocks = Pem::iter_from_buffer(pem).map_while(Result::ok);
        let block = blocks.into_iter().find(|block| block.label == "CERTIFICATE");
        let block = block.ok_or_else(|| "there is no certificate in it, PEM".to_owned())?;
        let certificate = block.parse_x509().map_err(|error| format!("the certificate has no meaning: {error}"))?;
        let moment = |time: OffsetDateTime| {
            let time = SystemTime::from(time);
            Moment::after(time, std::time::Duration::ZERO)
                .ok_or_else(|| "its dates are not of this calendar".to_owned())
        };
        let validity = certificate.validity();
        Ok(Self {
            not_before: moment(validity.not_before.to_datetime())?,
            not_after: moment(validity.not_after.to_datetime())?,
            self_signed: certificate.subject().as_raw() == certificate.issuer().as_raw(),
            names: names(&certificate),
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
        })
    }

    /// Whole days until it is valid no longer; less than 0 when that has passed.
    #[must_use]
    pub fn days_left(&self, now: SystemTime) -> i64 {
        self.not_after.seconds_from(now).div_euclid(DAY_S)
    }

    /// Whether it is for this host: an IP address as it is, a name in any case, `*.` for exactly one label.
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let parent = host.split_once('.').map(|(_, parent)| parent).filter(|_| host.parse::<IpAddr>().is_err());
        self.names.iter().any(|name| *name == host || (parent.is_some() && name.strip_prefix("*.") == parent))
    }

    /// Whether it is the certificate of the private key in a PEM file. `None` where the key is of a kind that is not
    /// understood here (PKCS #1 and SEC1: `RSA PRIVATE KEY`, `EC PRIVATE KEY`); a listener may understand it.
    ///
    /// # Errors
    /// [`CertificateError::Read`] and, where there is no private key in it, [`CertificateError::Malformed`].
    pub fn is_of_key(&self, path: &Path) -> Result<Option<bool>, CertificateError> {
        let malformed = || CertificateError::Malformed {
            path: path.to_owned(),
            cause: "there is no private key in it, PEM".to_owned(),
        };
        let text = String::from_utf8(read(path)?).map_err(|_| malformed())?;
        if !text.contains("PRIVATE KEY-----") {
            return Err(malformed());
        }
        Ok(KeyPair::from_pem(&text).ok().map(|key| key.public_key_raw() == self.public_key))
    }
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

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    let read = read.and_then(|count| match count as u64 > MAX_BYTES {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {MAX_BYTES} bytes"))),
        false => Ok(()),
    });
    read.map_err(|source| CertificateError::Read { path: path.to_owned(), source })?;
    Ok(bytes)
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
    fn our_own_says_for_whom_and_how_long_it_is() {
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
    fn another_ones_key_does_not_fit() {
        let (_dir, certificate, key) = written(&["localhost"]);
        let (_other, _, others_key) = written(&["localhost"]);
        let facts = Facts::load(&certificate).unwrap();
        assert_eq!(facts.is_of_key(&others_key).unwrap(), Some(false));
        std::fs::write(&key, "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n").unwrap();
        assert_eq!(facts.is_of_key(&key).unwrap(), None);
        let error = facts.is_of_key(&certificate).unwrap_err().to_string();
        assert!(error.contains("cert.pem': there is no private key in it"), "{error}");
    }

    #[test]
    fn what_is_no_certificate_is_named() {
        let (_dir, certificate, key) = written(&["localhost"]);
        let error = Facts::load(&key).unwrap_err().to_string();
        assert!(error.contains("key.pem': there is no certificate in it"), "{error}");
        std::fs::write(&certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        let error = Facts::load(&certificate).unwrap_err().to_string();
        assert!(error.contains("the certificate has no meaning"), "{error}");
        std::fs::remove_file(&certificate).unwrap();
        let error = Facts::load(&certificate).unwrap_err().to_string();
        assert!(error.starts_with("unable to read '") && error.contains("No such file"), "{error}");
    }
}
