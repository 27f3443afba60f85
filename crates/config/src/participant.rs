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
            key_expires: participant.key_expires,
            join_muted: participant.join_muted,
            listen_only: participant.listen_only,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Key;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    /// Files with a last line for the key, which all of them have.
    fn roster(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(PARTICIPANTS_DIR)).unwrap();
        for (name, text) in files {
            let text = format!("{text}\nkey-sha256 = \"{}\"\n", hash());
            fs::write(dir.path().join(PARTICIPANTS_DIR).join(name), text).unwrap();
        }
        dir
    }

    pub(super) fn is_toml(text: &str) -> bool {
        toml::from_str::<toml::Table>(text).is_ok()
    }

    fn hash() -> KeyHash {
        Key::parse("000102030405060708090a0b0c0d0e0f").unwrap().hash()
    }

    fn names_and_errors(dir: &tempfile::TempDir) -> (Vec<String>, Vec<String>) {
        let (participants, errors) = Participant::load_all(dir.path());
        let names = participants.iter().map(|participant| participant.name.to_string()).collect();
        (names, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_port_and_a_key_are_enough() {
        let dir = roster(&[("alice.toml", "port = 9001")]);
        let alice = Participant::load(dir.path(), &"alice".parse().unwrap()).unwrap();
        assert_eq!(alice, Participant::new("alice".parse().unwrap(), 9001, hash()));
        assert_eq!((alice.display(), alice.room.as_str()), ("alice", "main"));
    }

    #[test]
    fn a_file_without_a_key_is_refused_and_says_what_to_do() {
        let dir = roster(&[]);
        let alice = "alice".parse().unwrap();
        fs::write(Participant::path(dir.path(), &alice), "port = 9001\nroom = \"den\"\n").unwrap();
        let error = Participant::load(dir.path(), &alice).unwrap_err().to_string();
        let says = "alice.toml': key-sha256 is missing; 'palabre invite alice --new-key' makes one";
        assert!(error.ends_with(says), "{error}");
        assert_eq!(names_and_errors(&dir), (Vec::new(), vec![error]));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = roster(&[]);
        let written = Participant {
            room: "den".parse().unwrap(),
            display_name: Some("李小龍 \"Bruce\" <b>".into()),
            gain_db: Some(-6.1),
            muted: true,
            key_expires: Some("2026-12-31T18:00:00Z".parse().unwrap()),
            join_muted: true,
            listen_only: true,
            ..Participant::new("bruce".parse().unwrap(), 9002, Key::generate().unwrap().hash())
        };
        written.write(dir.path()).unwrap();
        written.write(dir.path()).unwrap();
        assert_eq!(Participant::load(dir.path(), &written.name).unwrap(), written);
        let path = Participant::path(dir.path(), &written.name);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::read_to_string(&path).unwrap().contains("gain-db = -6.1\n"));
        Participant::remove(dir.path(), &written.name).unwrap();
        assert!(Participant::remove(dir.path(), &written.name).unwrap_err().is_missing());
    }

    #[test]
    fn a_bad_file_is_named_and_leaves_the_others() {
        let dir = roster(&[
            ("alice.toml", "port = 9001\n"),
            ("bob.toml", "port = 9002\nprot = 9003\n"),
            ("carol.toml", "port = 9003\n"),
            ("Dave.toml", "port = 9004\n"),
            (".eve.toml.12", "port ="),
            ("README", "not a participant"),
        ]);
        let (names, errors) = names_and_errors(&dir);
        assert_eq!(names, ["alice", "carol"]);
        assert_eq!(errors.len(), 2);
        assert!(errors[0].contains("Dave.toml': 'Dave' is not a name"), "{}", errors[0]);
        assert!(errors[1].contains("bob.toml', line 2: unknown field `prot`, expected one of `port`"), "{}", errors[1]);
    }

    #[test]
    fn a_port_that_is_none_is_answered_with_what_is_allowed() {
        for port in ["\"x\"", "65536", "-1", "9001.5"] {
            let dir = roster(&[("alice.toml", &format!("port = {port}\n"))]);
            let (_, errors) = names_and_errors(&dir);
            let says =
                format!("alice.toml', line 1: {port} is not a port, which is from 1 to 65535, or 0 for any free one");
            assert!(errors[0].ends_with(&says), "{}", errors[0]);
        }
    }

    #[test]
    fn a_bad_file_keeps_its_port() {
        let dir = roster(&[
            ("alice.toml", "port = 9001\n"),
            ("bob.toml", "prot = 1\n port=9002# his\n"),
            ("carol.toml", "room = [\nport = 9003 # hers\n"),
            ("dave.toml", "port = 9001\n"),
            ("eve.toml", "port = 0\n"),
        ]);
        let claimed = Participant::claimed_ports(dir.path());
        let claimed: Vec<_> = claimed.iter().map(|(port, name)| (*port, name.as_str())).collect();
        assert_eq!(claimed, [(9001, "alice"), (9002, "bob"), (9003, "carol")]);
    }

    #[test]
    fn of_two_files_with_one_port_the_second_by_name_is_the_bad_one() {
        let dir =
            roster(&[("bob.toml", "port = 9001\n"), ("alice.toml", "port = 9001\n"), ("zoe.toml", "port = 9003\n")]);
        let (names, errors) = names_and_errors(&dir);
        assert_eq!(names, ["alice", "zoe"]);
        assert!(errors[0].contains("bob.toml': port 9001 is alice's already"), "{}", errors[0]);
    }

    #[test]
    fn any_number_of_participants_may_take_any_free_port() {
        let dir = roster(&[("bob.toml", "port = 0\n"), ("alice.toml", "port = 0\n")]);
        assert_eq!(names_and_errors(&dir).0, ["alice", "bob"]);
    }

    #[test]
    fn no_directory_means_no_participants() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Participant::load_all(dir.path()), (Vec::new(), Vec::new()));
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        let long = format!("port = 1\ndisplay-name = \"{}\"", "x".repeat(65));
        for bad in [
            "",
            "port = 65536",
            "port = -1",
            "port = \"9001\"",
            "port = 1\nroom = \"../etc\"",
            "port = 1\ndisplay-name = \"\"",
            "port = 1\ndisplay-name = \"a\\tb\"",
            &long,
            "port = 1\ngain-db = nan",
            "port = 1\ngain-db = inf",
            "port = 1\ngain-db = 20.5",
            "port = 1\ngain-db = -61",
            "port = 1\nmuted = 1",
            "port = 1\nkey-expires = 2026-12-31",
            "port = 1\nkey-expires = 2026-12-31T18:00:00",
            "port = 1\nkey-expires = \"never\"",
            "[port]",
            "port = 1\nport = 2",
        ] {
            let dir = roster(&[("bad.toml", bad)]);
            assert!(Participant::load(dir.path(), &"bad".parse().unwrap()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        let (dir, bad) = (roster(&[]), "bad".parse().unwrap());
        for hash in ["\"\"", "\"abc\"", "0", &format!("\"{}g\"", "0".repeat(63)), &format!("\"{}\"", "0".repeat(65))] {
            fs::write(Participant::path(dir.path(), &bad), format!("port = 1\nkey-sha256 = {hash}\n")).unwrap();
            let error = Participant::load(dir.path(), &bad).unwrap_err();
            assert_eq!(error.line(), Some(2), "{error}");
        }
    }

    /// Lines of the right fields (but the key, which the file has) with all kinds of values, and lines of anything.
    const ANY_LINE: &str = "(port|room|display-name|gain-db|muted|join-muted) = \
                            (0|9001|-1|nan|true|\"\"|\"main\"|\"\\PC{0,8}\"|\\[\\]|\\{\\})|\\PC{0,12}";

    proptest! {
        #[test]
        fn any_text_is_a_participant_or_an_error_of_one_line(lines in proptest::collection::vec(ANY_LINE, 0..6)) {
            let dir = roster(&[("alice.toml", &lines.join("\n"))]);
            match Participant::load(dir.path(), &"alice".parse().unwrap()) {
                Ok(participant) => prop_assert!(participant.display().chars().count() <= 64),
                Err(error) => prop_assert!(!error.to_string().contains('\n')),
            }
        }

        #[test]
        fn any_participant_is_read_back(port: u16, display in "\\PC{1,64}", gain in -60.0_f32..20.0, muted: bool) {
            prop_assume!(palabre_room::display_name_is_valid(&display));
            let dir = roster(&[]);
            let new = Participant::new("alice".parse().unwrap(), port, hash());
            let written = Participant { display_name: Some(display), gain_db: Some(gain), muted, ..new };
            written.write(dir.path()).unwrap();
            prop_assert_eq!(Participant::load(dir.path(), &written.name).unwrap(), written);
        }
    }
}
