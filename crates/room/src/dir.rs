//! The directory of a room, and the text files in it.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::Group;

use crate::lines::{Lines, read_line, read_lines, write_line, write_lines};
use crate::machine_file::{OTHER_MACHINES, OtherMachines};
use crate::machines_dir::MachinesDir;
use crate::make::{Dir, ROOM_MODE, SHARED_MODE, split};
use crate::participant_dir::ParticipantDir;
use crate::small_file;
use crate::{Format, LISTENER_USER, LevelLine, Levelling, Member, Name, RoomError};

/// Name of an empty file in a room's directory that exists while no mixer works. No participant can have this name.
pub const NO_MIXER: &str = ".no-mixer";
/// Name of the directory of a room with copies of `names` and `levels`.
const SHOWN: &str = ".shown";
/// Name of the directory of a room with the kept messages.
const MEETING: &str = ".meeting";

/// Where a process reads the files `names` and `levels` of a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShownFrom {
    /// In the directory of the room.
    #[default]
    Room,
    /// In the directory `.shown` with copies of both files, because the sandbox of this process permits nothing else.
    Copies,
}

/// A room: a directory whose participants hear each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoomDir {
    path: PathBuf,
}

impl RoomDir {
    /// Returns the room at `path`. The directory need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns the path of the room.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the room's directory (mode 3770) and the file `format` in it, or updates both.
    ///
    /// # Errors
    /// The directory can't be created, or the file can't be written.
    pub fn create(&self, format: Format) -> Result<(), RoomError> {
        let (rooms, name) = split(&self.path)?;
        Dir::trusted(rooms)?.own_dir(name, ROOM_MODE)?;
        self.create_shared()?;
        small_file::write(&self.path.join("format"), &format!("{format}\n"))
    }

    /// Creates the directories for the files that the listeners share, or sets their mode. A listener may read or write these
    /// directories in its sandbox, but not the directories of other participants, which are beside them. The mixer, which may
    /// have another user, writes only into the directory for copies. A listener with another user than the owner of the rooms uses the
    /// directories as they are.
    ///
    /// # Errors
    /// A directory can't be created, is a symbolic link, or belongs to another user.
    pub fn create_shared(&self) -> Result<(), RoomError> {
        let (rooms, name) = split(&self.path)?;
        let room = Dir::trusted(rooms)?.dir(name, ROOM_MODE)?;
        [(SHOWN, ROOM_MODE), (MEETING, SHARED_MODE), (OTHER_MACHINES, SHARED_MODE)]
            .iter()
            .try_for_each(|(name, mode)| room.shared_dir(OsStr::new(name), *mode))
    }

    /// Permits the listeners to write into the directory with the kept messages, if they have a user of their own: gives it to the group
    /// [`LISTENER_USER`]. Does nothing if there is no such group.
    ///
    /// # Errors
    /// This process may not give the directory to this group.
    pub fn share_meeting(&self) -> Result<(), RoomError> {
        let Ok(Some(group)) = Group::from_name(LISTENER_USER) else { return Ok(()) };
        let (rooms, name) = split(&self.path)?;
        Dir::trusted(rooms)?.dir(name, ROOM_MODE)?.give_to_group(OsStr::new(MEETING), group.gid)
    }

    /// Returns the directory with copies of the files `names` and `levels`.
    #[must_use]
    pub fn shown(&self) -> PathBuf {
        self.path.join(SHOWN)
    }

    /// Returns the directory with the kept messages, into which each listener writes.
    #[must_use]
    pub fn meeting(&self) -> PathBuf {
        self.path.join(MEETING)
    }

    /// Reads the file `name` of the room. If this process may not read it, sets `from` to `Copies` and reads the copy in [`Self::shown`];
    /// later calls with this `from` read the copy at once.
    fn read_shown<T>(&self, name: &str, from: &mut ShownFrom) -> Result<Lines<T>, RoomError> {
        if *from == ShownFrom::Room {
            match read_lines(&self.path.join(name)) {
                Err(RoomError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
                    *from = ShownFrom::Copies;
                }
                other => return other,
            }
        }
        read_lines(&self.shown().join(name))
    }

    /// Replaces a file and its copy in [`Self::shown`], if that directory exists. The copy is replaced first, because a listener reads the copy
    /// when the file has changed.
    fn write_shown(&self, name: &str, lines: &[impl Display]) -> Result<(), RoomError> {
        let shown = self.shown();
        if std::fs::symlink_metadata(&shown).is_ok_and(|file| file.is_dir()) {
            write_lines(&shown.join(name), lines)?;
        }
        write_lines(&self.path.join(name), lines)
    }

    /// Returns the format of the room's samples. Without a file `format`, returns the default.
    ///
    /// # Errors
    /// The file can't be read, or is invalid.
    pub fn format(&self) -> Result<Format, RoomError> {
        read_line(&self.path.join("format")).map(Option::unwrap_or_default)
    }

    /// Returns whether participants are levelled by default; `None` without a file `levelling`.
    ///
    /// # Errors
    /// The file can't be read, or is invalid.
    pub fn levelling(&self) -> Result<Option<Levelling>, RoomError> {
        read_line(&self.path.join("levelling"))
    }

    /// Writes the file `levelling`, or removes the file if `levelling` is `None`.
    ///
    /// # Errors
    /// The file can't be written or removed.
    pub fn set_levelling(&self, levelling: Option<Levelling>) -> Result<(), RoomError> {
        write_line(&self.path.join("levelling"), levelling)
    }

    /// Returns the directory with the pipes to and from other machines. The directory need not exist.
    #[must_use]
    pub fn machines(&self) -> MachinesDir {
        MachinesDir::new(&self.path)
    }

    /// Returns the directory with the people of the room on other machines. The directory need not exist.
    #[must_use]
    pub fn other_machines(&self) -> OtherMachines {
        OtherMachines::new(&self.path)
    }

    /// Returns the path of the pipe `recording`, which exists while the room is recorded.
    #[must_use]
    pub fn recording(&self) -> PathBuf {
        self.path.join("recording")
    }

    /// Creates the file [`NO_MIXER`] if `is_missing`, otherwise removes it.
    ///
    /// # Errors
    /// The file can't be written or removed.
    pub fn set_no_mixer(&self, is_missing: bool) -> Result<(), RoomError> {
        small_file::write_or_remove(&self.path.join(NO_MIXER), is_missing.then(String::new))
    }

    /// Returns the names of the participants' directories, sorted. Other entries are ignored.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn participants(&self) -> Result<Vec<Name>, RoomError> {
        let read = RoomError::io("read", &self.path);
        let entries = std::fs::read_dir(&self.path).map_err(read)?;
        let mut names: Vec<Name> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Returns the directory of a participant. The directory need not exist.
    #[must_use]
    pub fn participant(&self, name: &Name) -> ParticipantDir {
        ParticipantDir::new(self.path.join(name))
    }

    /// Returns the members that pages show, from the file `names`. Returns no members if there is no such file. Invalid
    /// lines are ignored.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn names(&self) -> Result<Vec<Member>, RoomError> {
        Ok(self.name_lines(&mut ShownFrom::default())?.iter().collect())
    }

    /// Returns the lines of the file `names`, as [`Self::names`] does. `from` keeps where the file was found: pass the same variable to
    /// each call.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn name_lines(&self, from: &mut ShownFrom) -> Result<Lines<Member>, RoomError> {
        self.read_shown("names", from)
    }

    /// Replaces the file `names`.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_names(&self, members: &[Member]) -> Result<(), RoomError> {
        self.write_shown("names", members)
    }

    /// Returns the lines of the file `levels`: who is talking and how loud. Returns no lines if there is no such file.
    /// Invalid lines are ignored.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn levels(&self) -> Result<Vec<LevelLine>, RoomError> {
        Ok(self.level_lines(&mut ShownFrom::default())?.iter().collect())
    }

    /// Returns the lines of the file `levels`, as [`Self::levels`] does. `from` keeps where the file was found: pass the same variable to
    /// each call.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn level_lines(&self, from: &mut ShownFrom) -> Result<Lines<LevelLine>, RoomError> {
        self.read_shown("levels", from)
    }

    /// Replaces the file `levels`.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_levels(&self, levels: &[LevelLine]) -> Result<(), RoomError> {
        self.write_shown("levels", levels)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Gain, PersonalGain, Talk};
    use std::os::unix::fs::PermissionsExt;

    fn room() -> (tempfile::TempDir, RoomDir) {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        room.create(Format::default()).unwrap();
        (dir, room)
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn directories_and_files_have_the_documented_modes() {
        let (_dir, room) = room();
        let alice = room.participant(&"alice".parse().unwrap());
        alice.create().unwrap();
        alice.create().unwrap();
        assert_eq!((mode(room.path()), mode(alice.path())), (0o3770, 0o2770));
        assert_eq!((mode(&alice.mic()), mode(&alice.ear())), (0o660, 0o660));
        assert_eq!(mode(&room.path().join("format")), 0o660);
        for (shared, expected) in
            [(&room.shown(), 0o3770), (&room.meeting(), 0o2750), (&room.other_machines().path().to_owned(), 0o2750)]
        {
            assert_eq!(mode(shared), expected, "{}", shared.display());
        }
        // Set the mode that an earlier release gave this directory; `create` must replace it.
        std::fs::set_permissions(room.shown(), PermissionsExt::from_mode(0o2750)).unwrap();
        room.create(Format::default()).unwrap();
        assert_eq!(mode(&room.shown()), 0o3770);
        assert_eq!(room.participants().unwrap(), ["alice".parse().unwrap()]);
        alice.remove().unwrap();
        alice.remove().unwrap();
        assert!(room.participants().unwrap().is_empty());
    }

    #[test]
    fn a_link_in_the_place_of_a_directory_is_refused_and_its_target_is_unchanged() {
        let (dir, room) = room();
        let secret = dir.path().join("secret");
        std::fs::create_dir(&secret).unwrap();
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o700)).unwrap();
        let alice = room.participant(&"alice".parse().unwrap());
        let is_refused = |error: RoomError| error.to_string().contains("symbolic link");
        for target in [secret.as_path(), Path::new("../secret")] {
            std::os::unix::fs::symlink(target, alice.path()).unwrap();
            assert!(is_refused(alice.create().unwrap_err()));
            std::fs::remove_file(alice.path()).unwrap();
        }
        std::fs::remove_dir_all(room.path()).unwrap();
        std::os::unix::fs::symlink(&secret, room.path()).unwrap();
        assert!(is_refused(alice.create().unwrap_err()));
        assert!(is_refused(room.create(Format::default()).unwrap_err()));
        assert_eq!((mode(&secret), std::fs::read_dir(&secret).unwrap().count()), (0o700, 0));
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let (_dir, room) = room();
        let alice = room.participant(&"alice".parse().unwrap());
        alice.create().unwrap();
        std::os::unix::fs::chown(alice.path(), Some(54_321), None).unwrap();
        assert!(alice.create().unwrap_err().to_string().contains("belongs to user 54321"));
        std::os::unix::fs::chown(room.path(), Some(54_321), None).unwrap();
        assert!(room.create(Format::default()).unwrap_err().to_string().contains("belongs to user 54321"));
    }

    #[test]
    fn listener_with_another_user_uses_the_directories_of_the_owner_of_the_rooms_as_they_are() {
        let (_dir, room) = room();
        // A group to which this process may give files.
        let own = nix::unistd::getegid();
        let (rooms, name) = split(room.path()).unwrap();
        let open = || Dir::trusted(rooms).unwrap().dir(name, ROOM_MODE).unwrap();
        open().give_to_group(OsStr::new(MEETING), own).unwrap();
        assert_eq!(mode(&room.meeting()), 0o2770);
        room.create(Format::default()).unwrap();
        assert_eq!(mode(&room.meeting()), 0o2770, "another start of the supervisor doesn't change this");
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        // Give the directories to another user: now this process has another user than the owner of the rooms, as a listener.
        for path in [rooms.to_owned(), room.path().to_owned(), room.shown(), room.meeting()] {
            std::os::unix::fs::chown(path, Some(54_321), None).unwrap();
        }
        std::fs::set_permissions(room.shown(), PermissionsExt::from_mode(0o2750)).unwrap();
        room.create_shared().unwrap();
        assert_eq!(mode(&room.shown()), 0o2750);
        // A directory of a third user is refused, whatever its mode.
        std::os::unix::fs::chown(room.meeting(), Some(54_322), None).unwrap();
        assert!(room.create_shared().unwrap_err().to_string().contains("belongs to user 54322"));
    }

    #[test]
    fn written_files_are_read_back() {
        let (_dir, room) = room();
        let alice: Name = "alice".parse().unwrap();
        let dir = room.participant(&alice);
        dir.create().unwrap();
        let member = Member { hand: 1, ..Member::new(alice.clone(), "Zoé", true) };
        room.write_names(std::slice::from_ref(&member)).unwrap();
        let level = LevelLine { name: alice.clone(), state: Talk::Talking, dbfs: -20.5 };
        room.write_levels(std::slice::from_ref(&level)).unwrap();
        dir.set_gain(Some(Gain::Mute)).unwrap();
        dir.set_gains(&[PersonalGain::mute(alice.clone())]).unwrap();
        assert_eq!(room.format().unwrap(), Format::default());
        assert_eq!(room.names().unwrap(), [member]);
        assert_eq!(room.levels().unwrap(), [level]);
        assert_eq!((dir.gain().unwrap(), dir.gains().unwrap()), (Gain::Mute, vec![PersonalGain::mute(alice)]));
        room.set_levelling(Some(Levelling::On)).unwrap();
        dir.set_levelling(Some(Levelling::Off)).unwrap();
        assert_eq!((room.levelling().unwrap(), dir.levelling().unwrap()), (Some(Levelling::On), Some(Levelling::Off)));
    }

    #[test]
    fn absent_files_have_defaults() {
        let (_dir, room) = room();
        std::fs::remove_file(room.path().join("format")).unwrap();
        let dir = room.participant(&"alice".parse().unwrap());
        assert_eq!(room.format().unwrap(), Format::default());
        assert_eq!(dir.gain().unwrap(), Gain::default());
        assert_eq!((room.levelling().unwrap(), dir.levelling().unwrap()), (None, None));
        assert!(dir.gains().unwrap().is_empty() && room.names().unwrap().is_empty());
        dir.set_gain(None).unwrap();
    }

    #[test]
    fn no_file_that_a_room_s_functions_write_can_be_a_participant() {
        let (_dir, room) = room();
        room.write_names(&[]).unwrap();
        room.write_levels(&[]).unwrap();
        room.set_levelling(Some(Levelling::On)).unwrap();
        std::fs::write(room.recording(), "").unwrap();
        for entry in std::fs::read_dir(room.path()).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(name.to_str().unwrap().parse::<Name>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn entries_that_are_not_participants_are_ignored() {
        let (_dir, room) = room();
        std::fs::create_dir(room.path().join("Upper")).unwrap();
        std::fs::create_dir(room.path().join(".hidden")).unwrap();
        std::fs::write(room.path().join("file"), "").unwrap();
        assert!(room.participants().unwrap().is_empty());
    }
}
