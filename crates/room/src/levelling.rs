//! Whether voices are brought to one loudness: on or off.

use std::fmt;
use std::str::FromStr;

/// What the file `levelling` says, of a room or of a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levelling {
    /// Speech is brought to one loudness.
    On,
    /// Every sample stays as it is.
    Off,
}

/// The text is neither.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a levelling; allowed are 'on' and 'off'", .0.escape_default())]
pub struct LevellingError(String);

impl Levelling {
    /// Whether somebody is levelled of whom his own file and the room's say this. Where there is no file of his own the
    /// room's decides, and where that is missing too nobody is.
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
    fn ones_own_word_goes_before_the_rooms_and_without_any_nobody_is_levelled() {
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
    fn on_and_off_are_read_back_and_nothing_else_is() {
        for levelling in [Levelling::On, Levelling::Off] {
            assert_eq!(levelling.to_string().parse(), Ok(levelling));
        }
        let refused = "loud\n".parse::<Levelling>().map_err(|error| error.to_string());
        assert_eq!(refused, Err("'loud\\n' is not a levelling; allowed are 'on' and 'off'".to_owned()));
    }
}
