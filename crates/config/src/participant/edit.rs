//! Edits fields of a participant's file, and keeps the order and the comments of the file.

use std::path::{Path, PathBuf};

use palabre_room::Name;
use toml_edit::{DocumentMut, Item, Value, value};

use super::{FILE_MODE, Participant, Written};
use crate::{ConfigError, KeyHash, Moment, file};

/// A field and its new value.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// `display-name`.
    DisplayName(String),
    /// `room`.
    Room(Name),
    /// `muted`.
    Muted(bool),
    /// `gain-db`, in dB.
    GainDb(f32),
    /// `key-sha256`.
    KeySha256(KeyHash),
    /// `key-once`.
    KeyOnce(bool),
    /// `key-expires`; `None` if the key never expires.
    KeyExpires(Option<Moment>),
    /// `listen-only`.
    ListenOnly(bool),
    /// `suspended`.
    Suspended(bool),
    /// `signed-out`.
    SignedOut(Moment),
}

/// The edited text of a participant's file, not written to the file yet.
#[derive(Debug)]
pub struct Edited {
    path: PathBuf,
    text: String,
    participant: Participant,
}

impl Edited {
    /// Returns the participant's settings after the edit.
    #[must_use]
    pub fn participant(&self) -> &Participant {
        &self.participant
    }

    /// Replaces the file atomically, with mode 0640.
    pub fn write(&self) -> Result<(), ConfigError> {
        file::replace(&self.path, self.text.as_bytes(), FILE_MODE).map_err(|error| ConfigError::io(&self.path, &error))
    }
}

impl Participant {
    /// Edits fields of a participant's file, and keeps its comments and the order of its lines. Fails if the file is
    /// invalid or would become invalid. [`Edited::write`] writes the result to the file.
    pub fn edit(dir: &Path, name: &Name, edits: &[Edit]) -> Result<Edited, ConfigError> {
        let path = Self::path(dir, name);
        let text = file::read(&path).map_err(|error| ConfigError::io(&path, &error))?;
        let signed_out = Written::parse(&path, &text)?.signed_out;
        let mut document: DocumentMut =
            text.parse().map_err(|error: toml_edit::TomlError| ConfigError::new(&path, one_line(error.message())))?;
        for edit in edits {
            apply(&mut document, edit, signed_out);
        }
        let text = document.to_string();
        let participant = Self::from_written(&path, name, Written::parse(&path, &text)?)?;
        Ok(Edited { path, text, participant })
    }
}

fn one_line(text: &str) -> String {
    text.trim().replace('\n', "; ")
}

/// Applies an edit. `signed_out` is the time of the last sign-out.
fn apply(document: &mut DocumentMut, edit: &Edit, signed_out: Option<Moment>) {
    match edit {
        Edit::DisplayName(name) => set(document, "display-name", name.as_str().into()),
        Edit::Room(room) => set(document, "room", room.as_str().into()),
        Edit::KeySha256(hash) => set(document, "key-sha256", hash.to_string().into()),
        // The gain is written as the shortest text: -6.1, not -6.099999904632568.
        Edit::GainDb(db) => set(document, "gain-db", db.to_string().parse().unwrap_or(f64::from(*db)).into()),
        Edit::Muted(muted) => flag(document, "muted", *muted),
        Edit::KeyOnce(once) => flag(document, "key-once", *once),
        Edit::ListenOnly(only) => flag(document, "listen-only", *only),
        Edit::Suspended(suspended) => flag(document, "suspended", *suspended),
        Edit::KeyExpires(None) => remove(document, "key-expires"),
        Edit::KeyExpires(Some(moment)) => set(document, "key-expires", datetime(*moment)),
        Edit::SignedOut(moment) => {
            // A listener dates cookies at least one second after the last sign-out, even if the clock shows an earlier time. So a further sign-out
            // needs at least this time to make such cookies invalid.
            let moment = signed_out.and_then(Moment::one_second_later).map_or(*moment, |next| next.max(*moment));
            set(document, "signed-out", datetime(moment));
        }
    }
}

fn datetime(moment: Moment) -> Value {
    let text = moment.to_string();
    // Both TOML's datetime and a string are accepted by the parser.
    text.parse::<toml_edit::Datetime>().map_or_else(|_| text.into(), Value::from)
}

/// Replaces a value, and keeps the white space and comments around it.
fn set(document: &mut DocumentMut, field: &str, mut new: Value) {
    match document.get_mut(field).and_then(Item::as_value_mut) {
        Some(old) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        None => drop(document.insert(field, value(new))),
    }
}

/// Sets a field whose default is `false`.
fn flag(document: &mut DocumentMut, field: &str, on: bool) {
    if on || document.contains_key(field) {
        set(document, field, on.into());
    }
}

/// Removes a field. Moves the comments above it to the end of the file.
fn remove(document: &mut DocumentMut, field: &str) {
    let Some((key, _)) = document.remove_entry(field) else {
        return;
    };
    let above = key.leaf_decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default().to_owned();
    if above.contains('#') {
        let end = format!("{above}{}", document.trailing().as_str().unwrap_or_default());
        document.set_trailing(end);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{PARTICIPANTS_DIR, tests};
    use super::*;
    use crate::Key;
    use std::fs;

    const TEXT: &str = "\
# Alice, extension 42
port = 9001   # her port, for life

# since the concert
muted = false # she knows
gain-db = 3
key-sha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"
# until the end of the year
key-expires = 2026-12-31T23:00:00Z
# the end
";

    fn alice(text: &str) -> (tempfile::TempDir, Name) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(PARTICIPANTS_DIR)).unwrap();
        let name = "alice".parse().unwrap();
        fs::write(Participant::path(dir.path(), &name), text).unwrap();
        (dir, name)
    }

    #[test]
    fn each_sign_out_is_later_than_the_last_one() {
        let (dir, name) = alice(TEXT);
        let sign_out = |now: &str| {
            let edited = Participant::edit(dir.path(), &name, &[Edit::SignedOut(now.parse().unwrap())]).unwrap();
            edited.write().unwrap();
            edited.participant().signed_out.unwrap().to_string()
        };
        assert_eq!(sign_out("2030-01-01T00:00:00Z"), "2030-01-01T00:00:00Z");
        assert_eq!(sign_out("2030-01-01T00:00:00Z"), "2030-01-01T00:00:01Z", "again in the same second");
        assert_eq!(sign_out("2026-11-28T00:00:00Z"), "2030-01-01T00:00:02Z", "after the clock was set back");
        assert_eq!(sign_out("2031-01-01T00:00:00Z"), "2031-01-01T00:00:00Z");
    }

    #[test]
    fn comments_and_order_are_kept() {
        let (dir, name) = alice(TEXT);
        let edits = [
            Edit::Muted(true),
            Edit::GainDb(-6.1),
            Edit::DisplayName("Zoë \"Z\"".into()),
            Edit::Room("den".parse().unwrap()),
            Edit::ListenOnly(false),
        ];
        let edited = Participant::edit(dir.path(), &name, &edits).unwrap();
        assert_eq!(fs::read_to_string(Participant::path(dir.path(), &name)).unwrap(), TEXT, "not written yet");
        edited.write().unwrap();
        let text = fs::read_to_string(Participant::path(dir.path(), &name)).unwrap();
        let expected = TEXT
            .replace("muted = false #", "muted = true #")
            .replace("gain-db = 3", "gain-db = -6.1")
            .replace("# the end\n", "display-name = 'Zoë \"Z\"'\nroom = \"den\"\n# the end\n");
        assert_eq!(text, expected);
        let read = Participant::load(dir.path(), &name).unwrap();
        assert_eq!(*edited.participant(), read);
        assert_eq!(
            (read.display(), read.room.as_str(), read.muted, read.gain_db),
            ("Zoë \"Z\"", "den", true, Some(-6.1))
        );
    }

    #[test]
    fn an_expiry_time_is_set_and_removed() {
        let (dir, name) = alice(TEXT);
        let hash = Key::generate().unwrap().hash();
        let edited = Participant::edit(dir.path(), &name, &[Edit::KeySha256(hash), Edit::KeyExpires(None)]).unwrap();
        assert_eq!((edited.participant().key_sha256, edited.participant().key_expires), (hash, None));
        for comment in ["# until the end of the year", "# the end", "# since the concert"] {
            assert!(edited.text.contains(comment), "{}", edited.text);
        }
        let moment: Moment = "2027-01-31T12:00:00Z".parse().unwrap();
        let edited = Participant::edit(dir.path(), &name, &[Edit::KeyExpires(Some(moment))]).unwrap();
        assert_eq!(edited.participant().key_expires, Some(moment));
        assert!(edited.text.contains("\nkey-expires = 2027-01-31T12:00:00Z\n"), "{}", edited.text);
    }

    #[test]
    fn a_file_without_a_key_is_invalid_unless_the_edit_adds_one() {
        let (dir, name) = alice("port = 9001\n");
        let error = Participant::edit(dir.path(), &name, &[Edit::Muted(true)]).unwrap_err().to_string();
        assert!(error.contains("key-sha256 is missing"), "{error}");
        let hash = Key::generate().unwrap().hash();
        assert_eq!(
            Participant::edit(dir.path(), &name, &[Edit::KeySha256(hash)]).unwrap().participant.key_sha256,
            hash
        );
    }

    #[test]
    fn edits_that_make_the_file_invalid_are_refused_and_errors_name_the_line() {
        let (dir, name) = alice(TEXT);
        for bad in [Edit::DisplayName("a\tb".into()), Edit::GainDb(21.0), Edit::GainDb(f32::NAN)] {
            assert!(Participant::edit(dir.path(), &name, std::slice::from_ref(&bad)).is_err(), "{bad:?}");
        }
        let (dir, name) = alice("port = 9001\nprot = 1\n");
        let error = Participant::edit(dir.path(), &name, &[Edit::Muted(true)]).unwrap_err();
        assert_eq!(error.line(), Some(2), "{error}");
        assert!(Participant::edit(dir.path(), &"zoe".parse().unwrap(), &[]).unwrap_err().is_missing());
    }

    proptest::proptest! {
        #[test]
        fn any_display_name_is_written_and_read(display in "\\PC{1,64}") {
            proptest::prop_assume!(palabre_room::display_name_is_valid(&display));
            let (dir, name) = alice(TEXT);
            let edited = Participant::edit(dir.path(), &name, &[Edit::DisplayName(display.clone())]).unwrap();
            proptest::prop_assert_eq!(edited.participant().display(), display);
            proptest::prop_assert!(tests::is_toml(&edited.text));
        }
    }
}
