//! Lines of the file `levels`: who is talking and how loud.

use std::fmt;
use std::str::FromStr;

use crate::Name;

/// State of a participant in the file `levels`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// The participant is talking.
    Talking,
    /// The participant's microphone sends sound, but no speech.
    Quiet,
    /// The participant is muted by the file `gain`.
    Muted,
}

/// A line of the file `levels`.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelLine {
    /// The participant.
    pub name: Name,
    /// The participant's state.
    pub state: Talk,
    /// RMS level of the last 200 ms in dBFS; negative infinity for digital silence.
    pub dbfs: f32,
}

impl fmt::Display for LevelLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            Talk::Talking => "talking",
            Talk::Quiet => "quiet",
            Talk::Muted => "muted",
        };
        write!(f, "{}\t{state}\t{:.1}", self.name, self.dbfs)
    }
}

impl FromStr for LevelLine {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut fields = line.split('\t');
        let (Some(name), Some(state), Some(dbfs), None) = (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err("a line with a participant's level is invalid; the format is 'NAME tab STATE tab DBFS'".into());
        };
        let state = match state {
            "talking" => Talk::Talking,
            "quiet" => Talk::Quiet,
            "muted" => Talk::Muted,
            _ => return Err("the state of a participant is invalid; allowed are talking, quiet and muted".into()),
        };
        let dbfs =
            dbfs.parse().map_err(|_| "the level of a participant is invalid; use a number in dBFS".to_string())?;
        Ok(Self { name: name.parse().map_err(|e| format!("{e}"))?, state, dbfs })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_written_line_is_parsed() {
        for line in ["alice\ttalking\t-21.3", "bob\tquiet\t-62.0", "carol\tmuted\t-inf"] {
            assert_eq!(line.parse::<LevelLine>().unwrap().to_string(), line);
        }
    }

    #[test]
    fn invalid_lines_are_refused() {
        for bad in
            ["", "alice", "alice\ttalking", "alice\tsinging\t-3", "Alice\tquiet\t-3", "a\tquiet\tx", "a\tquiet\t1\t2"]
        {
            assert!(bad.parse::<LevelLine>().is_err(), "{bad:?}");
        }
    }
}
