//! Lines of the file `names`: who belongs to a room, and who is here.

use std::fmt;
use std::str::FromStr;

use crate::{Name, display_name_is_valid};

/// A line of the file `names`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The login name.
    pub name: Name,
    /// What people call them.
    pub display: String,
    /// Whether somebody listens for them just now.
    pub here: bool,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}\t{}", self.name, if self.here { "here" } else { "away" }, self.display)
    }
}

impl FromStr for Member {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let wrong = || "a line is 'NAME tab here|away tab DISPLAY NAME'".to_owned();
        let (name, rest) = line.split_once('\t').ok_or_else(wrong)?;
        let (state, display) = rest.split_once('\t').ok_or_else(wrong)?;
        let here = match state {
            "here" => true,
            "away" => false,
            _ => return Err(wrong()),
        };
        if !display_name_is_valid(display) {
            return Err("a display name is 1 to 64 characters, none of them a control character".into());
        }
        Ok(Self { name: name.parse().map_err(|error| format!("{error}"))?, display: display.to_owned(), here })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back_as_it_was_written() {
        for line in ["alice\there\tZoé", "bob\taway\tBob <b> le Bricoleur"] {
            assert_eq!(line.parse::<Member>().unwrap().to_string(), line);
        }
    }

    #[test]
    fn other_lines_are_refused() {
        for bad in
            ["", "alice", "alice\tAlice", "alice\tthere\tAlice", "Alice\there\tA", "alice\there\t", "a\there\tx\ty"]
        {
            assert!(bad.parse::<Member>().is_err(), "{bad:?}");
        }
    }
}
