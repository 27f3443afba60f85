//! Access keys and their hashes.
//!
//! A participant's link contains the key; the participant's file contains the SHA-256 of the key's text, as
//! `printf %s KEY | sha256sum` prints it. A key is 128 random bits, too many to try, so the hash needs no salt and no slow
//! hash function.

use std::fmt;
use std::io;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::hex;

const KEY_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// An access key: 32 hexadecimal digits, lower case. A key is a secret, so `Debug` doesn't show the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

/// Error: the text is not an access key. The error doesn't show the text, which may be a mistyped key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is not an access key; an access key has 32 hexadecimal digits")]
pub struct NotAKey;

impl Key {
    /// Returns a new key from the kernel's random numbers: getrandom(2).
    pub fn generate() -> io::Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(hex::encode(&bytes)))
    }

    /// Parses an access key: 32 hexadecimal digits of either case.
    pub fn parse(text: &str) -> Result<Self, NotAKey> {
        hex::decode::<KEY_BYTES>(text).map(|bytes| Self(hex::encode(&bytes))).ok_or(NotAKey)
    }

    /// Returns the key's text, for a link.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the hash of the key, which may be stored.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// SHA-256 of a key's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHash([u8; HASH_BYTES]);

/// Error: the text is not the hash of an access key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is not the hash of an access key; a hash has 64 hexadecimal digits (SHA-256)")]
pub struct NotAHash;

impl KeyHash {
    /// Returns whether `text` is the key of this hash. The duration of the comparison doesn't depend on the bytes of
    /// the hash.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        Key::parse(text).is_ok_and(|key| bool::from(key.hash().0.ct_eq(&self.0)))
    }
}

impl FromStr for KeyHash {
    type Err = NotAHash;

    /// Parses the hash of an access key: 64 hexadecimal digits of either case.
    fn from_str(text: &str) -> Result<Self, NotAHash> {
        hex::decode(text).map(Self).ok_or(NotAHash)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn two_new_keys_differ() {
        let (one, two) = (Key::generate().unwrap(), Key::generate().unwrap());
        assert_eq!(one.as_str().len(), 32);
        assert_ne!(one, two);
    }

    #[test]
    fn a_hash_matches_only_its_key() {
        let key = Key::parse("000102030405060708090a0b0c0d0e0f").unwrap();
        let hash = key.hash().to_string().parse::<KeyHash>().unwrap();
        assert!(hash.matches(key.as_str()));
        assert!(hash.matches("000102030405060708090A0B0C0D0E0F"));
        for wrong in
            ["", "x", "000102030405060708090a0b0c0d0e0e", &key.hash().to_string(), "é00102030405060708090a0b0c0d0e0"]
        {
            assert!(!hash.matches(wrong), "{wrong}");
        }
    }

    #[test]
    fn the_hash_is_that_of_sha256sum() {
        let key = Key::parse("000102030405060708090a0b0c0d0e0f").unwrap();
        // printf %s 000102030405060708090a0b0c0d0e0f | sha256sum
        assert_eq!(key.hash().to_string(), "d65df89f702eec58ca3c7bf2001c9ffc7cd80553ae01d42a799ba26756142d96");
    }

    #[test]
    fn text_that_is_not_hexadecimal_is_refused() {
        for bad in ["", "0", "000102030405060708090a0b0c0d0e0g", "+00102030405060708090a0b0c0d0e0f"] {
            assert_eq!(Key::parse(bad), Err(NotAKey));
        }
        assert_eq!("00".parse::<KeyHash>(), Err(NotAHash));
    }

    #[test]
    fn a_key_is_not_shown_by_debug() {
        assert_eq!(format!("{:?}", Key::generate().unwrap()), "Key(…)");
    }
}
