//! The file `presence` of a participant: the raised hand, the microphone's state and whether the connection is weak. The participant's listener writes
//! the file, and the next listener process reads it.

use std::fmt;
use std::str::FromStr;

use crate::small_file::{read, write_or_remove};
use crate::{MicState, ParticipantDir, RoomError};

/// Maximum length of the file `presence`, in bytes.
const MAX_BYTES: u64 = 64;

/// The raised hand, the microphone's state and the connection of a participant, as the participant's page reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// Whether the participant has raised a hand.
    pub hand: bool,
    /// State of the participant's microphone.
    pub voice: MicState,
    /// Whether the connection is weak.
    pub weak: bool,
}

/// Writes the words that follow `here` in the file `names`, separated by a space. Writes nothing for the default.
impl fmt::Display for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hand = if self.hand { "hand" } else { "" };
        let voice = match self.voice {
            MicState::Open => "",
            MicState::Muted => "muted",
            MicState::None => "listening",
        };
        let weak = if self.weak { "weak" } else { "" };
        let words: Vec<&str> = [hand, voice, weak].into_iter().filter(|word| !word.is_empty()).collect();
        f.write_str(&words.join(" "))
    }
}

impl FromStr for Presence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut presence = Self::default();
        for word in text.split_ascii_whitespace() {
            match word {
                "hand" => presence.hand = true,
                "muted" => presence.voice = MicState::Muted,
                "listening" => presence.voice = MicState::None,
                "weak" => presence.weak = true,
                _ => {
                    return Err(
                        "the presence of a participant is invalid; the format is '[hand] [muted|listening] [weak]'"
                            .into(),
                    );
                }
            }
        }
        Ok(presence)
    }
}

impl ParticipantDir {
    /// Reads the file `presence`. Returns the default if there is no such file.
    ///
    /// # Errors
    /// The file can't be read or is invalid.
    pub fn presence(&self) -> Result<Presence, RoomError> {
        let path = self.path().join("presence");
        let text = read(&path, MAX_BYTES)?.unwrap_or_default();
        text.parse().map_err(|why: String| RoomError::content(&path, why))
    }

    /// Writes the file `presence`, or removes the file if `presence` is the default.
    ///
    /// # Errors
    /// The file can't be written or removed.
    pub fn set_presence(&self, presence: Presence) -> Result<(), RoomError> {
        let is_default = presence == Presence::default();
        write_or_remove(&self.path().join("presence"), (!is_default).then(|| format!("{presence}\n")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Format, RoomDir};

    #[test]
    fn presence_is_read_back_and_the_default_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        room.create(Format::default()).unwrap();
        let alice = room.participant(&"alice".parse().unwrap());
        alice.create().unwrap();
        assert_eq!(alice.presence().unwrap(), Presence::default());
        for (hand, voice) in
            [(true, MicState::Muted), (true, MicState::Open), (false, MicState::None), (false, MicState::Open)]
        {
            let presence = Presence { hand, voice, weak: hand };
            alice.set_presence(presence).unwrap();
            assert_eq!(alice.presence().unwrap(), presence);
        }
        assert!(!alice.path().join("presence").exists());
        for invalid in ["Hand", "hand loud", &"hand ".repeat(20)] {
            std::fs::write(alice.path().join("presence"), invalid).unwrap();
            assert!(alice.presence().is_err(), "{invalid}");
        }
    }
}
