//! `participants.d/NAME.toml`: one file per participant. The directory `participants.d` is the list of all
//! participants.

mod edit;
mod export;
mod write_all;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use palabre_room::Name;
use serde::{Deserialize, Serialize};

use crate::{ConfigError, KeyHash, Moment, file, text};

pub use edit::{Edit, Edited};
pub use export::{Exported, MAX_EXPORT_BYTES};

/// Name of the directory of the participants' files in the configuration directory.
pub const PARTICIPANTS_DIR: &str = "participants.d";

/// Maximum number of directory entries of `participants.d` that are read. Further entries are ignored.
const MAX_ENTRIES: usize = 10_000;

/// Mode of a participant's file: group `palabre` may read it.
const FILE_MODE: u32 = 0o640;

/// The settings of a participant's file.
#[derive(Debug, Clone, PartialEq)]
pub struct Participant {
    /// Login name: the file name without `.toml`.
    pub name: Name,
    /// `port`: TCP port, required. The port never changes, since browsers store the microphone permission per port. 0
    /// means any free port, for tests.
    pub port: u16,
    /// `room`: room, default `main`.
    pub room: Name,
    /// `display-name`: name for other participants, at most 64 characters, default the login name.
    pub display_name: Option<String>,
    /// `gain-db`: gain of this participant's voice, -60 to 20 dB, default 0.
    pub gain_db: Option<f32>,
    /// `muted`: whether the mixer mutes this participant, default false.
    pub muted: bool,
    /// `key-sha256`: hash of the access key, required.
    pub key_sha256: KeyHash,
    /// `key-once`: whether the invitation link works once, default false. The first browser to use it gets an access key of
    /// its own ([`crate::Entrance`]).
    pub key_once: bool,
    /// `key-expires`: when the access key expires, default never.
    pub key_expires: Option<Moment>,
    /// `join-muted`: whether the page starts with the microphone off, default false.
    pub join_muted: bool,
    /// `listen-only`: whether the participant has no microphone, default false.
    pub listen_only: bool,
    /// `suspended`: whether the participant can't connect, default false. The link stays valid for later.
    pub suspended: bool,
    /// `signed-out`: cookies that browsers got until this time are invalid, default none.
    pub signed_out: Option<Moment>,
}

impl Participant {
    /// Returns a participant with default settings.
    #[must_use]
    pub fn new(name: Name, port: u16, key_sha256: KeyHash) -> Self {
        Self {
            name,
            port,
            room: default_room(),
            display_name: None,
            gain_db: None,
            muted: false,
            key_sha256,
            key_once: false,
            key_expires: None,
            join_muted: false,
            listen_only: false,
            suspended: false,
            signed_out: None,
        }
    }

    /// Returns the display name, or the login name without one.
    #[must_use]
    pub fn display(&self) -> &str {
        self.display_name.as_deref().unwrap_or(self.name.as_str())
    }

    /// Reads the file of one participant. `dir` is the configuration directory.
    pub fn load(dir: &Path, name: &Name) -> Result<Self, ConfigError> {
        let path = Self::path(dir, name);
        let text = file::read(&path).map_err(|error| ConfigError::io(&path, &error))?;
        Self::from_written(&path, name, Written::parse(&path, &text)?)
    }

    /// Reads all participants, in the order of their names. Returns the participants, and the errors of invalid files.
    ///
    /// If two files have the same port, the second in the order of names is invalid. Files whose name begins with `.` or
    /// doesn't end in `.toml` are ignored. Without the directory there are no participants.
    #[must_use]
    pub fn load_all(dir: &Path) -> (Vec<Self>, Vec<ConfigError>) {
        let (names, mut errors) = names(&dir.join(PARTICIPANTS_DIR));
        let mut participants = Vec::new();
        let mut ports: BTreeMap<u16, Name> = BTreeMap::new();
        for name in names {
            match Self::load(dir, &name).and_then(|new| new.claim_port(dir, &mut ports)) {
                Ok(participant) => participants.push(participant),
                Err(error) => errors.push(error),
            }
        }
        (participants, errors)
    }

    /// Returns the port of each participant's file, with the participant's name. The port of an invalid file is
    /// reserved too, until the file is corrected.
    #[must_use]
    pub fn claimed_ports(dir: &Path) -> BTreeMap<u16, Name> {
        let (names, _) = names(&dir.join(PARTICIPANTS_DIR));
        let claim = |name: Name| Some((claimed_port(&file::read(&Self::path(dir, &name)).ok()?)?, name));
        // If several files contain the same port, the first participant in the order of names keeps the port.
        names.into_iter().rev().filter_map(claim).collect()
    }

    /// Writes the file atomically, with mode 0640. Comments in an existing file are lost; [`Self::edit`] keeps them.
    pub fn write(&self, dir: &Path) -> Result<(), ConfigError> {
        let path = Self::path(dir, &self.name);
        let text = self.to_text().map_err(|error| ConfigError::new(&path, error.to_string()))?;
        file::replace(&path, text.as_bytes(), FILE_MODE).map_err(|error| ConfigError::io(&path, &error))
    }

    /// Returns the text that [`Self::write`] writes and [`Self::from_toml`] reads.
    #[must_use]
    pub fn to_toml(&self) -> String {
        self.to_text().unwrap_or_default()
    }

    /// Parses the text of a participant's file.
    pub fn from_toml(name: &Name, text: &str) -> Result<Self, ConfigError> {
        let path = PathBuf::from(format!("{name}.toml"));
        Self::from_written(&path, name, Written::parse(&path, text)?)
    }

    fn to_text(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(&Written::from(self))
    }

    /// Removes the file of a participant. [`ConfigError::is_missing`] is true if there is no such participant.
    pub fn remove(dir: &Path, name: &Name) -> Result<(), ConfigError> {
        let path = Self::path(dir, name);
        fs::remove_file(&path).map_err(|error| ConfigError::io(&path, &error))
    }

    /// Returns the path of a participant's file.
    #[must_use]
    pub fn path(dir: &Path, name: &Name) -> PathBuf {
        dir.join(PARTICIPANTS_DIR).join(format!("{name}.toml"))
    }

    fn from_written(path: &Path, name: &Name, written: Written) -> Result<Self, ConfigError> {
        let Some(WrittenHash(key_sha256)) = written.key_sha256 else {
            let cause = format!("key-sha256 is missing; run 'palabre invite {name} --new-key'");
            return Err(ConfigError::new(path, cause));
        };
        Ok(written.into_participant(name.clone(), key_sha256))
    }

    fn claim_port(self, dir: &Path, ports: &mut BTreeMap<u16, Name>) -> Result<Self, ConfigError> {
        if self.port == 0 {
            return Ok(self);
        }
        if let Some(other) = ports.get(&self.port) {
            let cause = format!("port {} already belongs to participant '{other}'; choose another port", self.port);
            return Err(ConfigError::new(&Self::path(dir, &self.name), cause));
        }
        ports.insert(self.port, self.name.clone());
        Ok(self)
    }
}

/// Returns the names of the participants with a file, in order, and an error for each invalid file name.
fn names(dir: &Path) -> (Vec<Name>, Vec<ConfigError>) {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Vec::new(), Vec::new()),
        Err(error) => return (Vec::new(), vec![ConfigError::io(dir, &error)]),
    };
    let mut files: Vec<String> =
        entries.flatten().take(MAX_ENTRIES).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    files.sort();
    let (mut names, mut errors) = (Vec::new(), Vec::new());
    for file in files.iter().filter(|file| !file.starts_with('.')) {
        let Some(stem) = file.strip_suffix(".toml") else {
            continue;
        };
        match stem.parse() {
            Ok(name) => names.push(name),
            Err(error) => errors.push(ConfigError::new(&dir.join(file), format!("{error}"))),
        }
    }
    // The order of file names is different from the order of names: `a-b.toml` comes before `a.toml`.
    names.sort();
    (names, errors)
}

/// Returns the port in the text of a participant's file, even if the rest of the file is invalid.
fn claimed_port(text: &str) -> Option<u16> {
    let port =
        |line: &str| line.trim().strip_prefix("port")?.trim_start().strip_prefix('=').map(str::trim).map(str::to_owned);
    let digits = |value: String| value.split(['#', ' ', '\t']).next().and_then(|number| number.parse().ok());
    text.lines().find_map(port).and_then(digits).filter(|&port| port > 0)
}

#[expect(clippy::expect_used, reason = "the default room's name, `main`, is valid, as a test shows")]
fn default_room() -> Name {
    "main".parse().expect("'main' is a valid name")
}

/// The TOML structure of a participant's file.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Written {
    #[serde(deserialize_with = "text::port")]
    port: u16,
    #[serde(with = "text::name", default = "default_room")]
    room: Name,
    #[serde(deserialize_with = "text::display_name", default, skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(deserialize_with = "text::gain_db", default, skip_serializing_if = "Option::is_none")]
    gain_db: Option<f32>,
    #[serde(default, skip_serializing_if = "is_false")]
    muted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_sha256: Option<WrittenHash>,
    #[serde(default, skip_serializing_if = "is_false")]
    key_once: bool,
    #[serde(with = "text::moment", default, skip_serializing_if = "Option::is_none")]
    key_expires: Option<Moment>,
    #[serde(default, skip_serializing_if = "is_false")]
    join_muted: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    listen_only: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    suspended: bool,
    #[serde(with = "text::moment", default, skip_serializing_if = "Option::is_none")]
    signed_out: Option<Moment>,
}

#[derive(Deserialize, Serialize)]
#[serde(transparent)]
struct WrittenHash(#[serde(deserialize_with = "text::parsed", serialize_with = "text::shown")] KeyHash);

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Written {
    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::toml(path, text, &error))
    }

    fn into_participant(self, name: Name, key_sha256: KeyHash) -> Participant {
        Participant {
            name,
            port: self.port,
            room: self.room,
            display_name: self.display_name,
            gain_db: self.gain_db,
            muted: self.muted,
            key_sha256,
            key_once: self.key_once,
            key_expires: self.key_expires,
            join_muted: self.join_muted,
            listen_only: self.listen_only,
            suspended: self.suspended,
            signed_out: self.signed_out,
        }
    }
}

impl From<&Participant> for Written {
    fn from(participant: &Participant) -> Self {
        Self {
            port: participant.port,
            room: participant.room.clone(),
            display_name: participant.display_name.clone(),
            gain_db: participant.gain_db,
            muted: participant.muted,
            key_sha256: Some(WrittenHash(participant.key_sha256)),
            key_once: participant.key_once,
            key_expires: participant.key_expires,
            join_muted: participant.join_muted,
            listen_only: participant.listen_only,
            suspended: participant.suspended,
            signed_out: participant.signed_out,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
