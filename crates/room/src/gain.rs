//! Gains: decibels or mute. The operator sets the gain of a participant, and each participant can set personal gains for the others.

use std::fmt;
use std::str::FromStr;

use crate::{Name, NameError};

/// Content of the file `gain`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gain {
    /// Gain in decibels, −60 to +20. A gain of 0 doesn't change the samples.
    Db(f32),
    /// The participant is not heard.
    Mute,
}

/// Error: the text is not a valid gain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a gain; allowed are decibels from -60 to 20, or 'mute'", .0.escape_default())]
pub struct GainError(String);

/// Maximum number of lines of the file `gains`.
pub const MAX_GAINS: usize = 1000;

/// A line of the file `gains`: the gain with which the file's participant hears another participant.
#[derive(Clone, Debug, PartialEq)]
pub struct PersonalGain {
    /// The participant who is heard.
    pub name: Name,
    /// The gain with which only this listener hears the participant, in addition to the gain that the operator has set.
    pub gain: Gain,
}

/// Error: the text is not a line of the file `gains`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PersonalGainError {
    /// The login name is invalid.
    #[error("{0}")]
    Name(#[from] NameError),
    /// The gain is invalid.
    #[error("{0}")]
    Gain(#[from] GainError),
}

impl PersonalGain {
    /// Returns the line that mutes the participant `name` for the file's participant.
    #[must_use]
    pub fn mute(name: Name) -> Self {
        Self { name, gain: Gain::Mute }
    }
}

impl FromStr for PersonalGain {
    type Err = PersonalGainError;

    /// Parses a line. A line with only a login name means that this participant is not heard.
    fn from_str(line: &str) -> Result<Self, PersonalGainError> {
        let line = line.trim();
        let (name, gain) = line.split_once(char::is_whitespace).unwrap_or((line, "mute"));
        Ok(Self { name: name.parse()?, gain: gain.parse()? })
    }
}

impl fmt::Display for PersonalGain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}", self.name, self.gain)
    }
}

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

    #[test]
    fn a_personal_gain_is_a_name_and_a_gain_and_a_name_alone_means_mute() {
        let line = |text: &str| text.parse::<PersonalGain>().map(|line| line.to_string());
        assert_eq!(line("bob\t-6.04").as_deref(), Ok("bob\t-6.0"));
        assert_eq!(line(" bob ").as_deref(), Ok("bob\tmute"));
        assert!("Bob\t0".parse::<PersonalGain>().unwrap_err().to_string().contains("Bob"));
        for bad in ["", "bob\tloud", "bob\t1\t2", "../bob", "bob\t21"] {
            assert!(line(bad).is_err(), "{bad:?}");
        }
    }
}
