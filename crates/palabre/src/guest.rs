//! A participant that a command makes for itself in a room, and takes away when it ends.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use palabre_host::exit::Failure;
use palabre_host::process;
use palabre_room::{Name, ParticipantDir, RoomDir, RoomError};

use crate::permission;

/// As all of them: the group may write, and what is made in it is the group's.
const DIR_MODE: u32 = 0o2770;
/// Of `a`, `a-2`, `a-3` … so many are tried.
const TRIES: u32 = 99;
const NAME_CHARS_MAX: usize = 32;

/// What the participant is called.
pub enum Called<'a> {
    /// This and nothing else.
    Exactly(&'a Name),
    /// This, or with a number after it where there is one already.
    Like(String),
}

/// A participant of ours; its directory goes when this is dropped.
pub struct Guest {
    name: Name,
    directory: ParticipantDir,
}

impl Guest {
    /// Makes the directory, then what `prepare` makes in it, then the pipes.
    ///
    /// # Errors
    /// There is no such room, or there is such a participant (refused); the directory can't be made (system).
    pub fn come(
        room: &RoomDir,
        called: &Called<'_>,
        prepare: impl FnOnce(&ParticipantDir) -> Result<(), RoomError>,
    ) -> Result<Self, Failure> {
        // From the moment that a pipe is there the mixer tries to open it.
        process::share_with_the_group_only();
        let guest = Self::make(room, called)?;
        prepare(&guest.directory).and_then(|()| guest.directory.create()).map_err(Failure::system)?;
        Ok(guest)
    }

    fn make(room: &RoomDir, called: &Called<'_>) -> Result<Self, Failure> {
        for number in 1..=TRIES {
            let name = match called {
                Called::Exactly(name) => (*name).clone(),
                Called::Like(base) => numbered(base, number),
            };
            let directory = room.participant(&name);
            let path = directory.path();
            match DirBuilder::new().mode(DIR_MODE).create(path) {
                Ok(()) => return Ok(Self { name, directory }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if matches!(called, Called::Exactly(_)) {
                        break;
                    }
                }
                Err(error) => {
                    let cause = format!("unable to create directory '{}': {error}", path.display());
                    return Err(Failure::system(permission::explain(room.path(), cause)));
                }
            }
        }
        Err(Failure::refused(format!(
            "unable to take part in '{}' under this name: there is such a participant; choose another name",
            room.path().display()
        )))
    }

    /// Their name in the room.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Their directory.
    #[must_use]
    pub fn directory(&self) -> &ParticipantDir {
        &self.directory
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.directory.remove();
    }
}

/// The room of this name, if there is one.
///
/// # Errors
/// There is none (refused).
pub fn room(run: &Path, name: &Name) -> Result<RoomDir, Failure> {
    let room = RoomDir::new(run.join("rooms").join(name));
    if room.path().is_dir() {
        return Ok(room);
    }
    Err(Failure::refused(format!(
        "unable to enter room '{name}': there is no directory '{}'; see --room and --run",
        room.path().display()
    )))
}

#[expect(clippy::expect_used, reason = "only characters that a name may have are left, and never none")]
fn numbered(base: &str, number: u32) -> Name {
    let tail = if number == 1 { String::new() } else { format!("-{number}") };
    let kept: String = base
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' { c } else { '-' })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(NAME_CHARS_MAX - tail.len())
        .collect();
    let kept = if kept.is_empty() { "guest" } else { kept.trim_end_matches('-') };
    format!("{kept}{tail}").parse().expect("a name")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_room::Format;

    #[test]
    fn a_name_is_made_of_any_text() {
        for (text, number, name) in [
            ("Été à la mer (live)", 1, "t----la-mer--live"),
            ("greeting", 2, "greeting-2"),
            ("---", 1, "guest"),
            ("李小龍", 99, "guest-99"),
            (&"x".repeat(40), 10, &format!("{}-10", "x".repeat(29))),
        ] {
            assert_eq!(numbered(text, number).as_str(), name);
        }
    }

    #[test]
    fn a_guest_has_a_name_of_its_own_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let room = RoomDir::new(directory.path().join("main"));
        room.create(Format::default()).unwrap();
        let like = Called::Like("jingle".to_owned());
        let first = Guest::come(&room, &like, |_| Ok(())).unwrap();
        let second = Guest::come(&room, &like, |guest| guest.set_without(&[first.name().clone()])).unwrap();
        assert_eq!((first.name().as_str(), second.name().as_str()), ("jingle", "jingle-2"));
        assert!(Guest::come(&room, &Called::Exactly(first.name()), |_| Ok(())).is_err());
        drop((first, second));
        assert!(room.participants().unwrap().is_empty());
    }
}
