//! The directory of a participant, and the text files in it.

use std::io;
use std::path::{Path, PathBuf};

use crate::lines::{parse, read_line, write_line};
use crate::make::{Dir, PARTICIPANT_MODE, ROOM_MODE, split};
use crate::small_file;
use crate::{EarFrames, Gain, Levelling, MAX_GAINS, PersonalGain, RoomError};

/// Name of the file that earlier versions wrote instead of `gains`.
const FORMER_GAINS: &str = "without";
/// Maximum size of the file `gains` in bytes.
const MAX_GAINS_BYTES: u64 = 64 * MAX_GAINS as u64;
/// Maximum number of attempts to remove a directory into which another program writes.
const REMOVALS_MAX: u32 = 10;

/// A participant: a directory with the pipes `mic` and `ear`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParticipantDir {
    path: PathBuf,
}

impl ParticipantDir {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns the path of the participant's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the pipe `mic`, which carries the sound that the participant sends.
    #[must_use]
    pub fn mic(&self) -> PathBuf {
        self.path.join("mic")
    }

    /// Returns the path of the pipe `ear`, which carries the sound that the participant hears.
    #[must_use]
    pub fn ear(&self) -> PathBuf {
        self.path.join("ear")
    }

    /// Returns the path of the socket on which messages to the participant arrive.
    #[must_use]
    pub fn inbox(&self) -> PathBuf {
        self.path.join("inbox")
    }

    /// Creates the participant's directory (mode 2770) and its two pipes (mode 660), or updates their modes.
    ///
    /// # Errors
    /// A directory or a pipe can't be created; the directory of the room or of the participant is a symbolic link; the
    /// participant's directory belongs to a user other than root and the user of this process; or `mic` or `ear` is neither a
    /// pipe nor a regular file.
    pub fn create(&self) -> Result<(), RoomError> {
        let (room, name) = split(&self.path)?;
        let (rooms, room) = split(room)?;
        // An operator creates the directory of a guest in a room that belongs to the daemons' user, so the room's owner isn't checked.
        let directory = Dir::trusted(rooms)?.dir(room, ROOM_MODE)?.own_dir(name, PARTICIPANT_MODE)?;
        directory.pipe("mic")?;
        directory.pipe("ear")
    }

    /// Removes the directory and its content, if it exists.
    ///
    /// # Errors
    /// The directory can't be removed.
    pub fn remove(&self) -> Result<(), RoomError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match std::fs::remove_dir_all(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                // Another program created a file in the directory during the removal: remove the directory again.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && attempts < REMOVALS_MAX => {}
                result => return result.map_err(RoomError::io("remove", &self.path)),
            }
        }
    }

    /// Returns the participant's gain. Without a file `gain`, returns 0 dB.
    ///
    /// # Errors
    /// The file can't be read, or is invalid.
    pub fn gain(&self) -> Result<Gain, RoomError> {
        read_line(&self.path.join("gain")).map(Option::unwrap_or_default)
    }

    /// Writes the file `gain`, or removes the file if `gain` is `None`.
    ///
    /// # Errors
    /// The file can't be written or removed.
    pub fn set_gain(&self, gain: Option<Gain>) -> Result<(), RoomError> {
        write_line(&self.path.join("gain"), gain)
    }

    /// Returns how many frames each write into the `ear` has. Without a file `ear-frames`, returns 1.
    ///
    /// # Errors
    /// The file can't be read, or is invalid.
    pub fn ear_frames(&self) -> Result<EarFrames, RoomError> {
        read_line(&self.path.join("ear-frames")).map(Option::unwrap_or_default)
    }

    /// Writes the file `ear-frames`, unless the file already has this content.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn set_ear_frames(&self, frames: EarFrames) -> Result<(), RoomError> {
        match self.ear_frames() {
            Ok(current) if current == frames => Ok(()),
            _ => write_line(&self.path.join("ear-frames"), Some(frames)),
        }
    }

    /// Returns whether this participant is levelled; `None` without a file `levelling`: then the room's setting
    /// applies.
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

    /// Returns the gains with which this participant hears the others, from the file `gains`. If there is no such file, reads the file
    /// `without` of earlier versions, whose lines are the names of participants who are not heard.
    ///
    /// # Errors
    /// The file can't be read, is longer than 64,000 bytes, or has an invalid line or more than [`MAX_GAINS`] lines.
    pub fn gains(&self) -> Result<Vec<PersonalGain>, RoomError> {
        for path in [self.path.join("gains"), self.path.join(FORMER_GAINS)] {
            if let Some(text) = small_file::read(&path, MAX_GAINS_BYTES)? {
                let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
                if lines.len() > MAX_GAINS {
                    return Err(RoomError::content(
                        &path,
                        format!(
                            "the file with the participant's volumes for the others has more than {MAX_GAINS} lines; remove some"
                        ),
                    ));
                }
                return lines.into_iter().map(|line| parse(&path, line)).collect();
            }
        }
        Ok(Vec::new())
    }

    /// Writes the file `gains`, or removes the file if `gains` is empty. Removes the file `without` of earlier versions.
    ///
    /// # Errors
    /// A file can't be written or removed.
    pub fn set_gains(&self, gains: &[PersonalGain]) -> Result<(), RoomError> {
        let lines: String = gains.iter().map(|line| format!("{line}\n")).collect();
        small_file::write_or_remove(&self.path.join("gains"), (!gains.is_empty()).then_some(lines))?;
        small_file::write_or_remove(&self.path.join(FORMER_GAINS), None)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::small_file::FILE_MODE;
    use nix::sys::stat::Mode;

    fn participant() -> (tempfile::TempDir, ParticipantDir) {
        let temporary = tempfile::tempdir().unwrap();
        let dir = ParticipantDir::new(temporary.path().join("main/alice"));
        dir.create().unwrap();
        (temporary, dir)
    }

    #[test]
    fn hostile_files_are_errors_and_never_block() {
        let (_temporary, dir) = participant();
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
        std::fs::write(dir.path().join("gains"), [0xff, 0xfe]).unwrap();
        assert!(dir.gains().unwrap_err().to_string().contains("UTF-8"));
        for (lines, is_valid) in [(MAX_GAINS, true), (MAX_GAINS + 1, false), (1 << 20, false)] {
            std::fs::write(dir.path().join("gains"), "bob\n".repeat(lines)).unwrap();
            assert_eq!(dir.gains().is_ok(), is_valid, "{lines} lines");
        }
    }

    #[test]
    fn the_former_file_without_is_read_until_gains_are_written() {
        let (_temporary, dir) = participant();
        let former = dir.path().join("without");
        std::fs::write(&former, "bob\ncarol\n").unwrap();
        let mut gains = dir.gains().unwrap();
        assert_eq!(gains, ["bob", "carol"].map(|name| PersonalGain::mute(name.parse().unwrap())));
        gains[0].gain = Gain::Db(-6.0);
        dir.set_gains(&gains).unwrap();
        assert!(!former.exists());
        assert_eq!(dir.gains().unwrap(), gains);
        dir.set_gains(&[]).unwrap();
        assert!(dir.gains().unwrap().is_empty());
    }
}
