//! The supervisor's records about participants, below `/var/lib`: one TOML file for each participant who has a record.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use palabre_room::Name;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{ConfigError, file};

/// Mode of a record's file: only the daemons' user may read the file.
const FILE_MODE: u32 = 0o600;
/// Mode of the directory with the records.
pub(crate) const DIRECTORY_MODE: u32 = 0o700;

/// Reads a participant's record in `dir`; `None` if there is no record.
pub(crate) fn load<T: DeserializeOwned>(dir: &Path, name: &Name) -> Result<Option<T>, ConfigError> {
    let path = path(dir, name);
    match file::read(&path) {
        Ok(text) => toml::from_str(&text).map(Some).map_err(|error| ConfigError::toml(&path, &text, &error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConfigError::io(&path, &error)),
    }
}

/// Writes a participant's record in `dir`, atomically and durably. Creates the directory if necessary.
pub(crate) fn write(record: &impl Serialize, dir: &Path, name: &Name) -> Result<(), ConfigError> {
    let made = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(dir);
    made.map_err(|error| ConfigError::io(dir, &error))?;
    let path = path(dir, name);
    let text = toml::to_string(record).map_err(|error| ConfigError::new(&path, error.to_string()))?;
    let written = file::replace(&path, text.as_bytes(), FILE_MODE).and_then(|()| fs::File::open(dir)?.sync_all());
    written.map_err(|error| ConfigError::io(&path, &error))
}

/// Removes a participant's record in `dir`, if there is a record.
pub(crate) fn remove(dir: &Path, name: &Name) -> Result<(), ConfigError> {
    let path = path(dir, name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ConfigError::io(&path, &error)),
        _ => Ok(()),
    }
}

/// Returns the path of a participant's record in `dir`.
pub(crate) fn path(dir: &Path, name: &Name) -> PathBuf {
    dir.join(format!("{name}.toml"))
}
