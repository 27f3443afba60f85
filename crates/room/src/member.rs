//! Lines of the file `names`: the members of a room, whether each member is connected, raised hands, microphone states
//! and weak connections.

use std::fmt;
use std::str::FromStr;

use crate::{Name, display_name_is_valid};

/// State of a member's microphone, as the member's page shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MicState {
    /// The microphone is on, or its state was not reported.
    #[default]
    Open,
    /// The member has muted the microphone.
    Muted,
    /// The member has no microphone, and only listens.
    None,
}

/// A line of the file `names`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The member's login name.
    pub name: Name,
    /// The member's display name.
    pub display: String,
    /// Whether a page or a program of the member is connected.
    pub here: bool,
    /// Place in the queue of raised hands, from 1. 0 if the member has raised no hand.
    pub hand: u16,
    /// State of the member's microphone.
    pub voice: MicState,
    /// Whether the member's page reports a weak connection.
    pub weak: bool,
}

impl Member {
    /// Returns a member without raised hand, with the microphone on.
    #[must_use]
    pub fn new(name: Name, display: impl Into<String>, here: bool) -> Self {
        Self { name, display: display.into(), here, hand: 0, voice: MicState::Open, weak: false }
    }

    /// Returns the second field of a line of `names`.
    pub(crate) fn words(&self) -> String {
        let here = if self.here { "here" } else { "away" };
        let hand = match self.hand {
            0 => String::new(),
            1 => " hand".to_owned(),
            place => format!(" hand {place}"),
        };
        let voice = match self.voice {
            MicState::Open => "",
            MicState::Muted => " muted",
            MicState::None => " listening",
        };
        let weak = if self.weak { " weak" } else { "" };
        format!("{here}{hand}{voice}{weak}")
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}\t{}", self.name, self.words(), self.display)
    }
}

impl FromStr for Member {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let wrong = || {
            "a line about a person in the room is invalid; the format is 'NAME tab here|away [hand [PLACE]] [muted|listening] [weak] tab DISPLAY NAME'"
                .to_owned()
        };
        let (name, rest) = line.split_once('\t').ok_or_else(wrong)?;
        let (states, display) = rest.split_once('\t').ok_or_else(wrong)?;
        if !display_name_is_valid(display) {
            return Err(
                "the display name is invalid; use 1 to 64 characters, not only spaces, and no control characters"
                    .into(),
            );
        }
        let name = name.parse().map_err(|error| format!("{error}"))?;
        let mut member = Self::new(name, display, states.split(' ').next() == Some("here"));
        for (place, word) in states.split(' ').enumerate() {
            match (place, word) {
                (0, "here" | "away") => {}
                (1.., "hand") => member.hand = 1,
                (2.., word) if member.hand == 1 && word.parse().is_ok_and(|place: u16| place > 1) => {
                    member.hand = word.parse().unwrap_or(1);
                }
                (1.., "muted") => member.voice = MicState::Muted,
                (1.., "listening") => member.voice = MicState::None,
                (1.., "weak") => member.weak = true,
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
    fn a_written_line_is_parsed() {
        for line in [
            "alice\there\tZoé",
            "bob\taway\tBob <b> le Bricoleur",
            "carol\there hand muted\tCarol",
            "eve\there hand 2 muted\tEve",
            "dan\there listening\tD",
            "fay\there hand 2 muted weak\tFay",
        ] {
            assert_eq!(line.parse::<Member>().unwrap().to_string(), line);
        }
    }

    #[test]
    fn invalid_lines_are_refused() {
        for bad in [
            "",
            "alice",
            "alice\tAlice",
            "alice\tthere\tAlice",
            "alice\thand\tAlice",
            "alice\there loud\tAlice",
            "alice\there 2\tAlice",
            "alice\there hand 0\tAlice",
            "alice\there hand 65536\tAlice",
            "alice\there  hand\tAlice",
            "Alice\there\tA",
            "alice\there\t",
            "a\there\tx\ty",
        ] {
            assert!(bad.parse::<Member>().is_err(), "{bad:?}");
        }
    }
}
