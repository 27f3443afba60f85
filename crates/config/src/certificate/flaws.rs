//! Finds what keeps listeners or browsers from using a certificate and its chain.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::oid::Oid;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Sizes of RSA keys in bits that both browsers and listeners accept.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// Names of kinds of keys and curves by object identifier. Only the first two curves are accepted by all browsers.
const KINDS: [(&str, &str); 8] = [
    ("1.2.840.10045.3.1.7", "ECDSA P-256"),
    ("1.3.132.0.34", "ECDSA P-384"),
    ("1.3.132.0.35", "ECDSA P-521"),
    ("1.3.132.0.10", "ECDSA secp256k1"),
    ("1.3.101.112", "Ed25519"),
    ("1.3.101.113", "Ed448"),
    ("1.2.840.113549.1.1.10", "RSA-PSS"),
    ("1.2.840.10040.4.1", "DSA"),
];
const ACCEPTED_CURVES: [&str; 2] = ["ECDSA P-256", "ECDSA P-384"];

/// Signature algorithms with MD5 or SHA-1.
const WEAK: [&str; 3] = ["1.2.840.113549.1.1.4", "1.2.840.113549.1.1.5", "1.2.840.10045.4.1"];

/// A reason why listeners or browsers don't use a certificate or its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// The key is of a kind that listeners or browsers don't accept.
    Key(String),
    /// Browsers refuse the certificate, for the reason in this text.
    Refused(&'static str),
    /// Listeners read only some of the certificates in the file.
    Unread {
        /// Number of certificates in the file.
        all: usize,
        /// Number of certificates that listeners read.
        read: usize,
    },
    /// A certificate of the chain is invalid; the first certificate has number 1.
    Invalid(usize),
    /// The file doesn't contain the certificate of the issuer, whose name is in this text.
    NoIssuer(String),
}

/// Returns the flaws of `certificate`, which is the first in `chain`. `pem` is the file from which `chain` was read.
pub(super) fn of(pem: &[u8], certificate: &X509Certificate<'_>, chain: &[CertificateDer<'_>]) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    let kind = kind(certificate.public_key());
    flaws.extend((!kind.accepted).then_some(Flaw::Key(kind.name)));
    flaws.extend(refusals(certificate).map(Flaw::Refused));
    flaws.extend(of_chain(pem, certificate, chain));
    flaws
}

/// Checks the chain. Returns only the first flaw, because one missing certificate can cause several flaws.
fn of_chain(pem: &[u8], certificate: &X509Certificate<'_>, chain: &[CertificateDer<'_>]) -> Option<Flaw> {
    let all = begun(pem);
    if all > chain.len() {
        return Some(Flaw::Unread { all, read: chain.len() });
    }
    let issuers: Vec<_> = chain.iter().skip(1).map(|der| X509Certificate::from_der(der)).collect();
    if let Some(invalid) = issuers.iter().position(Result::is_err) {
        return Some(Flaw::Invalid(invalid + 2));
    }
    let issuer = certificate.issuer();
    let is_issuer = |other: &X509Certificate<'_>| other.subject().as_raw() == issuer.as_raw();
    let known = is_issuer(certificate) || issuers.iter().flatten().any(|(_, other)| is_issuer(other));
    (!known).then(|| Flaw::NoIssuer(issuer.to_string()))
}

/// Returns how many certificates begin in a PEM text, at any place in a line and also with an unusual label such as
/// `TRUSTED CERTIFICATE`.
fn begun(pem: &[u8]) -> usize {
    let text = String::from_utf8_lossy(pem);
    let label = |rest: &str| rest.split_once("-----").is_some_and(|(label, _)| label.ends_with("CERTIFICATE"));
    text.split("-----BEGIN ").skip(1).filter(|rest| label(rest)).count()
}

/// The kind of a public key.
struct Kind {
    name: String,
    accepted: bool,
}

fn kind(key: &SubjectPublicKeyInfo<'_>) -> Kind {
    if let Ok(PublicKey::RSA(rsa)) = key.parsed() {
        let modulus: Vec<u8> = rsa.modulus.iter().copied().skip_while(|byte| *byte == 0).collect();
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
        return Kind { name: format!("RSA with {bits} bits"), accepted: RSA_BITS.contains(&bits) };
    }
    let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    let named = curve.iter().chain([&key.algorithm.algorithm]).find_map(name);
    let name = named.unwrap_or("unknown");
    Kind { name: name.to_owned(), accepted: ACCEPTED_CURVES.contains(&name) }
}

fn name(oid: &Oid<'_>) -> Option<&'static str> {
    let oid = oid.to_id_string();
    KINDS.iter().find(|(known, _)| *known == oid).map(|(_, name)| *name)
}

/// Returns why browsers refuse the certificate.
fn refusals(certificate: &X509Certificate<'_>) -> impl Iterator<Item = &'static str> {
    let self_signed = certificate.subject().as_raw() == certificate.issuer().as_raw();
    let weak = WEAK.contains(&certificate.signature_algorithm.algorithm.to_id_string().as_str());
    let purposes = certificate.extended_key_usage().ok().flatten();
    let not_for_servers = purposes.is_some_and(|purposes| !purposes.value.server_auth && !purposes.value.any);
    let usage = certificate.key_usage().ok().flatten();
    let not_for_signatures = usage.is_some_and(|usage| !usage.value.digital_signature());
    // `openssl req -x509` marks the self-signed certificates that it makes as those of an authority. Browsers accept them, so this isn't a flaw.
    let is_authority = certificate.is_ca() && !self_signed;
    [
        (weak && !self_signed, "the certificate's signature uses SHA-1 or MD5"),
        (not_for_servers, "the certificate's extended key usage doesn't include servers (serverAuth)"),
        (not_for_signatures, "the certificate's key usage doesn't include digital signatures"),
        (is_authority, "this is the certificate of a certificate authority, not of a server"),
    ]
    .into_iter()
    .filter_map(|(applies, why)| applies.then_some(why))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_counted_wherever_they_begin() {
        let text = "x-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE----------BEGIN TRUSTED CERTIFICATE-----\n\
                    -----BEGIN PRIVATE KEY-----\n-----BEGIN X509 CERTIFICATE-----";
        assert_eq!(begun(text.as_bytes()), 3);
    }
}
