//! The setting of levelling, which brings all speech to the same loudness: on or off.

use std::fmt;
use std::str::FromStr;

/// Content of the file `levelling` of a room or a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levelling {
    /// Speech is brought to the same loudness for all participants.
    On,
    /// Levelling is off: samples are not changed.
    Off,
}

/// Error: the text is neither `on` nor `off`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a setting of levelling; allowed are 'on' and 'off'", .0.escape_default())]
pub struct LevellingError(String);

impl Levelling {
    /// Returns whether a participant is levelled. The participant's file takes precedence over the room's file. Without
    /// both files, levelling is off.
    #[must_use]
    pub fn is_on(own: Option<Self>, room: Option<Self>) -> bool {
        own.or(room) == Some(Self::On)
    }
}

impl From<bool> for Levelling {
    fn from(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}

impl FromStr for Levelling {
    type Err = LevellingError;

    fn from_str(text: &str) -> Result<Self, LevellingError> {
        match text.trim() {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err(LevellingError(text.chars().take(64).collect())),
        }
    }
}

impl fmt::Display for Levelling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::On { "on" } else { "off" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_participants_file_takes_precedence_and_the_default_is_off() {
        use Levelling::{Off, On};
        for (own, room, is_on) in [
            (None, None, false),
            (None, Some(On), true),
            (None, Some(Off), false),
            (Some(Off), Some(On), false),
            (Some(On), None, true),
        ] {
            assert_eq!(Levelling::is_on(own, room), is_on, "{own:?} in {room:?}");
        }
    }

    #[test]
    fn only_on_and_off_are_parsed() {
        for levelling in [Levelling::On, Levelling::Off] {
            assert_eq!(levelling.to_string().parse(), Ok(levelling));
        }
        let refused = "loud\n".parse::<Levelling>().map_err(|error| error.to_string());
        assert_eq!(refused, Err("'loud\\n' is not a setting of levelling; allowed are 'on' and 'off'".to_owned()));
    }
}
