//! The forms of the messages that a TLS server signs. The signer signs no other message.
//!
//! The two forms exclude each other: byte 64 is `T` in TLS 1.3, and 3 in TLS 1.2.

use rustls::SignatureScheme;

/// A form: the version of TLS in whose handshake a server signs such a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// CertificateVerify of TLS 1.3: RFC 8446 §4.4.3.
    Tls13,
    /// ServerKeyExchange of TLS 1.2 with an ephemeral key on a named curve: RFC 8422 §5.4.
    Tls12,
}

/// Length in bytes of the part before the distinctive bytes: 64 spaces in TLS 1.3, two random values in TLS 1.2.
const PREFIX: usize = 64;
/// The context string of a server, and the zero byte that separates it from the hash.
const CONTEXT: &[u8] = b"TLS 1.3, server CertificateVerify\0";
/// Possible lengths of the transcript hash, in bytes: SHA-256 and SHA-384.
const HASHES: [usize; 2] = [32, 48];
/// Code of the curve type `named_curve`.
const NAMED_CURVE: u8 = 3;
/// The named curves that listeners use: code, length of the public key in bytes, and whether the key is an uncompressed point.
const CURVES: [(u16, usize, bool); 3] = [(0x0017, 65, true), (0x0018, 97, true), (0x001d, 32, false)];
/// First byte of an uncompressed point.
const UNCOMPRESSED: u8 = 4;

impl Form {
    /// Returns the form of a message; `None` if a TLS server doesn't sign such a message.
    pub(crate) fn of(message: &[u8]) -> Option<Self> {
        let (prefix, rest) = message.split_at_checked(PREFIX)?;
        if prefix.iter().all(|byte| *byte == b' ')
            && let Some(hash) = rest.strip_prefix(CONTEXT)
        {
            return HASHES.contains(&hash.len()).then_some(Self::Tls13);
        }
        is_key_exchange(rest).then_some(Self::Tls12)
    }

    /// Returns whether a server may use the signature scheme for this form. TLS 1.3 forbids PKCS #1 (RFC 8446 §4.2.3). SHA-1 is refused for both
    /// forms.
    pub(crate) fn allows(self, scheme: SignatureScheme) -> bool {
        use SignatureScheme as Scheme;
        match scheme {
            Scheme::ECDSA_NISTP256_SHA256 | Scheme::ECDSA_NISTP384_SHA384 | Scheme::ED25519 => true,
            Scheme::RSA_PSS_SHA256 | Scheme::RSA_PSS_SHA384 | Scheme::RSA_PSS_SHA512 => true,
            Scheme::RSA_PKCS1_SHA256 | Scheme::RSA_PKCS1_SHA384 | Scheme::RSA_PKCS1_SHA512 => self == Self::Tls12,
            _ => false,
        }
    }
}

/// Returns whether the bytes are the parameters of an ephemeral key on a named curve: curve type, curve, length and public key.
fn is_key_exchange(parameters: &[u8]) -> bool {
    let [NAMED_CURVE, high, low, length, key @ ..] = parameters else { return false };
    let curve = u16::from_be_bytes([*high, *low]);
    let known = CURVES.iter().find(|(code, ..)| *code == curve);
    known.is_some_and(|(_, expected, is_point)| {
        key.len() == *expected && usize::from(*length) == *expected && (!is_point || key.first() == Some(&UNCOMPRESSED))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls13(spaces: usize, context: &str, hash: usize) -> Vec<u8> {
        [vec![b' '; spaces], context.as_bytes().to_vec(), vec![0; 1 + hash]].concat()
    }

    fn tls12(curve: u16, length: u8, key: &[u8]) -> Vec<u8> {
        let mut message = vec![9; 64];
        message.push(NAMED_CURVE);
        message.extend(curve.to_be_bytes());
        message.push(length);
        message.extend(key);
        message
    }

    fn point(length: usize) -> Vec<u8> {
        let mut point = vec![1; length];
        point[0] = UNCOMPRESSED;
        point
    }

    #[test]
    fn both_messages_of_a_server_are_recognised() {
        const SERVER: &str = "TLS 1.3, server CertificateVerify";
        for hash in HASHES {
            assert_eq!(Form::of(&tls13(64, SERVER, hash)), Some(Form::Tls13));
        }
        assert_eq!(Form::of(&tls12(0x17, 65, &point(65))), Some(Form::Tls12));
        assert_eq!(Form::of(&tls12(0x18, 97, &point(97))), Some(Form::Tls12));
        assert_eq!(Form::of(&tls12(0x1d, 32, &[7; 32])), Some(Form::Tls12));
        // The random values of TLS 1.2 may be spaces, like the first 64 bytes in TLS 1.3: a client chooses its random value.
        let spaces = [vec![b' '; 64], tls12(0x1d, 32, &[7; 32])[64..].to_vec()].concat();
        assert_eq!(Form::of(&spaces), Some(Form::Tls12));
    }

    #[test]
    fn every_other_message_is_refused() {
        const SERVER: &str = "TLS 1.3, server CertificateVerify";
        let refused = [
            Vec::new(),
            b"GET / HTTP/1.1\r\n".to_vec(),
            vec![b' '; 130],
            tls13(64, "TLS 1.3, client CertificateVerify", 32),
            tls13(63, SERVER, 32),
            tls13(65, SERVER, 32),
            tls13(64, SERVER, 31),
            tls13(64, SERVER, 33),
            tls13(64, SERVER, 64),
            tls13(64, SERVER, 0),
            tls12(0x17, 65, &[1; 65]),
            tls12(0x17, 64, &point(64)),
            tls12(0x17, 65, &point(66)),
            tls12(0x1d, 32, &[7; 31]),
            tls12(0x1d, 31, &[7; 32]),
            tls12(0x1e, 56, &[7; 56]),
            tls12(0x1d, 32, &[7; 32])[1..].to_vec(),
            [vec![9; 64], vec![1], tls12(0x1d, 32, &[7; 32])[65..].to_vec()].concat(),
        ];
        for message in refused {
            assert_eq!(Form::of(&message), None, "{message:?}");
        }
    }

    #[test]
    fn scheme_must_fit_the_version() {
        assert!(Form::Tls12.allows(SignatureScheme::RSA_PKCS1_SHA256));
        assert!(!Form::Tls13.allows(SignatureScheme::RSA_PKCS1_SHA256));
        assert!(Form::Tls13.allows(SignatureScheme::RSA_PSS_SHA256));
        assert!(!Form::Tls12.allows(SignatureScheme::RSA_PKCS1_SHA1));
    }
}
