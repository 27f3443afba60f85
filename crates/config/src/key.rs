//! The key in a participant's link, and its hash in the participant's file.
//!
//! A key is 128 random bits, so its hash needs neither salt nor slowness: nobody can try them all. The file keeps
//! SHA-256 of the key's text as it stands in the link; `printf %s KEY | sha256sum` gives the same.

use std::fmt;
use std::io;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const KEY_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// A key: 32 hexadecimal digits, lower case. Whoever has it is the participant, so it is never logged: its `Debug`
/// shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

/// The text is not a key. It isn't shown: it may be nearly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key has 32 hexadecimal digits")]
pub struct NotAKey;

impl Key {
    /// A new key from the kernel's random numbers: getrandom(2).
    ///
    /// # Errors
    /// When the kernel has none.
    pub fn generate() -> io::Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(to_hex(&bytes)))
    }

    /// Reads a key, upper or lower case.
    ///
    /// # Errors
    /// [`NotAKey`] for anything but 32 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, NotAKey> {
        from_hex::<KEY_BYTES>(text).map(|bytes| Self(to_hex(&bytes))).ok_or(NotAKey)
    }

    /// The key's text, for its link.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What may be stored of it.
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

/// The text is not a hash of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key's hash has 64 hexadecimal digits (SHA-256)")]
pub struct NotAHash;

impl KeyHash {
    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`NotAHash`] for anything else.
    pub fn from_hex(text: &str) -> Result<Self, NotAHash> {
        from_hex(text).map(Self).ok_or(NotAHash)
    }

    /// 64 hexadecimal digits, lower case.
    #[must_use]
    pub fn to_hex(&self) -> String {
        to_hex(&self.0)
    }

    /// Whether `text`, from anybody, is the key of this hash. Takes the same time whatever the bytes of the hash are.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        Key::parse(text).is_ok_and(|key| bool::from(key.hash().0.ct_eq(&self.0)))
    }
}

impl FromStr for KeyHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        Self::from_hex(text)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_are_never_the_same() {
        let (one, two) = (Key::generate().unwrap(), Key::generate().unwrap());
        assert_eq!(one.as_str().len(), 32);
        assert_ne!(one, two);
    }

    #[test]
    fn a_hash_knows_its_key_and_no_other() {
        let key = Key::parse("000102030405060708090a0b0c0d0e0f").unwrap();
        let hash = KeyHash::from_hex(&key.hash().to_hex()).unwrap();
        assert!(hash.matches(key.as_str()));
        assert!(hash.matches("000102030405060708090A0B0C0D0E0F"));
        for wrong in
            ["", "x", "000102030405060708090a0b0c0d0e0e", &key.hash().to_hex(), "é00102030405060708090a0b0c0d0e0"]
        {
            assert!(!hash.matches(wrong), "{wrong}");
        }
    }

    #[test]
    fn the_hash_is_the_one_of_sha256sum() {
        let key = Key::parse("000102030405060708090a0b0c0d0e0f").unwrap();
        // printf %s 000102030405060708090a0b0c0d0e0f | sha256sum
        assert_eq!(key.hash().to_hex(), "d65df89f702eec58ca3c7bf2001c9ffc7cd80553ae01d42a799ba26756142d96");
    }

    #[test]
    fn what_is_not_hexadecimal_is_refused() {
        for bad in ["", "0", "000102030405060708090a0b0c0d0e0g", "+00102030405060708090a0b0c0d0e0f"] {
            assert_eq!(Key::parse(bad), Err(NotAKey));
        }
        assert_eq!(KeyHash::from_hex("00"), Err(NotAHash));
    }

    #[test]
    fn a_key_is_not_shown_by_debug() {
        assert_eq!(format!("{:?}", Key::generate().unwrap()), "Key(…)");
    }
}
