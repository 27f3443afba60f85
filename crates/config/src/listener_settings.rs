//! What the supervisor gives a listener on its standard input: the participant's settings, and the key for the participant's cookies. So a listener
//! needs access neither to the files of the participants nor to the secret of the cookies.

use std::io::{self, Read};

use palabre_room::Name;
use serde::{Deserialize, Serialize};

use crate::{ConfigError, CookieKey, Participant};

/// Maximum length of the settings, in bytes: PIPE_BUF of pipe(7). Every empty pipe takes this many bytes at once, also if the user has so many pipes
/// that the kernel makes this one small (`fs.pipe-user-pages-soft`).
pub const MAX_SETTINGS_BYTES: usize = 4096;

/// The settings of a listener.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// The participant.
    pub participant: Participant,
    /// The key for the cookies of the participant's browsers.
    pub cookie_key: CookieKey,
}

/// Error: what arrived on standard input can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Standard input can't be read.
    #[error("unable to read the participant's settings from standard input: {0}")]
    Io(#[from] io::Error),
    /// The content isn't what a supervisor of this release writes.
    #[error("unable to use the participant's settings on standard input: {0}; use programs of one release")]
    Content(String),
    /// The participant's file, as the supervisor has read it, is invalid.
    #[error(transparent)]
    Participant(#[from] ConfigError),
}

/// The settings as JSON.
#[derive(Serialize, Deserialize)]
struct Written {
    /// Text of the participant's file.
    participant: String,
    /// The key in hexadecimal digits.
    cookie_key: String,
}

impl ListenerSettings {
    /// Returns the bytes that [`Self::read`] reads.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (participant, cookie_key) = (self.participant.to_toml(), self.cookie_key.to_hex().to_string());
        serde_json::to_vec(&Written { participant, cookie_key }).unwrap_or_default()
    }

    /// Reads the settings of the participant `name`, until the end of `input`.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn read(name: &Name, input: impl Read) -> Result<Self, SettingsError> {
        let mut bytes = Vec::new();
        input.take(MAX_SETTINGS_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > MAX_SETTINGS_BYTES {
            return Err(SettingsError::Content(format!("longer than {MAX_SETTINGS_BYTES} bytes")));
        }
        let written: Written =
            serde_json::from_slice(&bytes).map_err(|error| SettingsError::Content(error.to_string()))?;
        let cookie_key = CookieKey::from_hex(&written.cookie_key)
            .ok_or_else(|| SettingsError::Content("the key for cookies must be 64 hexadecimal digits".to_owned()))?;
        Ok(Self { participant: Participant::from_toml(name, &written.participant)?, cookie_key })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Key;

    #[test]
    fn settings_are_read_as_they_were_written() {
        let alice: Name = "alice".parse().unwrap();
        let participant = Participant {
            display_name: Some("\u{10ffff}".repeat(64)),
            gain_db: Some(-12.345_678),
            muted: true,
            key_once: true,
            key_expires: Some("2026-01-01T00:00:00Z".parse().unwrap()),
            join_muted: true,
            listen_only: true,
            suspended: true,
            signed_out: Some("2026-01-01T00:00:00Z".parse().unwrap()),
            ..Participant::new(alice.clone(), 9001, Key::generate().unwrap().hash())
        };
        let settings = ListenerSettings { participant, cookie_key: CookieKey::derive("alice", b"secret") };
        let bytes = settings.to_bytes();
        let read = ListenerSettings::read(&alice, bytes.as_slice()).unwrap();
        assert_eq!(read.participant, settings.participant);
        assert_eq!(read.cookie_key.as_bytes(), settings.cookie_key.as_bytes());
        assert!(bytes.len() < MAX_SETTINGS_BYTES);
        for cut in 0..bytes.len() {
            assert!(ListenerSettings::read(&alice, bytes.get(..cut).unwrap()).is_err());
        }
        let long = ListenerSettings::read(&alice, io::repeat(b' '));
        assert!(long.unwrap_err().to_string().contains("longer than 4096 bytes"));
    }
}
