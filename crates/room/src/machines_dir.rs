//! The directory `.machines` of a room: the pipes that connect the room with the same room on other machines.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::make::{Dir, PARTICIPANT_MODE, ROOM_MODE, split};
use crate::{Name, RoomError};

/// Name of the directory. No participant can have this name.
pub const MACHINES: &str = ".machines";
/// Beginning of the name of a pipe with the sum of another machine's talkers. The name of the machine follows.
const FROM: &str = "from-";
/// Maximum length of a machine's name: with `from-` before it, it must be valid as the name of a track of a recording.
pub const MAX_MACHINE_CHARS: usize = 27;

/// Returns the name of a machine, or `None` if the text is no such name: it is as a participant's name, with at most
/// [`MAX_MACHINE_CHARS`] characters.
#[must_use]
pub fn machine_name(text: &str) -> Option<Name> {
    text.parse().ok().filter(|_| text.len() <= MAX_MACHINE_CHARS)
}

/// The directory `.machines`. It exists if the room is shared with other machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachinesDir {
    path: PathBuf,
}

impl MachinesDir {
    pub(crate) fn new(room: &Path) -> Self {
        Self { path: room.join(MACHINES) }
    }

    /// Returns the path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the directory (mode 2770), the pipe `out`, and a pipe for each of the machines. The directory of the room must exist.
    ///
    /// # Errors
    /// An entry can't be created, is of another type, or belongs to another user.
    pub fn create(&self, machines: &[Name]) -> Result<(), RoomError> {
        let (room, name) = split(&self.path)?;
        let (rooms, room) = split(room)?;
        let dir = Dir::trusted(rooms)?.dir(room, ROOM_MODE)?.own_dir(OsStr::new(name), PARTICIPANT_MODE)?;
        dir.pipe("out")?;
        machines.iter().try_for_each(|machine| dir.pipe(&format!("{FROM}{machine}")))
    }

    /// Returns the path of the pipe with the sum of this machine's talkers.
    #[must_use]
    pub fn out(&self) -> PathBuf {
        self.path.join("out")
    }

    /// Returns the path of the pipe with the sum of another machine's talkers.
    #[must_use]
    pub fn from(&self, machine: &Name) -> PathBuf {
        self.path.join(format!("{FROM}{machine}"))
    }

    /// Returns the path of the socket that receives the text messages for other machines.
    #[must_use]
    pub fn inbox(&self) -> PathBuf {
        self.path.join("inbox")
    }

    /// Returns the name of the machine to which a pipe of the directory belongs, or `None` for other entries.
    #[must_use]
    pub fn machine(entry: &str) -> Option<Name> {
        machine_name(entry.strip_prefix(FROM)?)
    }

    /// Returns the names of the machines whose pipes exist, sorted. Returns no names if the directory doesn't exist.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn machines(&self) -> Result<Vec<Name>, RoomError> {
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(RoomError::io("read", &self.path)(error)),
        };
        let names = entries.filter_map(Result::ok).filter_map(|entry| Self::machine(entry.file_name().to_str()?));
        let mut names: Vec<Name> = names.collect();
        names.sort();
        Ok(names)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Format, RoomDir};

    #[test]
    fn pipes_of_machines_are_created_and_found() {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        room.create(Format::default()).unwrap();
        let machines = room.machines();
        assert_eq!(machines.machines().unwrap(), []);
        let names: Vec<Name> = ["lyon", "paris"].iter().map(|name| name.parse().unwrap()).collect();
        machines.create(&names).unwrap();
        machines.create(&names[1..]).unwrap();
        assert_eq!(machines.machines().unwrap(), names);
        assert!([machines.out(), machines.from(&names[0])].iter().all(|pipe| pipe.exists()));
        assert!(room.participants().unwrap().is_empty());
        for other in ["out", "from-", "from-Paris", "from-a2345678901234567890123456789", "to-paris"] {
            assert_eq!(MachinesDir::machine(other), None, "{other}");
        }
    }
}
