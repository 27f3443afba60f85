//! `participants.d/NAME.toml`: one file for each participant. The directory is the roster.

mod edit;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use palabre_room::Name;
use serde::{Deserialize, Serialize};

use crate::{ConfigError, KeyHash, Moment, file, text};

pub use edit::{Edit, Edited};

/// The directory of the participants' files, in the directory of the configuration.
pub const PARTICIPANTS_DIR: &str = "participants.d";

/// The most entries of the directory that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// The mode of a participant's file: the owner writes, the group `palabre` reads.
const FILE_MODE: u32 = 0o640;

/// What a participant's file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Participant {
    /// The login name: the file's name without `.toml`.
    pub name: Name,
    /// The TCP port, stable for life, since a browser keeps the microphone's permission for each: `port`, which has no
    /// default. 0 means any free one, for tries.
    pub port: u16,
    /// The room: `room`, default `main`.
    pub room: Name,
    /// What others see, at most 64 characters: `display-name`, default the login name.
    pub display_name: Option<String>,
    /// What is added to this participant's voice for everyone, from -60 to 20 dB: `gain-db`, default none.
    pub gain_db: Option<f32>,
    /// Nobody hears this participant: `muted`, default false.
    pub muted: bool,
    /// The hash of the key that the link must carry: `key-sha256`, which has no default: nobody is let in without a key.
    pub key_sha256: KeyHash,
    /// The key in the link opens once, to whoever presses the button behind it first: `key-once`, default false. From then on
    /// only that browser's own key opens ([`crate::Entrance`]).
    pub key_once: bool,
    /// When the key opens no longer: `key-expires`, default never.
    pub key_expires: Option<Moment>,
    /// The page starts with its microphone switched off: `join-muted`, default false.
    pub join_muted: bool,
    /// There is no microphone: `listen-only`, default false.
    pub listen_only: bool,
}

impl Participant {
    /// A participant of the room `main` with every other field at its default.
    ///
    /// # Panics
    /// Never: `main` is a name.
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
        }
    }

    /// What others see: the display name, or the login name where there is none.
    #[must_use]
    pub fn display(&self) -> &str {
        self.display_name.as_deref().unwrap_or(self.name.as_str())
    }

    /// Reads the file of one participant. `dir` is the directory of the configuration.
    ///
    /// # Errors
    /// A file that doesn't exist, can't be read, has no key, or has anything in it that has no meaning.
    pub fn load(dir: &Path, name: &Name) -> Result<Self, ConfigError> {
        let path = Self::path(dir, name);
        let text = file::read(&path).map_err(|error| ConfigError::io(&path, &error))?;
        Self::meant(&path, name, Written::parse(&path, &text)?)
    }

    /// Reads all participants, in the order of their names, and says what is wrong with the files that are passed over.
    ///
    /// A bad file leaves the others as they are. When two files have the same port, the second in the order of names
    /// is the bad one. Files whose name begins with `.` or doesn't end in `.toml` are nobody's. No directory means no
    /// participants.
    #[must_use]
    pub fn load_all(dir: &Path) -> (Vec<Self>, Vec<ConfigError>) {
        let (names, mut errors) = names(&dir.join(PARTICIPANTS_DIR));
        let mut participants = Vec::new();
        let mut ports: BTreeMap<u16, Name> = BTreeMap::new();
        for name in names {
            match Self::load(dir, &name).and_then(|new| new.with_its_own_port(dir, &mut ports)) {
                Ok(participant) => participants.push(participant),
                Err(error) => errors.push(error),
            }
        }
        (participants, errors)
    }

    /// Every port that a file of the roster asks for, with the file's name: also by files that are passed over for something
    /// else, since whoever mends them wants their port back.
    #[must_use]
    pub fn claimed_ports(dir: &Path) -> BTreeMap<u16, Name> {
        let (names, _) = names(&dir.join(PARTICIPANTS_DIR));
        let claim = |name: Name| Some((claimed_port(&file::read(&Self::path(dir, &name)).ok()?)?, name));
        // The first in the order of names has it.
        names.into_iter().rev().filter_map(claim).collect()
    }

    /// Writes the file (mode 0640), in place of one that is there, at once: nobody sees half of it.
    ///
    /// It is a plain rewrite of what this program knows: comments that somebody wrote into the file are lost, which
    /// [`Self::edit`] keeps.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, dir: &Path) -> Result<(), ConfigError> {
        let path = Self::path(dir, &self.name);
        let text = self.to_text().map_err(|error| ConfigError::new(&path, error.to_string()))?;
        file::replace(&path, text.as_bytes(), FILE_MODE).map_err(|error| ConfigError::io(&path, &error))
    }

    /// What [`Self::write`] would write; nothing in it is lost by [`Self::from_toml`].
    #[must_use]
    pub fn to_toml(&self) -> String {
        self.to_text().unwrap_or_default()
    }

    /// The participant of this name whose file would say this.
    ///
    /// # Errors
    /// A text without a key, or with anything in it that has no meaning.
    pub fn from_toml(name: &Name, text: &str) -> Result<Self, ConfigError> {
        let path = PathBuf::from(format!("{name}.toml"));
        Self::meant(&path, name, Written::parse(&path, text)?)
    }

    fn to_text(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(&Written::from(self))
    }

    /// Removes the file.
    ///
    /// # Errors
    /// Those of the file system; [`ConfigError::is_missing`] where there is no such participant.
    pub fn remove(dir: &Path, name: &Name) -> Result<(), ConfigError> {
        let path = Self::path(dir, name);
        fs::remove_file(&path).map_err(|error| ConfigError::io(&path, &error))
    }

    /// Where the file of a participant is.
    #[must_use]
    pub fn path(dir: &Path, name: &Name) -> PathBuf {
        dir.join(PARTICIPANTS_DIR).join(format!("{name}.toml"))
    }

    fn meant(path: &Path, name: &Name, written: Written) -> Result<Self, ConfigError> {
        let Some(WrittenHash(key_sha256)) = written.key_sha256 else {
            let cause = format!("key-sha256 is missing; 'palabre invite {name} --new-key' makes one");
            return Err(ConfigError::new(path, cause));
        };
        Ok(written.meant(name.clone(), key_sha256))
    }

    fn with_its_own_port(self, dir: &Path, ports: &mut BTreeMap<u16, Name>) -> Result<Self, ConfigError> {
        if self.port == 0 {
            return Ok(self);
        }
        if let Some(other) = ports.get(&self.port) {
            let cause = format!("port {} is {other}'s already; each participant has a port of their own", self.port);
            return Err(ConfigError::new(&Self::path(dir, &self.name), cause));
        }
        ports.insert(self.port, self.name.clone());
        Ok(self)
    }
}

/// Whose files there are, in order, and the file names that could be nobody's.
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
    // `a-b.toml` stands before `a.toml` in the order of file names.
    names.sort();
    (names, errors)
}

/// The port in the text of a participant's file, whatever else is wrong with it.
fn claimed_port(text: &str) -> Option<u16> {
    let port =
        |line: &str| line.trim().strip_prefix("port")?.trim_start().strip_prefix('=').map(str::trim).map(str::to_owned);
    let digits = |value: String| value.split(['#', ' ', '\t']).next().and_then(|number| number.parse().ok());
    text.lines().find_map(port).and_then(digits).filter(|&port| port > 0)
}

#[expect(clippy::expect_used, reason = "`main` is a valid name, and a test of this file says so")]
fn default_room() -> Name {
    "main".parse().expect("main is a name")
}

/// The file as it is written; [`Participant`] is what it means.
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

    fn meant(self, name: Name, key_sha256: KeyHash) -> Participant {
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
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
