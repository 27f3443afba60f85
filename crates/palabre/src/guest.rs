//! A guest: a participant that a command adds to a room while the command runs.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use palabre_host::exit::Failure;
use palabre_host::process;
use palabre_room::{Name, NameError, ParticipantDir, RoomDir, RoomError};

use crate::permission;

/// Mode of a participant's directory: the group may write, and new files inherit the group.
const DIR_MODE: u32 = 0o2770;
/// Maximum number of names that are tried for a guest: `a`, `a-2`, `a-3`, …
const MAX_TRIES: u32 = 99;
/// Maximum length of a participant's name, in characters.
const MAX_NAME_CHARS: usize = 32;

/// The wanted name of a guest.
pub(crate) enum GuestName<'a> {
    /// Exactly this name. Joining fails if the name is in use.
    Exactly(&'a Name),
    /// A name made from this text. A number is appended if the name is in use.
    BasedOn(String),
}

/// A guest in a room. Dropping this removes the guest's directory from the room.
pub(crate) struct Guest {
    name: Name,
    directory: ParticipantDir,
}

impl Guest {
    /// Creates the guest's directory, runs `prepare`, then creates the pipes. The order matters: the mixer opens the pipes as soon as they
    /// exist.
    pub(crate) fn join(
        room: &RoomDir,
        name: &GuestName<'_>,
        prepare: impl FnOnce(&ParticipantDir) -> Result<(), RoomError>,
    ) -> Result<Self, Failure> {
        process::share_with_the_group_only();
        let guest = Self::create(room, name)?;
        prepare(&guest.directory).and_then(|()| guest.directory.create()).map_err(Failure::system)?;
        Ok(guest)
    }

    fn create(room: &RoomDir, wanted: &GuestName<'_>) -> Result<Self, Failure> {
        for number in 1..=MAX_TRIES {
            let name = match wanted {
                GuestName::Exactly(name) => (*name).clone(),
                GuestName::BasedOn(base) => match numbered(base, number) {
                    Ok(name) => name,
                    // The name is reserved for a file in a room's directory, so the next number is tried.
                    Err(_) => continue,
                },
            };
            let directory = room.participant(&name);
            let path = directory.path();
            match DirBuilder::new().mode(DIR_MODE).create(path) {
                Ok(()) => return Ok(Self { name, directory }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if matches!(wanted, GuestName::Exactly(_)) {
                        break;
                    }
                }
                Err(error) => {
                    let cause = format!("unable to create directory '{}': {error}", path.display());
                    return Err(Failure::system(permission::explain(room.path(), cause)));
                }
            }
        }
        let cause = match wanted {
            GuestName::Exactly(name) => {
                format!("the name '{name}' is in use in this room; choose another name with --name")
            }
            GuestName::BasedOn(base) => {
                format!(
                    "all {MAX_TRIES} names like '{base}' are in use in this room; end some 'palabre play' or 'palabre tap' commands that use them"
                )
            }
        };
        Err(Failure::refused(format!("unable to join '{}': {cause}", room.path().display())))
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn directory(&self) -> &ParticipantDir {
        &self.directory
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.directory.remove();
    }
}

/// Returns the directory of the room `name`. Fails if the room doesn't exist, or if this user has no permission to see it.
pub(crate) fn room(run: &Path, name: &Name) -> Result<RoomDir, Failure> {
    let room = RoomDir::new(run.join("rooms").join(name));
    let path = room.path();
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(room),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let cause = format!("unable to join room '{name}': no permission to see '{}'", path.display());
            // This user has no permission for the deepest directory on the path that the user can still see.
            let closed = path.ancestors().find(|path| fs::metadata(path).is_ok()).unwrap_or(run);
            Err(Failure::system(permission::explain(closed, cause)))
        }
        _ => Err(Failure::refused(format!(
            "unable to join room '{name}': there is no directory '{}'; choose another room with --room, or another directory with --run",
            path.display()
        ))),
    }
}

/// Makes a name from a text and a number. Fails if the name is reserved for a file in a room's directory, such as `levels`.
fn numbered(base: &str, number: u32) -> Result<Name, NameError> {
    let tail = if number == 1 { String::new() } else { format!("-{number}") };
    let kept: String = base
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' { c } else { '-' })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(MAX_NAME_CHARS - tail.len())
        .collect();
    let kept = if kept.is_empty() { "guest" } else { kept.trim_end_matches('-') };
    format!("{kept}{tail}").parse()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_room::{Format, PersonalGain};

    #[test]
    fn any_text_becomes_a_valid_name() {
        for (text, number, name) in [
            ("Été à la mer (live)", 1, "t----la-mer--live"),
            ("greeting", 2, "greeting-2"),
            ("---", 1, "guest"),
            ("李小龍", 99, "guest-99"),
            (&"x".repeat(40), 10, &format!("{}-10", "x".repeat(29))),
        ] {
            assert_eq!(numbered(text, number).unwrap().as_str(), name);
        }
    }

    #[test]
    fn guest_gets_a_unique_name_and_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let room = RoomDir::new(directory.path().join("main"));
        room.create(Format::default()).unwrap();
        let base = GuestName::BasedOn("jingle".to_owned());
        let recording = Guest::join(&room, &GuestName::BasedOn("recording".to_owned()), |_| Ok(())).unwrap();
        assert_eq!(recording.name().as_str(), "recording-2");
        drop(recording);
        let first = Guest::join(&room, &base, |_| Ok(())).unwrap();
        let second =
            Guest::join(&room, &base, |guest| guest.set_gains(&[PersonalGain::mute(first.name().clone())])).unwrap();
        assert_eq!((first.name().as_str(), second.name().as_str()), ("jingle", "jingle-2"));
        assert!(Guest::join(&room, &GuestName::Exactly(first.name()), |_| Ok(())).is_err());
        drop((first, second));
        assert!(room.participants().unwrap().is_empty());
    }
}
