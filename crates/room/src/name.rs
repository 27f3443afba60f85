//! Names of participants and rooms. No other text from outside becomes a part of a path.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// Maximum length of a name in bytes.
const MAX_LEN: usize = 32;

/// Names of files in a room's directory. Participants can't have these names. A further kind of file there needs a name that begins with a
/// character with which no name of a participant begins, such as `.` or `_`.
const RESERVED: [&str; 5] = ["format", "levelling", "levels", "names", "recording"];

/// A name of a participant or a room: `[a-z0-9][a-z0-9_-]{0,31}`, but none of the names that are reserved for files in a room's
/// directory. A name is safe as a path component.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

/// Error: the text is not a valid name of a participant or room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text has other characters than a name, or is too long.
    #[error("'{}' is not a valid name; use 1 to 32 characters of a-z, 0-9, '_' and '-', and begin with a letter or a digit", .0.escape_default())]
    Invalid(String),
    /// The name is reserved for a file in a room's directory.
    #[error("'{0}' is not a valid name, because a file in a room's directory has this name; choose another name")]
    Reserved(String),
}

impl Name {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let first = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let rest = |b: &u8| first(b) || *b == b'_' || *b == b'-';
        let bytes = text.as_bytes();
        let valid = bytes.len() <= MAX_LEN && bytes.first().is_some_and(first) && bytes.iter().all(rest);
        match valid {
            true if RESERVED.contains(&text) => Err(NameError::Reserved(text.to_owned())),
            true => Ok(Self(text.into())),
            false => Err(NameError::Invalid(text.chars().take(MAX_LEN + 1).collect())),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<Path> for Name {
    fn as_ref(&self) -> &Path {
        Path::new(&*self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_have_lower_case_letters_digits_underscores_and_hyphens() {
        for good in ["a", "0", "alice", "p01", "a-b_c", &"x".repeat(32)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in RESERVED {
            assert_eq!(bad.parse::<Name>().unwrap_err(), NameError::Reserved(bad.to_owned()));
        }
        for bad in ["", "-a", "_a", "Alice", "é", "a/b", "..", ".", "a b", "a\n", &"x".repeat(33)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    /// Compares the reserved names with docs/room-directory.md: the tree at its beginning lists every file in a room's directory.
    #[test]
    fn no_participant_can_have_the_name_of_a_file_in_the_room_s_directory() {
        let document = include_str!("../../../docs/room-directory.md");
        let tree = document.split("```").nth(1).unwrap();
        let entries = tree.lines().filter_map(|line| line.strip_prefix("    ").filter(|line| !line.starts_with(' ')));
        let names: Vec<&str> = entries.filter_map(|line| line.split(' ').next()).collect();
        let files: Vec<&str> = names.into_iter().filter(|name| !name.ends_with('/')).collect();
        assert!(files.len() >= RESERVED.len(), "{files:?}");
        for file in files {
            assert!(file.parse::<Name>().is_err(), "a participant can be called '{file}'");
        }
    }

    proptest! {
        #[test]
        fn a_name_never_leaves_its_directory(text in ".{0,40}") {
            if let Ok(name) = text.parse::<Name>() {
                let path = Path::new("/room").join(&name);
                prop_assert_eq!(path.parent().unwrap(), Path::new("/room"));
            }
        }
    }
}
