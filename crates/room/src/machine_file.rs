//! The directory `.other-machines` of a room: who takes part in the room on other machines.
//!
//! A program that connects this machine with others writes one file per machine, and listeners read the files.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::small_file::{read, write, write_or_remove};
use crate::{LevelLine, Member, Name, RoomError, Talk, machine_name};

/// Name of the directory. No participant can have this name.
pub const OTHER_MACHINES: &str = ".other-machines";
/// Maximum length of the file of a machine, in bytes.
pub const MAX_MACHINE_BYTES: usize = 64_000;
/// Maximum number of people in the file of a machine. The first line is the state of the machine.
pub const MAX_MACHINE_PEOPLE: usize = 999;
/// Maximum number of other machines: of those that a bridge connects, and of those whose files are read.
pub const MAX_MACHINES: usize = 31;

/// What is known about a room on another machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MachineState {
    /// Whether the machine is cut off: the connection was lost, and its people are those from before the loss.
    pub is_cut_off: bool,
    /// Whether the machine records the room.
    pub is_recorded: bool,
    /// The members of the room on the machine.
    pub people: Vec<MachinePerson>,
}

/// A member of the room on another machine.
#[derive(Clone, Debug, PartialEq)]
pub struct MachinePerson {
    /// Name and presence, as in the file `names` of that machine.
    pub member: Member,
    /// How loud the member is.
    pub level: MachineLevel,
}

/// How loud a member of a room on another machine is, as in the file `levels` of that machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum MachineLevel {
    /// Silent: without a line in `levels`.
    #[default]
    Silent,
    /// Talking, with this level in dBFS.
    Talking(f32),
    /// The microphone sends sound but no speech, with this level in dBFS.
    Quiet(f32),
    /// Muted by the file `gain`.
    Muted,
}

impl From<&LevelLine> for MachineLevel {
    fn from(line: &LevelLine) -> Self {
        match line.state {
            Talk::Talking => Self::Talking(line.dbfs),
            Talk::Quiet => Self::Quiet(line.dbfs),
            Talk::Muted => Self::Muted,
        }
    }
}

impl fmt::Display for MachineLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("-"),
            Self::Talking(dbfs) => write!(f, "talking {dbfs:.1}"),
            Self::Quiet(dbfs) => write!(f, "quiet {dbfs:.1}"),
            Self::Muted => f.write_str("muted"),
        }
    }
}

impl FromStr for MachineLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "the level of a person on another machine is invalid; allowed are 'talking DBFS', 'quiet DBFS', 'muted' and '-'".to_owned()
        };
        let (word, dbfs) = match text.split_once(' ') {
            Some((word, dbfs)) => (word, Some(dbfs.parse::<f32>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        match (word, dbfs) {
            ("-", None) => Ok(Self::Silent),
            ("talking", Some(dbfs)) => Ok(Self::Talking(dbfs)),
            ("quiet", Some(dbfs)) => Ok(Self::Quiet(dbfs)),
            ("muted", None) => Ok(Self::Muted),
            _ => Err(wrong()),
        }
    }
}

/// Writes a line of the machine's file: the fields of a line of `names`, with the level before the display name.
impl fmt::Display for MachinePerson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Member { name, display, .. } = &self.member;
        write!(f, "{name}\t{}\t{}\t{display}", self.member.words(), self.level)
    }
}

impl FromStr for MachinePerson {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut fields = line.splitn(4, '\t');
        let (Some(name), Some(words), Some(level), Some(display)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err("a line about a person on another machine is invalid; the format is 'NAME tab WORDS tab LEVEL tab DISPLAY NAME'".into());
        };
        Ok(Self { member: format!("{name}\t{words}\t{display}").parse()?, level: level.parse()? })
    }
}

/// Writes the content of the file. Omits people above the maximum number, and people with whom the file would exceed the maximum length.
impl fmt::Display for MachineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_cut_off { "cut-off" } else { "connected" };
        let recorded = if self.is_recorded { " recorded" } else { "" };
        let first = format!("{state}{recorded}\n");
        f.write_str(&first)?;
        let mut length = first.len();
        for person in self.people.iter().take(MAX_MACHINE_PEOPLE) {
            let line = format!("{person}\n");
            length += line.len();
            if length > MAX_MACHINE_BYTES {
                break;
            }
            f.write_str(&line)?;
        }
        Ok(())
    }
}

/// Parses the content of the file. Ignores invalid lines of people, further lines of the same person, unknown words of the first line, and
/// people after the maximum number.
impl FromStr for MachineState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let is_cut_off = match words.next() {
            Some("connected") => false,
            Some("cut-off") => true,
            _ => return Err("the first line of another machine's file must begin with 'connected' or 'cut-off'".into()),
        };
        let is_recorded = words.any(|word| word == "recorded");
        let people = lines.take(MAX_MACHINE_PEOPLE).filter_map(|line| line.parse::<MachinePerson>().ok());
        let mut known = BTreeSet::new();
        let people = people.filter(|person| known.insert(person.member.name.clone())).collect();
        Ok(Self { is_cut_off, is_recorded, people })
    }
}

/// The directory `.other-machines`. It has a file for each other machine that shares the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherMachines {
    path: PathBuf,
}

impl OtherMachines {
    pub(crate) fn new(room: &Path) -> Self {
        Self { path: room.join(OTHER_MACHINES) }
    }

    /// Returns the path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the file of a machine.
    #[must_use]
    pub fn file(&self, machine: &Name) -> PathBuf {
        self.path.join(machine)
    }

    /// Returns the names of the machines that have a file, sorted. Returns no names if the directory doesn't exist.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn machines(&self) -> Result<Vec<Name>, RoomError> {
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(RoomError::io("read", &self.path)(error)),
        };
        let names = entries.filter_map(Result::ok).filter_map(|entry| machine_name(entry.file_name().to_str()?));
        let mut names: Vec<Name> = names.collect();
        names.sort();
        Ok(names)
    }

    /// Reads the file of a machine. Returns `None` if there is no such file.
    ///
    /// # Errors
    /// The file can't be read, is longer than [`MAX_MACHINE_BYTES`], or its first line is invalid.
    pub fn read(&self, machine: &Name) -> Result<Option<MachineState>, RoomError> {
        self.read_text(machine)?.map(|text| self.parse(machine, &text)).transpose()
    }

    /// Reads the file of a machine without parsing it. Returns `None` if there is no such file.
    ///
    /// # Errors
    /// The file can't be read, or is longer than [`MAX_MACHINE_BYTES`].
    pub fn read_text(&self, machine: &Name) -> Result<Option<String>, RoomError> {
        read(&self.file(machine), MAX_MACHINE_BYTES as u64)
    }

    /// Parses the text of a machine's file.
    ///
    /// # Errors
    /// The first line is invalid. The error names the file.
    pub fn parse(&self, machine: &Name, text: &str) -> Result<MachineState, RoomError> {
        text.parse().map_err(|why: String| RoomError::content(&self.file(machine), why))
    }

    /// Replaces the file of a machine.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, machine: &Name, state: &MachineState) -> Result<(), RoomError> {
        write(&self.file(machine), &state.to_string())
    }

    /// Removes the file of a machine, if it exists.
    ///
    /// # Errors
    /// The file can't be removed.
    pub fn remove(&self, machine: &Name) -> Result<(), RoomError> {
        write_or_remove(&self.file(machine), None)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Format, RoomDir};

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_written_state_is_parsed() {
        for text in [
            "connected\n",
            "cut-off recorded\nalice\taway\tmuted\tZoé\n",
            "connected\na\there hand 2 muted weak\tquiet -62.0\tA <b>\nb\there\ttalking -inf\tB\nc\there\t-\tC\n",
        ] {
            assert_eq!(text.parse::<MachineState>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn invalid_lines_are_ignored_and_an_invalid_first_line_is_refused() {
        let text = "connected quickly recorded\nalice\nalice\there\t-\nA\there\t-\tA\na\tthere\t-\tA\n\
                    a\there\tsinging -1\tA\na\there\tmuted -1\tA\na\there\t-\ta\tb\nbob\there\t-\tBob\nbob\taway\t-\tB\n";
        let state = text.parse::<MachineState>().unwrap();
        let names: Vec<_> = state.people.iter().map(|person| person.member.name.as_str()).collect();
        assert_eq!((state.is_recorded, names), (true, vec!["bob"]));
        for bad in ["", "\n", "recorded", "Connected\n", "alice\there\t-\tAlice\n"] {
            assert!(bad.parse::<MachineState>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn people_beyond_the_limits_are_neither_written_nor_read() {
        let people = |count: usize, display: &str| MachineState {
            people: (0..count)
                .map(|n| MachinePerson {
                    member: Member::new(name(&format!("p{n}")), display, true),
                    level: MachineLevel::Silent,
                })
                .collect(),
            ..MachineState::default()
        };
        let many = people(2000, "A");
        assert_eq!(many.to_string().parse::<MachineState>().unwrap().people.len(), MAX_MACHINE_PEOPLE);
        let lines: String = (0..2000).map(|n| format!("p{n}\there\t-\tA\n")).collect();
        let text = format!("connected\n{lines}");
        assert_eq!(text.parse::<MachineState>().unwrap().people.len(), MAX_MACHINE_PEOPLE);
        let long = people(900, &"\u{1f600}".repeat(64));
        assert!((MAX_MACHINE_BYTES - 300..=MAX_MACHINE_BYTES).contains(&long.to_string().len()));
    }

    #[test]
    fn files_of_machines_are_found_written_read_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        let machines = room.other_machines();
        assert_eq!(machines.machines().unwrap(), []);
        room.create(Format::default()).unwrap();
        let paris = name("paris");
        assert_eq!(machines.read(&paris).unwrap(), None);
        let state = MachineState { is_cut_off: true, ..MachineState::default() };
        machines.write(&paris, &state).unwrap();
        for other in [".paris.17", "Lyon", &"a".repeat(28)] {
            std::fs::write(machines.path().join(other), "connected\n").unwrap();
        }
        assert_eq!((machines.machines().unwrap(), machines.read(&paris).unwrap()), (vec![paris.clone()], Some(state)));
        std::fs::write(machines.file(&paris), format!("connected\n{}", "\n".repeat(MAX_MACHINE_BYTES))).unwrap();
        assert!(machines.read(&paris).is_err());
        machines.remove(&paris).unwrap();
        machines.remove(&paris).unwrap();
        assert_eq!(machines.machines().unwrap(), []);
        assert!(room.participants().unwrap().is_empty());
    }
}
