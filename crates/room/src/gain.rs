//! The gain that the operator sets for a participant: decibels or mute.

use std::fmt;
use std::str::FromStr;

/// Content of the file `gain`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gain {
    /// Gain in decibels, −60 to +20. A gain of 0 doesn't change the samples.
    Db(f32),
    /// The participant is muted: nobody hears the participant.
    Mute,
}

/// Error: the text is not a valid gain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a gain; allowed are decibels from -60 to 20, or 'mute'", .0.escape_default())]
pub struct GainError(String);

impl Default for Gain {
    fn default() -> Self {
        Self::Db(0.0)
    }
}

impl FromStr for Gain {
    type Err = GainError;

    fn from_str(text: &str) -> Result<Self, GainError> {
        let wrong = || GainError(text.chars().take(64).collect());
        match text.trim() {
            "mute" => Ok(Self::Mute),
            number => {
                let db: f32 = number.parse().map_err(|_| wrong())?;
                if (-60.0..=20.0).contains(&db) { Ok(Self::Db(db)) } else { Err(wrong()) }
            }
        }
    }
}

impl fmt::Display for Gain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Db(db) => write!(f, "{db:.1}"),
            Self::Mute => f.write_str("mute"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_gain_is_decibels_or_mute() {
        assert_eq!("-6.0\n".parse(), Ok(Gain::Db(-6.0)));
        assert_eq!("mute".parse(), Ok(Gain::Mute));
        for bad in ["", "x", "21", "-60.1", "nan", "inf", "MUTE"] {
            assert!(bad.parse::<Gain>().is_err(), "{bad:?}");
        }
    }
}
