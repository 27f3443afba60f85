//! Writes the files of several participants: all of them, or none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{FILE_MODE, Participant};
use crate::ConfigError;
use crate::file::{self, MAX_FILE_BYTES};

/// A written file: its path, and its previous content if there was a file.
struct Replaced(PathBuf, Option<Vec<u8>>);

impl Participant {
    /// Writes the file of each participant, as [`Self::write`] does. If a file can't be written, restores the previous files.
    pub fn write_all(dir: &Path, participants: &[Self]) -> Result<(), ConfigError> {
        let mut written: Vec<Replaced> = Vec::new();
        for participant in participants {
            match participant.replace(dir) {
                Ok(replaced) => written.push(replaced),
                Err(error) => return Err(undo(&written, error)),
            }
        }
        Ok(())
    }

    fn replace(&self, dir: &Path) -> Result<Replaced, ConfigError> {
        let path = Self::path(dir, &self.name);
        let previous = match file::read_bytes(&path, MAX_FILE_BYTES) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(ConfigError::io(&path, &error)),
        };
        self.write(dir)?;
        Ok(Replaced(path, previous))
    }
}

/// Restores the previous files. Returns `cause`, with the first file that can't be restored.
fn undo(written: &[Replaced], cause: ConfigError) -> ConfigError {
    let restore = |Replaced(path, previous): &Replaced| match previous {
        Some(bytes) => file::replace(path, bytes, FILE_MODE),
        None => fs::remove_file(path),
    };
    let failed = |replaced: &Replaced| restore(replaced).err().map(|error| ConfigError::io(&replaced.0, &error));
    // Try to restore all files, even if one of them can't be restored.
    let failures: Vec<ConfigError> = written.iter().rev().filter_map(failed).collect();
    match failures.first() {
        None => cause,
        Some(failure) => ConfigError::new(cause.path(), format!("{}; also {failure}", cause.cause())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::PARTICIPANTS_DIR;
    use super::*;
    use crate::Key;

    fn participant(name: &str) -> Participant {
        Participant::new(name.parse().unwrap(), 9001, Key::generate().unwrap().hash())
    }

    #[test]
    fn all_files_are_written_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let roster = dir.path().join(PARTICIPANTS_DIR);
        fs::create_dir(&roster).unwrap();
        let (alice, bob, carol) = (participant("alice"), participant("bob"), participant("carol"));
        let before = "# hers\nport = 9001\n";
        fs::write(roster.join("alice.toml"), before).unwrap();
        // A directory can't be replaced by a file, so carol's file can't be written.
        fs::create_dir(roster.join("carol.toml")).unwrap();
        let all = [alice, bob, carol];
        let error = Participant::write_all(dir.path(), &all).unwrap_err().to_string();
        assert!(error.contains("carol.toml'"), "{error}");
        assert_eq!(fs::read_to_string(roster.join("alice.toml")).unwrap(), before);
        assert!(!roster.join("bob.toml").exists());
        fs::remove_dir(roster.join("carol.toml")).unwrap();
        Participant::write_all(dir.path(), &all).unwrap();
        for one in &all {
            assert_eq!(Participant::load(dir.path(), &one.name).as_ref(), Ok(one));
        }
    }
}
