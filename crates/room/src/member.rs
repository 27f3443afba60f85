//! Lines of the file `names`: who belongs to a room, who is here, and what they show of themselves.

use std::fmt;
use std::str::FromStr;

use crate::{Name, display_name_is_valid};

/// What somebody's page says of its microphone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Voice {
    /// They can be heard, or nothing was said of it.
    #[default]
    Open,
    /// They have muted themselves.
    Muted,
    /// They only listen: there is no microphone.
    None,
}

/// A line of the file `names`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The login name.
    pub name: Name,
    /// What people call them.
    pub display: String,
    /// Whether somebody listens for them just now.
    pub here: bool,
    /// Whether they have raised a hand.
    pub hand: bool,
    /// Their microphone.
    pub voice: Voice,
}

impl Member {
    /// Somebody who shows nothing of themselves.
    #[must_use]
    pub fn new(name: Name, display: impl Into<String>, here: bool) -> Self {
        Self { name, display: display.into(), here, hand: false, voice: Voice::Open }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let here = if self.here { "here" } else { "away" };
        let hand = if self.hand { " hand" } else { "" };
        let voice = match self.voice {
            Voice::Open => "",
            Voice::Muted => " muted",
            Voice::None => " listening",
        };
        write!(f, "{}\t{here}{hand}{voice}\t{}", self.name, self.display)
    }
}

impl FromStr for Member {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let wrong = || "a line is 'NAME tab here|away [hand] [muted|listening] tab DISPLAY NAME'".to_owned();
        let (name, rest) = line.split_once('\t').ok_or_else(wrong)?;
        let (states, display) = rest.split_once('\t').ok_or_else(wrong)?;
        if !display_name_is_valid(display) {
            return Err("a display name is 1 to 64 characters, none of them a control character".into());
        }
        let name = name.parse().map_err(|error| format!("{error}"))?;
        let mut member = Self::new(name, display, states.split(' ').next() == Some("here"));
        for (place, word) in states.split(' ').enumerate() {
            match (place, word) {
                (0, "here" | "away") => {}
                (1.., "hand") => member.hand = true,
                (1.., "muted") => member.voice = Voice::Muted,
                (1.., "listening") => member.voice = Voice::None,
                _ => return Err(wrong()),
            }
        }
        Ok(member)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back_as_it_was_written() {
        for line in [
            "alice\there\tZoé",
            "bob\taway\tBob <b> le Bricoleur",
            "carol\there hand muted\tCarol",
            "dan\there listening\tD",
        ] {
            assert_eq!(line.parse::<Member>().unwrap().to_string(), line);
        }
    }

    #[test]
    fn other_lines_are_refused() {
        for bad in [
            "",
            "alice",
            "alice\tAlice",
            "alice\tthere\tAlice",
            "alice\thand\tAlice",
            "alice\there loud\tAlice",
            "alice\there  hand\tAlice",
            "Alice\there\tA",
            "alice\there\t",
            "a\there\tx\ty",
        ] {
            assert!(bad.parse::<Member>().is_err(), "{bad:?}");
        }
    }
}
