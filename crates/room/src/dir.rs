//! The directories of rooms and participants, and the small text files in them.
//!
//! Whoever is in the group may write into these directories, so nothing in them is trusted: files are opened without
//! following links or waiting, must be regular, and have a maximum size. What is written is written whole: a new file,
//! then `rename(2)`.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use nix::sys::stat::Mode;

use crate::{Format, Gain, LevelLine, Levelling, Member, Name, RoomError};

const DIR_MODE: u32 = 0o2770;
const FILE_MODE: u32 = 0o660;
/// `format`, `gain` and `levelling` are one line.
const MAX_LINE_BYTES: u64 = 4096;
/// `names`, `levels` and `without` have a line for each participant.
const MAX_LIST_BYTES: u64 = 1 << 20;

/// A room: a directory whose participants hear each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoomDir {
    path: PathBuf,
}

impl RoomDir {
    /// The room at `path`, which need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where the room is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory (mode 2770) and its `format`, or brings them to this state.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(&self, format: Format) -> Result<(), RoomError> {
        make_dir(&self.path)?;
        write_whole(&self.path.join("format"), &format!("{format}\n"))
    }

    /// What flows through this room's pipes; the default where there is no file `format`.
    ///
    /// # Errors
    /// The file can't be read, or is not a format.
    pub fn format(&self) -> Result<Format, RoomError> {
        let path = self.path.join("format");
        read_small(&path, MAX_LINE_BYTES)?.map_or(Ok(Format::default()), |text| parse_as(&path, text.trim()))
    }

    /// Whether those who speak here are levelled; `None` where there is no file `levelling`, and then they aren't.
    ///
    /// # Errors
    /// The file can't be read, or says something else: keep what it was.
    pub fn levelling(&self) -> Result<Option<Levelling>, RoomError> {
        read_levelling(&self.path)
    }

    /// Writes the file `levelling`, or removes it for `None`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn set_levelling(&self, levelling: Option<Levelling>) -> Result<(), RoomError> {
        write_levelling(&self.path, levelling)
    }

    /// The pipe that is there while this room is recorded.
    #[must_use]
    pub fn recording(&self) -> PathBuf {
        self.path.join("recording")
    }

    /// Who has a directory here, in the order of names. Other entries are passed over.
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

    /// The directory of one participant, which need not exist.
    #[must_use]
    pub fn participant(&self, name: &Name) -> ParticipantDir {
        ParticipantDir { path: self.path.join(name) }
    }

    /// Who belongs to this room, for the pages; empty where there is no file. Lines that are not valid are passed over.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn names(&self) -> Result<Vec<Member>, RoomError> {
        let text = read_small(&self.path.join("names"), MAX_LIST_BYTES)?.unwrap_or_default();
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Replaces the file `names`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_names(&self, members: &[Member]) -> Result<(), RoomError> {
        let lines: String = members.iter().map(|member| format!("{member}\n")).collect();
        write_whole(&self.path.join("names"), &lines)
    }

    /// Who is talking and how loud; empty where there is no file. Lines that are not valid are passed over.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn levels(&self) -> Result<Vec<LevelLine>, RoomError> {
        let text = read_small(&self.path.join("levels"), MAX_LIST_BYTES)?.unwrap_or_default();
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Replaces the file `levels`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_levels(&self, levels: &[LevelLine]) -> Result<(), RoomError> {
        let lines: String = levels.iter().map(|line| format!("{line}\n")).collect();
        write_whole(&self.path.join("levels"), &lines)
    }
}

/// A participant: a directory with the pipes `mic` and `ear`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParticipantDir {
    path: PathBuf,
}

impl ParticipantDir {
    /// Where the participant is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The pipe that carries what this participant says.
    #[must_use]
    pub fn mic(&self) -> PathBuf {
        self.path.join("mic")
    }

    /// The pipe that carries what this participant hears.
    #[must_use]
    pub fn ear(&self) -> PathBuf {
        self.path.join("ear")
    }

    /// The socket where messages to this participant arrive.
    #[must_use]
    pub fn inbox(&self) -> PathBuf {
        self.path.join("inbox")
    }

    /// Makes the directory and its two pipes (modes 2770 and 660), or brings them to this state.
    ///
    /// # Errors
    /// What the file system says; a `mic` or `ear` that exists and is neither a pipe nor a regular file.
    pub fn create(&self) -> Result<(), RoomError> {
        make_dir(&self.path)?;
        make_pipe(&self.mic())?;
        make_pipe(&self.ear())
    }

    /// Removes the directory with all that is in it. Fine if there is none.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&self) -> Result<(), RoomError> {
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RoomError::io("remove", &self.path)(error)),
            _ => Ok(()),
        }
    }

    /// The gain from the file `gain`; 0 dB where there is none.
    ///
    /// # Errors
    /// The file can't be read, or is not a gain: keep the last one.
    pub fn gain(&self) -> Result<Gain, RoomError> {
        let path = self.path.join("gain");
        read_small(&path, MAX_LINE_BYTES)?.map_or(Ok(Gain::default()), |text| parse_as(&path, text.trim()))
    }

    /// Writes the file `gain`, or removes it for `None`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn set_gain(&self, gain: Option<Gain>) -> Result<(), RoomError> {
        replace(&self.path.join("gain"), gain.map(|gain| format!("{gain}\n")))
    }

    /// Whether this participant is levelled, whatever the room says; `None` where there is no file `levelling`.
    ///
    /// # Errors
    /// The file can't be read, or says something else: keep what it was.
    pub fn levelling(&self) -> Result<Option<Levelling>, RoomError> {
        read_levelling(&self.path)
    }

    /// Writes the file `levelling`, or removes it for `None`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn set_levelling(&self, levelling: Option<Levelling>) -> Result<(), RoomError> {
        write_levelling(&self.path, levelling)
    }

    /// Whom this participant does not hear, from the file `without`; nobody where there is none.
    ///
    /// # Errors
    /// The file can't be read, or has a line that is not a name: keep the last list.
    pub fn without(&self) -> Result<Vec<Name>, RoomError> {
        let path = self.path.join("without");
        let text = read_small(&path, MAX_LIST_BYTES)?.unwrap_or_default();
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| parse_as(&path, line)).collect()
    }

    /// Writes the file `without`, or removes it for nobody.
    ///
    /// # Errors
    /// What the file system says.
    pub fn set_without(&self, names: &[Name]) -> Result<(), RoomError> {
        let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
        replace(&self.path.join("without"), (!names.is_empty()).then_some(lines))
    }
}

fn read_levelling(dir: &Path) -> Result<Option<Levelling>, RoomError> {
    let path = dir.join("levelling");
    read_small(&path, MAX_LINE_BYTES)?.map(|text| parse_as(&path, text.trim())).transpose()
}

fn write_levelling(dir: &Path, levelling: Option<Levelling>) -> Result<(), RoomError> {
    replace(&dir.join("levelling"), levelling.map(|levelling| format!("{levelling}\n")))
}

fn parse_as<T: FromStr>(path: &Path, text: &str) -> Result<T, RoomError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| RoomError::content(path, error.to_string()))
}

fn make_dir(path: &Path) -> Result<(), RoomError> {
    let create = RoomError::io("create directory", path);
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(path).map_err(create)?;
    set_mode(path, DIR_MODE)
}

fn make_pipe(path: &Path) -> Result<(), RoomError> {
    match nix::unistd::mkfifo(path, Mode::from_bits_truncate(FILE_MODE)) {
        Ok(()) => set_mode(path, FILE_MODE),
        Err(nix::errno::Errno::EEXIST) => check_pipe(path),
        Err(errno) => Err(RoomError::io("create pipe", path)(errno.into())),
    }
}

/// A regular file is as good as a pipe for the mixer; anything else has no business here.
fn check_pipe(path: &Path) -> Result<(), RoomError> {
    let kind = std::fs::symlink_metadata(path).map_err(RoomError::io("examine", path))?.file_type();
    if kind.is_fifo() {
        set_mode(path, FILE_MODE)
    } else if kind.is_file() {
        Ok(())
    } else {
        Err(RoomError::content(path, "it is neither a named pipe nor a file; remove it"))
    }
}

/// The mode whatever the umask; somebody else's file of the right mode is left alone.
fn set_mode(path: &Path, mode: u32) -> Result<(), RoomError> {
    let examine = RoomError::io("examine", path);
    if std::fs::metadata(path).map_err(examine)?.permissions().mode() & 0o7777 == mode {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(RoomError::io("set the mode of", path))
}

/// Content of a regular file, `None` where there is no file. A pipe or a link in its place is an error, not a trap.
pub(crate) fn read_small(path: &Path, max_bytes: u64) -> Result<Option<String>, RoomError> {
    let read = RoomError::io("read", path);
    let file = match OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(read(error)),
    };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(RoomError::content(path, "it is not a regular file"));
    }
    let mut text = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut text).map_err(read)?;
    if text.len() as u64 > max_bytes {
        return Err(RoomError::content(path, format!("it is longer than {max_bytes} bytes")));
    }
    String::from_utf8(text).map(Some).map_err(|_| RoomError::content(path, "it is not UTF-8 text"))
}

fn replace(path: &Path, text: Option<String>) -> Result<(), RoomError> {
    match text {
        Some(text) => write_whole(path, &text),
        None => match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RoomError::io("remove", path)(error)),
            _ => Ok(()),
        },
    }
}

/// Readers see the old text or the new text, never half of one.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<(), RoomError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let written = write_new(&new, text).and_then(|()| std::fs::rename(&new, path));
    written.map_err(RoomError::io("write", path))
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path);
    let mut file: File = match open() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Left behind by somebody who died between the two steps.
            std::fs::remove_file(path)?;
            open()?
        }
        other => other?,
    };
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Talk;

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
    fn a_room_is_made_with_the_modes_of_the_document() {
        let (_dir, room) = room();
        let alice = room.participant(&"alice".parse().unwrap());
        alice.create().unwrap();
        alice.create().unwrap();
        assert_eq!((mode(room.path()), mode(alice.path())), (0o2770, 0o2770));
        assert_eq!((mode(&alice.mic()), mode(&alice.ear())), (0o660, 0o660));
        assert_eq!(mode(&room.path().join("format")), 0o660);
        assert_eq!(room.participants().unwrap(), ["alice".parse().unwrap()]);
        alice.remove().unwrap();
        alice.remove().unwrap();
        assert!(room.participants().unwrap().is_empty());
    }

    #[test]
    fn files_are_read_back_as_they_were_written() {
        let (_dir, room) = room();
        let alice: Name = "alice".parse().unwrap();
        let dir = room.participant(&alice);
        dir.create().unwrap();
        let member = Member { hand: true, ..Member::new(alice.clone(), "Zoé", true) };
        room.write_names(std::slice::from_ref(&member)).unwrap();
        let level = LevelLine { name: alice.clone(), state: Talk::Talking, dbfs: -20.5 };
        room.write_levels(std::slice::from_ref(&level)).unwrap();
        dir.set_gain(Some(Gain::Mute)).unwrap();
        dir.set_without(std::slice::from_ref(&alice)).unwrap();
        assert_eq!(room.format().unwrap(), Format::default());
        assert_eq!(room.names().unwrap(), [member]);
        assert_eq!(room.levels().unwrap(), [level]);
        assert_eq!((dir.gain().unwrap(), dir.without().unwrap()), (Gain::Mute, vec![alice]));
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
        assert!(dir.without().unwrap().is_empty() && room.names().unwrap().is_empty());
        dir.set_gain(None).unwrap();
    }

    #[test]
    fn hostile_files_are_errors_and_never_waited_for() {
        let (_dir, room) = room();
        let dir = room.participant(&"alice".parse().unwrap());
        dir.create().unwrap();
        let gain = dir.path().join("gain");
        std::fs::write(&gain, "loud").unwrap();
        assert!(dir.gain().unwrap_err().to_string().contains("'loud' is not a gain"));
        std::fs::remove_file(&gain).unwrap();
        nix::unistd::mkfifo(&gain, Mode::from_bits_truncate(FILE_MODE)).unwrap();
        assert!(dir.gain().is_err());
        std::fs::remove_file(&gain).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &gain).unwrap();
        assert!(dir.gain().is_err());
        std::fs::remove_file(&gain).unwrap();
        std::fs::write(&gain, vec![b' '; 5000]).unwrap();
        assert!(dir.gain().unwrap_err().to_string().contains("longer than"));
        std::fs::write(dir.path().join("without"), [0xff, 0xfe]).unwrap();
        assert!(dir.without().unwrap_err().to_string().contains("UTF-8"));
    }

    #[test]
    fn entries_that_are_no_participants_are_passed_over() {
        let (_dir, room) = room();
        std::fs::create_dir(room.path().join("Upper")).unwrap();
        std::fs::create_dir(room.path().join(".hidden")).unwrap();
        std::fs::write(room.path().join("file"), "").unwrap();
        assert!(room.participants().unwrap().is_empty());
    }
}
